"""TOFU (Task of Fictitious Unlearning, arXiv 2401.06121, MIT) as a tensorflow-datasets builder.

`configs` names the official files and finds them in a folder. `tofu` defines the builder `Tofu` and
the function `prepare`. Only `tofu` imports tensorflow-datasets.
"""
