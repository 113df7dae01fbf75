"""Traces for XProf and TensorBoard."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def traced(folder: Path | None) -> Iterator[None]:
    """Inside, jax writes down what host and devices do; every process for itself, into
    `folder/plugins/profile`. None = nothing is written.
    """
    if folder is None:
        yield
        return
    import jax

    with jax.profiler.trace(folder):
        yield
