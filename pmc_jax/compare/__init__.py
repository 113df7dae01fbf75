"""`pmc compare`: unlearning methods side by side under equal wall-clock time.

`runs` lists the runs of a comparison, `collect` reads their results into one dictionary, which
becomes `compare.json`, `narrative` states its numbers in tables and sentences, `plots` draws them,
and `page` renders `compare.html`. No module here runs a model or imports jax.
"""
