"""Reads the first argument of `pmc sample` and `pmc chat`, which names settings, a run or a model.

The module does not import jax at its top level, so that errors in the settings appear without
delay.
"""

import argparse
import dataclasses
from pathlib import Path

from pmc_jax.commands import start
from pmc_jax.config.run import Config, config_from_overrides
from pmc_jax.errors import UserError

NAMES = "CONFIG.yaml|OUTPUT_FOLDER|MODEL"


def read_argument(options: argparse.Namespace) -> tuple[Config, Path | None]:
    """Reads the settings of a command and configures the libraries.

    The argument is a model if it is a folder with `config.json`, a name that ends in `.gguf` or
    `package:NAME`. The settings are then the defaults with the overrides. Any other folder is the
    output folder of a run, whose recorded settings are used.

    Returns:
        The settings, and the output folder of the run or None. `model.path` is the model that the
        argument names, the unlearned model of the run, or the setting of the file. `model.date` is
        set if the chat template inserts the date.

    Raises:
        UserError: the settings are invalid, the folder holds no finished run or no unlearned model,
            or an override sets `model.path` although the argument names a model or a run.
    """
    name, folder = options.config, Path(options.config)
    is_model = folder.suffix == ".gguf" or name.startswith("package:")
    is_model = is_model or (folder / "config.json").is_file()
    is_run = folder.is_dir() and not is_model
    if not is_model and not is_run:
        config = start.read_config(options)
    elif any(text.startswith("model.path=") for text in options.overrides):
        raise UserError(
            f"model.path: {name} already names the model. Remove model.path, or pass a settings "
            f"file in place of {name}."
        )
    elif is_model:
        config = _with_model(config_from_overrides(options.overrides), name)
        start.set_up_libraries()
    else:
        start.set_up_libraries()
        from pmc_jax.commands.recorded import finished_config, unlearned_model

        config = finished_config(folder, options.overrides)
        config = _with_model(config, str(unlearned_model(folder)))
    from pmc_jax.commands.pinned_date import pin_date

    return pin_date(config, folder if is_run else config.output.dir), folder if is_run else None


def _with_model(config: Config, path: str) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=path))
