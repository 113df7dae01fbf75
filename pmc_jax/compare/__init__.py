"""Collects and shows the results of `pmc compare`, which runs all methods for the same time.

`runs` lists the runs of a comparison. `collect` reads their results into one dictionary, which
becomes `compare.json`. `narrative` states the numbers in tables and sentences, `plots` draws them,
and `page` renders `compare.html`. No module in this folder runs a model or imports jax.
"""
