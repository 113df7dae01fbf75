"""Writes the newest checkpoint of output.dir as a Hugging Face folder, output.dir/model.

Where output.dir has no checkpoints, converts model.path itself.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pmc_jax.commands import start
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.errors import UserError

if TYPE_CHECKING:
    from pmc_jax.models.decoder import Decoder
    from pmc_jax.models.load import LanguageModel

READS = "model finetune.data train mesh output.dir output.keep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, overwrite=True, processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.artifacts import run_folder
    from pmc_jax.commands.inputs import placed
    from pmc_jax.distributed import multihost
    from pmc_jax.models.export import export_hf
    from pmc_jax.models.load import load

    folder = Path(output_dir(config))
    model = folder / run_folder.MODEL
    if multihost.broadcast(model.exists) and not options.overwrite:
        raise UserError(f"{model}: exists; move it away or pass --overwrite")
    target = folder / run_folder.TARGET
    has_target = bool(config.finetune.data) and multihost.broadcast(target.exists)
    base = str(target) if has_target else model_path(config)
    lm = load(base, **placed(config))
    with run_folder.locked(folder, make=True):
        if multihost.broadcast((folder / run_folder.CHECKPOINTS).is_dir):
            lm = dataclasses.replace(lm, model=_newest(config, lm, folder / run_folder.CHECKPOINTS))
            say(f"exporting the newest checkpoint of {folder}")
        else:
            say(f"no checkpoints in {folder}: exporting {base} as it is")
        export_hf(lm, model, replace=options.overwrite)
    say(f"wrote {model}")


def _newest(config: Config, lm: "LanguageModel", folder: Path) -> "Decoder":
    from pmc_jax.artifacts.checkpoint import Checkpoints
    from pmc_jax.sampling.generator import TextGenerator
    from pmc_jax.training.trainer import Trainer

    dtype = TextGenerator.of(lm, config.model).dtype
    trainer = Trainer(lm.model, lm.config, lm.layout, config.train, 1, dtype, donate=True)
    with Checkpoints(folder, keep=config.output.keep) as checkpoints:
        checkpoint = checkpoints.restore_latest(trainer.abstract_state())
    if checkpoint is None:
        raise UserError(f"{folder}: holds no checkpoint; run pmc unlearn first")
    trainer.load_state_dict(checkpoint[1])
    return trainer.release()
