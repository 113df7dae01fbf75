"""Writes `report.html` and `report.json` of finished runs, for people who decide about a model.

`collect` reads the folders of finished runs into one dictionary, the contents of `report.json`.
`verdict` states which questions are forgotten, `narrative` states the other numbers in sentences,
`remains` lists what is left to do and to know, `plots` and `distributions` draw figures, and `page`
renders `report.html`. `model_card` writes the card of an exported model. No module of this folder
computes a measure, loads a model or imports jax.
"""
