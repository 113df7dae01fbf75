"""Methods of unlearning beside each other, under equal wall-clock: `pmc compare`.

`runs` says which runs a comparison is made of, `collect` reads what they left into one dictionary,
which is `compare.json`, `narrative` says its numbers in tables and sentences, `plots` draws them,
and `page` puts all into `compare.html`. Nothing here runs a model or imports jax.
"""
