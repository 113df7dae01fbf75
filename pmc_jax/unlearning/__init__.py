"""Partial model collapse: the algorithm (`pmc`), its scores, its memory (`store`) and its training.

Nothing in this package imports `EvalSet` or `FinetuneSet`: true forget answers cannot get in.
"""
