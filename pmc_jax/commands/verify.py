"""Compares the files of a finished run with its manifest.

The exit status is 1 if a file, a link or another entry is changed, missing or
new. After a purge, the source model and files with the data may be missing.
The command detects accidental changes. A person who can change the files can
also change the manifest. To detect this, keep the printed digest of the
manifest elsewhere and compare it with the digest that is printed later.
"""

import argparse
from collections.abc import Callable

READS = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT_FOLDER", help="output.dir of the run")


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from pmc_jax.artifacts import manifest

    good, faults, deleted = manifest.verify(options.folder)
    for line in faults:
        say(line)
    for line in deleted:
        say(f"{line}, as expected after --purge")
    for line in manifest.notes(options.folder):
        say(line)
    line = f"{good} files match the manifest"
    if faults:
        line += (
            f", and {len(faults)} differ{'s' * (len(faults) == 1)}. Restore the changed and "
            "missing files from a copy and remove the new files, or repeat the run."
        )
    say(line)
    return int(bool(faults))
