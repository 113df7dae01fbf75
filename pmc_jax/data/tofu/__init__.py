"""TOFU (Task of Fictitious Unlearning, arXiv 2401.06121, MIT) as a tensorflow-datasets builder.

`configs` names the official files and finds them in a folder; `tofu` has the builder `Tofu` and
`prepare`, and is the only module here that imports tensorflow-datasets.
"""
