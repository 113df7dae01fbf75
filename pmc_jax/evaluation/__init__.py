"""Measures of a model: what it still reveals about the forget set, and what it still knows.

Tasks compute rows on a model, measures summarise rows, and the harness runs both. Apart from the
readers of data, only this package and the commands see true forget answers (`EvalSet`).
"""
