"""Writes the newest checkpoint of output.dir to output.dir/model in Hugging Face format.

If output.dir has no checkpoints, the command converts the model in model.path.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from pmc_jax.commands import start
from pmc_jax.config.run import model_path, output_dir
from pmc_jax.errors import UserError

READS = "model finetune.data train mesh output.dir output.keep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, overwrite=start.OVERWRITE, processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.artifacts import run_folder
    from pmc_jax.artifacts.checkpoint import Checkpoints
    from pmc_jax.commands.inputs import placed
    from pmc_jax.distributed import multihost
    from pmc_jax.models.export import export_hf
    from pmc_jax.models.load import load
    from pmc_jax.sampling.generator import TextGenerator
    from pmc_jax.training.trainer import Trainer

    folder = Path(output_dir(config))
    model, checkpoints_folder = folder / run_folder.MODEL, folder / run_folder.CHECKPOINTS
    if multihost.broadcast(model.exists) and not options.overwrite:
        raise UserError(
            f"{model}: the folder exists already. Move the folder, or pass --overwrite to "
            "replace the files in it."
        )
    target = folder / run_folder.TARGET
    has_target = bool(config.finetune.data) and multihost.broadcast(target.exists)
    base = str(target) if has_target else model_path(config)
    lm = load(base, **placed(config))
    with run_folder.locked(folder, make=True):
        if multihost.broadcast(checkpoints_folder.is_dir):
            dtype = TextGenerator.of(lm, config.model).dtype
            trainer = Trainer(lm.model, lm.config, lm.layout, config.train, 1, dtype, donate=True)
            with Checkpoints(checkpoints_folder, keep=config.output.keep) as checkpoints:
                checkpoint = checkpoints.restore_latest(trainer.abstract_state())
            if checkpoint is None:
                raise UserError(
                    f"{checkpoints_folder}: the folder holds no checkpoint. Run pmc unlearn first."
                )
            trainer.load_state_dict(checkpoint[1])
            lm = dataclasses.replace(lm, model=trainer.release())
            del trainer, checkpoint  # frees the rest of the state
            say(f"{folder}: pmc exports the newest checkpoint")
        else:
            say(f"{folder}: the folder has no checkpoints, so pmc exports the model {base}")
        export_hf(lm, model, replace=options.overwrite)
    say(f"wrote {model}")
