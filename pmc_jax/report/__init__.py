"""Writes `report.html` and `report.json` of finished runs, for people who decide about a model.

`collect` reads the folders of finished runs into one dictionary, the contents of `report.json`.
`narrative` states the numbers in sentences, `remains` lists what is left to do and to know, `plots`
and `distributions` draw figures, and `page` renders `report.html`. No module of this folder
computes a measure, loads a model or imports jax.
"""
