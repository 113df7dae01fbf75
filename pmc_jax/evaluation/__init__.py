"""Measures of a model: what it still reveals about the forget set, and what it still can do.

Tasks ask a model for rows, measures are computed from rows, the harness runs both. Beside the
readers of data, only this package and the commands see true forget answers (`EvalSet`).
"""
