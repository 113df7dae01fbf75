"""`pmc export`: the newest checkpoint as a Hugging Face folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.commands.inputs import placed
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel, load
from pmc_jax.sampling.generator import TextGenerator


def run_export(config: Config, *, overwrite: bool, say: Callable[[str], None]) -> Path:
    """`pmc export`: the newest checkpoint of `output.dir`, or `model.path` itself where there is
    none.
    """
    folder = Path(output_dir(config))
    target = folder / run_folder.MODEL
    if multihost.broadcast_from_first(target.exists) and not overwrite:
        raise UserError(f"{target}: exists; move it away or pass --overwrite")
    made = folder / run_folder.TARGET
    has_target = bool(config.finetune.data) and multihost.broadcast_from_first(made.exists)
    base = str(made) if has_target else model_path(config)
    lm = load(base, **placed(config))
    with run_folder.locked(folder, make=True):
        if multihost.broadcast_from_first((folder / run_folder.CHECKPOINTS).is_dir):
            lm = dataclasses.replace(lm, model=_newest(config, lm, folder / run_folder.CHECKPOINTS))
            say(f"exporting the newest checkpoint of {folder}")
        else:
            say(f"no checkpoints in {folder}: exporting {base} as it is")
        export_hf(lm, target, replace=overwrite)
    say(f"wrote {target}")
    return target


def _newest(config: Config, lm: LanguageModel, folder: Path) -> Decoder:
    from pmc_jax.training.trainer import Trainer

    dtype = TextGenerator.of(lm, config.model).dtype
    trainer = Trainer(lm.model, lm.config, lm.layout, config.train, 1, dtype, donate=True)
    with Checkpoints(folder, keep=config.output.keep) as checkpoints:
        found = checkpoints.restore_latest(trainer.abstract())
    if found is None:
        raise UserError(f"{folder}: holds no checkpoint; run pmc unlearn first")
    trainer.restore(found[1])
    return trainer.release()
