"""Uploads the model of a finished run to a repository on the Hugging Face Hub.

The command uploads the weights, the configuration and the tokenizer in OUTPUT_FOLDER/model, its
model card and its licences, and no other file: no checkpoint, log or target model. It refuses a run
that is not finished or that has not forgotten every question at every measured level. A new
repository is private unless --public is given.

A repository that holds earlier commits is refused, because its history would still hold the earlier
weights. --squash-history removes this history after the upload.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from pmc_jax.commands import start

READS = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT_FOLDER", help="output.dir of the run")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository on the Hub")
    parser.add_argument("--public", action="store_true", help="make a repository for everyone")
    parser.add_argument(
        "--squash-history",
        action="store_true",
        help="replace the files of an existing repository and remove its history",
    )
    parser.add_argument(
        "--allow-not-forgotten",
        action="store_true",
        help="also upload a model that still tells the secret of a question",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    start.quiet_libraries()
    from pmc_jax.commands.push_job import run_push

    run_push(
        Path(options.folder),
        options.repository,
        public=options.public,
        squash_history=options.squash_history,
        allow_not_forgotten=options.allow_not_forgotten,
        say=say,
    )
