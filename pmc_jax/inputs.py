"""What the commands need of the settings; a missing one is named with the way to give it."""

from collections.abc import Sequence

from jax.sharding import Mesh

from pmc_jax.answers import Speaker
from pmc_jax.config import Config, SourceConfig
from pmc_jax.data import sources
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetSet, RetainSet
from pmc_jax.errors import UserError
from pmc_jax.mesh import make_mesh
from pmc_jax.models.attention import check_kernel
from pmc_jax.unlearning.scores import resolve_score


def finetune_rows(config: Config) -> FinetuneSet:
    if not config.finetune.data:
        raise UserError("finetune.data: not given; name the rows that the target model is to know")
    return sources.finetune_set(config.finetune.data, config.data)


def eval_sets(config: Config) -> list[EvalSet]:
    return [
        sources.eval_set(name, needed(source, f"data.evaluate.{name}"), config.data)
        for name, source in config.data.evaluate.items()
    ]


def needed(source: SourceConfig, where: str) -> SourceConfig:
    if source.path is None:
        raise UserError(f"{where}.path: not given; name a file, tfds:NAME/CONFIG or people:SPLIT")
    return source


def model_path(config: Config) -> str:
    if not config.model.path:
        raise UserError("model.path: not given; name a model folder, a *.gguf file or a hub name")
    return config.model.path


def output_dir(config: Config) -> str:
    if not config.output.dir:
        raise UserError("output.dir: not given; name the folder for the results")
    return config.output.dir


def mesh(config: Config) -> Mesh:
    return make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)


def check_fits(
    config: Config,
    speaker: Speaker,
    forget: ForgetSet,
    pairs: Sequence[RetainSet | FinetuneSet],
    sets: Sequence[EvalSet],
) -> None:
    """Checks what can only be checked with the model at hand, before anything is written.

    Raises:
        UserError: no such score, attention that cannot run here, or a question or a row that is
            too long.
    """
    resolve_score(config.pmc.score)
    for settings in (config.train, *([config.finetune] if config.finetune.data else [])):
        check_kernel(settings.attention, speaker.lm.config, speaker.dtype, speaker.layout.platform)
    speaker.prompts(forget.questions, config.pmc.max_new_tokens, ids=forget.ids)
    for split in sets:
        speaker.prompts(split.questions, config.evaluate.max_new_tokens, ids=split.ids)
    for rows in pairs if config.data.long_rows == "error" else ():
        speaker.sequences(rows.questions, rows.answers, config.data, ids=rows.ids)
