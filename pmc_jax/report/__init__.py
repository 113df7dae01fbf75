"""`report.html` and `report.json` of finished runs: a page for people who decide about a model.

`collect` reads the folders of finished runs into one dictionary, the content of `report.json`.
`narrative` states its numbers in sentences, `plots` and `distributions` draw them, and `page`
renders `report.html`. No module here computes a measure, loads a model or imports jax.
"""
