"""`pmc verify`: the files of a finished run against its manifest."""

from collections.abc import Callable

from pmc_jax.artifacts import manifest


def run_verify(folder: str, *, say: Callable[[str], None]) -> bool:
    """`pmc verify`: whether all files of a finished run are as its manifest says."""
    good, faults = manifest.verify(folder)
    for line in faults:
        say(line)
    say(f"{good} files as recorded" + (f", {len(faults)} not" if faults else ""))
    return not faults
