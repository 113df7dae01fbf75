"""Methods of unlearning beside each other, under equal wall-clock: `pmc compare`.

`cells` says which runs a comparison is made of, `run` runs those that are not finished, `collect`
reads what they left into one dictionary, which is `compare.json`; `words` says its numbers in
tables and sentences, `drawings` draws them, `page` puts all into `compare.html`. Only `run` knows
jax.
"""
