"""The target model of an experiment: fine-tuned once, kept and reused."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pmc_jax import output
from pmc_jax.answers import Speaker
from pmc_jax.config import Config, to_dict
from pmc_jax.data.records import FinetuneSet
from pmc_jax.errors import UserError
from pmc_jax.finetune import finetune
from pmc_jax.inputs import mesh, model_path, output_dir
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel, find, load
from pmc_jax.unlearning.loop import Recorder

# Says which model, settings and data a target was made from.
TARGET_MARK = "target.json"


def target_model(
    config: Config,
    rows: FinetuneSet,
    recorder: Recorder,
    *,
    overwrite: bool,
    say: Callable[[str], None],
) -> LanguageModel:
    """The fine-tuned model: from `output.dir/target` if it was made of the same, else made now."""
    folder = Path(output_dir(config)) / output.TARGET
    mark = folder / TARGET_MARK
    made_of = {
        "model": output.file_digest(find(model_path(config))),
        "data": output.data_digest(rows),
        "settings": output.settings_digest(
            {
                "finetune": to_dict(config.finetune) | {"data": None},
                "model": to_dict(config.model) | {"path": None},
                "long_rows": [config.data.max_length, config.data.long_rows],
                "seed": config.seed,
            }
        ),
    }
    if folder.exists():
        if mark.is_file() and json.loads(mark.read_text()) == made_of:
            say(f"target model: {folder} (made before of the same settings and data)")
            return load(folder, mesh=mesh(config))
        if not overwrite:
            raise UserError(
                f"{folder}: holds a target of other settings or data; name another output.dir, or "
                "pass --overwrite to replace it"
            )
    lm = load(model_path(config), mesh=mesh(config))
    model = finetune(
        Speaker.of(lm, config.model),
        rows,
        config.finetune,
        config.data,
        seed=config.seed,
        recorder=recorder,
        donate=True,
    )
    lm = dataclasses.replace(lm, model=model)
    if mark.is_file():
        shutil.rmtree(folder)
    export_hf(lm, folder)
    output.write_json(mark, made_of)
    say(f"target model: {folder}")
    return lm
