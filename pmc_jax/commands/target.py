"""Makes the target model or the reference model of a run once and then reuses it.

pmc never changes a folder `target` or `reference` without `target.json`, because pmc has not made
that folder.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pmc_jax.artifacts import run_files, run_folder
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.digests import data_digest, settings_digest
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.fits import check_training
from pmc_jax.commands.inputs import load_model, model_digest
from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.data.records import FinetuneSet
from pmc_jax.data.sets import finetune_rows
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.finetune import finetune


@dataclasses.dataclass(frozen=True)
class Target:
    """Target model or reference model, which may or may not exist yet.

    Attributes:
        folder: `output.dir/target` or `output.dir/reference`.
        rows: question-answer pairs on which the model is fine-tuned.
        made_of: result of the function `made_of`, which identifies the model.
    """

    folder: Path
    rows: FinetuneSet
    made_of: dict[str, str]

    @staticmethod
    def of(config: Config, rows: FinetuneSet) -> "Target":
        """Returns the target that the settings and the rows define."""
        digests = made_of(config, model_digest(model_path(config)), data_digest(rows))
        return Target(Path(output_dir(config)) / run_files.TARGET, rows, digests)

    def reference(self, rows: FinetuneSet) -> "Target":
        """Returns the model that differs from this one only in the rows, which are retain rows."""
        digests = self.made_of | {"data": data_digest(rows)}
        return Target(self.folder.with_name(run_files.REFERENCE), rows, digests)

    @property
    def _checkpoints(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.checkpoints")

    def line(self, made: bool, name: str | None = None) -> str:
        """Formats the console line about the model.

        Args:
            made: whether the model existed already and was reused.
            name: name of the model in the line; None selects the name of its folder.
        """
        name = name or self.folder.name
        how = " (reused, because settings and data are the same)" if made else ""
        return f"{name} model: {self.folder}{how}"

    def is_made(self, *, overwrite: bool, tidy: bool = True) -> bool:
        """Returns whether the folder holds this model. If not, `make` may write to the folder.

        Args:
            overwrite: whether `make` may replace another target.
            tidy: whether to remove the checkpoints of a finished target, which a command that was
                interrupted after the export has left.

        Raises:
            UserError: the folder holds another model and `overwrite` is false, or pmc did not make
                the folder.
        """
        made = multihost.broadcast(lambda: self._is_made(overwrite))
        if made and tidy and multihost.is_first():
            shutil.rmtree(self._checkpoints, ignore_errors=True)
        return made

    def _is_made(self, overwrite: bool) -> bool:
        if not self.folder.exists():
            return False
        mark = self.folder / run_files.TARGET_MARK
        if not mark.is_file():
            raise UserError(
                f"{self.folder}: the folder has no {mark.name}, so the folder may be your own. "
                "Move the folder, or set output.dir to another folder."
            )
        try:
            made_of = json.loads(mark.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            made_of = None
        if made_of == self.made_of:
            return True
        if not overwrite:
            raise UserError(
                f"{self.folder}: the folder holds a {self.folder.name} model with other settings "
                "or data. Set output.dir to another folder, or pass --overwrite to replace the "
                "model."
            )
        return False

    def make(self, lm: LanguageModel, config: Config, recorder: Recorder) -> LanguageModel:
        """Fine-tunes `lm` and writes it to the folder. An older model there is replaced.

        The buffers of `lm` are donated. Interrupted training resumes from its checkpoint.

        Raises:
            UserError: rows are too long, training diverges, or the folder cannot be written.
            Stopped: the process was asked to stop; the same call resumes.
        """
        # Each digest has its own folder, so training never resumes from another model.
        name = settings_digest(self.made_of)[:16]
        generator = TextGenerator.of(lm, config.model)
        with Checkpoints(self._checkpoints / name, keep=1) as checkpoints:
            model = finetune(
                generator,
                self.rows,
                config.finetune,
                config.data,
                seed=config.seed,
                recorder=recorder,
                checkpoints=checkpoints,
                donate=True,
            )
        lm = generator.trained(model)
        export_hf(lm, self.folder, replace=True, marks={run_files.TARGET_MARK: self.made_of})
        if multihost.is_first():
            shutil.rmtree(self._checkpoints)
        # Adapters that are trained on the target name it as their base.
        return dataclasses.replace(lm, source=str(self.folder.absolute()))


def made_of(config: Config, model: str, rows: str) -> dict[str, str]:
    """Returns the digests that define a target, and the date in its prompts if there is one.

    Args:
        model: digest of the base model.
        rows: digest of the rows on which the base model is fine-tuned.
    """
    settings = dataclasses.asdict(config.model) | {"path": None}
    del settings["cache_dtype"]  # only sampling reads it
    settings = {
        "finetune": dataclasses.asdict(config.finetune) | {"data": None},
        "model": settings,
        "long_rows": [config.data.max_length, config.data.long_rows],
        "seed": config.seed,
    }
    date = {} if config.model.date is None else {"date": config.model.date}
    return {"model": model, "data": rows, "settings": settings_digest(settings)} | date


def make_target(
    config: Config, *, overwrite: bool, say: Callable[[str], None], name: str = "target"
) -> None:
    """Makes the target model in `output.dir/target` unless the target model exists already.

    Args:
        name: name of the model in the console line.

    Raises:
        UserError: the folder holds another target and `overwrite` is false, rows are invalid or too
            long, training does not fit the memory or diverges, or the folder cannot be written.
        Stopped: the process was asked to stop; the same call resumes.
    """
    rows = finetune_rows(config)
    config = pin_date(config, output_dir(config))
    target = Target.of(config, rows)
    made = target.is_made(overwrite=overwrite)
    if not made:
        lm, recorder = load_model(config, model_path(config), config.finetune), Recorder()
        generator, settings = TextGenerator.of(lm, config.model), config.finetune
        check_training("finetune", settings, generator, len(rows), settings.epochs)
        with run_folder.locked(output_dir(config), make=True), recorder.watch.compiling_apart():
            target.make(lm, config, recorder)
    say(target.line(made, name))
