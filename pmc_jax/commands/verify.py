"""Compares the files of a finished run with its manifest.

The exit status is 1 if a file is changed, missing or new. After a purge, the
source model and files with the data may be missing.
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
        say(f"{line}, which --purge asked you to delete")
    say(f"{good} files match the manifest" + (f", and {len(faults)} do not" if faults else ""))
    return int(bool(faults))
