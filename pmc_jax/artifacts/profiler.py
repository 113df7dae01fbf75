"""Traces for XProf and TensorBoard."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def traced(folder: Path | None) -> Iterator[None]:
    """Inside, every process traces its host and devices into `folder/plugins/profile`; None = no
    trace.
    """
    if folder is None:
        yield
        return
    import jax

    with jax.profiler.trace(folder):
        yield
