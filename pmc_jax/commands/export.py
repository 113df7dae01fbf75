"""Writes the unlearned weights of a finished run to OUTPUT_FOLDER/model in Hugging Face format.

With --partial, pmc writes the newest checkpoint of a finished or unfinished run to
OUTPUT_FOLDER/model-step-N instead.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from pmc_jax.commands import start

READS = "model.path mesh output.dir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(
        parser,
        config="CONFIG.yaml|OUTPUT_FOLDER",
        processes=True,
        overwrite="replace an existing model folder",
        partial="write the newest checkpoint to model-step-N, even if the run is not finished",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    folder = Path(options.config)
    if folder.is_dir():
        start.set_up_libraries()
        from pmc_jax.commands.recorded import recorded_config

        config = recorded_config(folder, [*options.overrides, f"output.dir={folder}"])
    else:
        config = start.read_config(options)
    from pmc_jax.commands.export_job import run_export

    run_export(config, overwrite=options.overwrite, partial=options.partial, say=say)
