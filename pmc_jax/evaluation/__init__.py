"""Measures what a model still reveals about the forget questions and what it still knows.

Tasks compute rows on a model, measures summarise the rows, and the harness runs both. Only the data
readers, this package, `api` and the commands import `EvalSet`, which holds the true answers.
"""
