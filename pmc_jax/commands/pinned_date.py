"""Keeps the date in prompts constant for a run folder if the chat template inserts today's date."""

import dataclasses
import itertools
import json
import logging
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_files
from pmc_jax.config import reading
from pmc_jax.config.run import Config
from pmc_jax.data.encode import Encoder, check_chat
from pmc_jax.data.today import CALL, today
from pmc_jax.distributed import multihost
from pmc_jax.models.load import find, find_tokenizer
from pmc_jax.models.remote import is_address

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
# A template may insert the date only into some prompts, such as long ones.
_PROBES = ("?", f"What is today's date, and who lives at 12 Main Street{' now' * 50}?")
_MAX_HEADER = 1 << 26  # Only this many bytes are searched; they hold the metadata of a GGUF file.

_log = logging.getLogger(__name__)


def pin_date(config: Config, folder: str | Path | None, *, overwrite: bool = False) -> Config:
    """Returns settings in which `model.date` is set if the chat template inserts today's date.

    If `model.date` is not yet set, the date is the date that the run or the target model in the
    folder recorded, or else today's date, and a warning states the date.

    Args:
        config: settings of a run.
        folder: output folder of a run or a comparison, or None.
        overwrite: whether the command replaces the run in the folder, whose date is then ignored.
    """
    if config.model.date is not None or not _prints_today(config):
        return config
    found = multihost.broadcast(lambda: _recorded(folder, overwrite) or [today(), None])
    date, file = found
    origin = f"as recorded in {file}" if file else "today's date"
    _log.warning(
        "model.path: the chat template inserts today's date. This run uses the date %s (%s) in "
        "every prompt. Set model.date (run.model.date in a comparison) to use another date.",
        *(date, origin),
    )
    return with_date(config, date)


def with_date(config: Config, date: str) -> Config:
    """Returns a copy of the settings with the given `model.date`."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, date=date))


def _prints_today(config: Config) -> bool:
    """Returns whether the chat template inserts today's date."""
    settings = config.model
    if not settings.path or settings.format == "tags":
        return False
    path = find(settings.path)
    if not _may_call(path):
        return False
    tokenizer = find_tokenizer(path)
    if not tokenizer.chat_template:
        return False
    check_chat(tokenizer, settings)

    def prompts(date: str) -> list[list[int]]:
        encoder = Encoder(tokenizer, dataclasses.replace(settings, date=date), 0, ())
        return [encoder.prompt(question) for question in _PROBES]

    return prompts("2001-02-03") != prompts("2014-11-28")


def _may_call(path: Path) -> bool:
    """Returns whether the files of a model may contain the name of the date function.

    The result is True for a remote address, whose files are not read here.
    """
    if is_address(path):
        return True
    files = [path] if path.is_file() else [path / name for name in _TEMPLATE_FILES]
    for file in filter(Path.is_file, files):
        with file.open("rb") as opened:
            if CALL.encode() in opened.read(_MAX_HEADER):
                return True
    return False


def _recorded(folder: str | Path | None, overwrite: bool) -> list[str] | None:
    """Returns the date that a run or the target in a folder recorded, and its file, or None."""
    if folder is None:
        return None
    path = Path(folder)
    runs = (
        []
        if overwrite
        else [
            path / run_files.RUN,
            *sorted(path.glob(f"{run_files.COMPARED_RUNS}/*/{run_files.RUN}")),
        ]
    )
    targets = [path / run_files.TARGET / run_files.TARGET_MARK]
    for file, keys in itertools.chain(
        ((run, ("settings", "model", "date")) for run in runs),
        ((target, ("date",)) for target in targets),
    ):
        if date := _entry(file, keys):
            return [date, str(file)]
    return None


def _entry(file: Path, keys: tuple[str, ...]) -> Any:
    """Returns an entry of a JSON file, or None if the file or the entry does not exist."""
    try:
        value = json.loads(reading.read_text(file))
        for key in keys:
            value = value[key]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return value
