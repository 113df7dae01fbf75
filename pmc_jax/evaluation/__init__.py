"""Measures of a model: what it still tells about the forget set, and what it still can do.

Only modules of this package see true forget answers (`EvalSet`); `rouge` sees strings only and is
shared with the unlearning scores.
"""
