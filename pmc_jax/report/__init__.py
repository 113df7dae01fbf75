"""What was removed, what it cost and what an attacker still gets: a page for people who decide.

`collect` reads the folder of a finished run into one dictionary, which is `report.json`;
`narrative` says its numbers in sentences; `plots` and `distributions` draw them; `page` puts all
into `report.html`. Nothing here computes a measure, loads a model or imports jax.
"""
