"""Writes the report of a finished run again, or one report of several runs."""

import argparse
from collections.abc import Callable

from pmc_jax.config.run import config_from_overrides

READS = "report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "arguments",
        nargs="+",
        metavar="OUTPUT_FOLDER|report.key=value",
        help="output folders of finished runs, and settings of the report",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    from pmc_jax.report.write import write

    overrides = [text for text in options.arguments if text.startswith("report.") and "=" in text]
    folders = [text for text in options.arguments if text not in overrides]
    say(f"pmc wrote {write(folders, config_from_overrides(overrides).report)}")
