"""Runs the checks of `pmc unlearn`, collects all faults, and reports what a run would need."""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_files, run_folder
from pmc_jax.commands.check_needs import counts_of, disk_text, memory_text, time_text, used_text
from pmc_jax.commands.check_rows import measures_text, prompts_text, rows_text, schedule_text
from pmc_jax.commands.fits import check_fits, check_measured
from pmc_jax.commands.inputs import (
    RunInputs,
    load_model,
    model_digest,
    other_digests,
    read_inputs,
)
from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.commands.target import Target
from pmc_jax.commands.timed_steps import time_programs
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.errors import Faults, UserError, system_errors
from pmc_jax.models.load import find
from pmc_jax.models.parameters import num_parameters
from pmc_jax.sampling.generator import TextGenerator


def run_check(
    config: Config,
    *,
    overwrite: bool,
    prompts: Path | None,
    timed: bool,
    say: Callable[[str], None],
) -> Sequence[str]:
    """Checks a run as `run_unlearn` does, and writes nothing but the prompts.

    Args:
        config: settings of the run.
        overwrite: whether the run would replace an earlier run in the output folder.
        prompts: file for the first prompts, which must not exist; None writes no prompts.
        timed: whether to time the programs of the run.
        say: function that prints a text.

    Returns:
        A message for each fault. The run would start if there is none.
    """
    faults = Faults()
    attempt = faults.attempt
    path = attempt(output_dir, config)
    inputs = read_inputs(config, attempt=attempt)
    attempt(other_digests, config, must_exist=True)
    if config.evaluate.computes_measures and None not in inputs.eval_sets:
        attempt(check_measured, config, inputs.eval_sets)
    if prompts is not None:
        attempt(_check_new, prompts)
    name = attempt(model_path, config)
    found = None if name is None else attempt(find, name)
    if found is None or path is None:
        return faults.messages
    config = attempt(pin_date, config, path, overwrite=overwrite) or config
    state, made = attempt(_folder_state, config, inputs, overwrite) or ("", False)
    target = Path(path) / run_files.TARGET
    trained = config.train if made or not config.finetune.data else config.finetune
    begin = time.perf_counter()
    lm = attempt(load_model, config, target if made else name, trained)
    load_seconds = time.perf_counter() - begin
    generator = None if lm is None else attempt(TextGenerator.of, lm, config.model)
    if generator is None or not _is_whole(config, inputs):
        return faults.messages
    check_fits(config, generator, inputs, attempt=attempt)
    finetunes = bool(config.finetune.data) and not made
    say(_model_text(config, generator, target if made else name))
    say(rows_text(config, generator, inputs))
    say(measures_text(config, inputs))
    counts = counts_of(config, inputs, finetunes)
    say(schedule_text(config, counts))
    if prompts is not None and not faults.messages:
        text = prompts_text(config, generator, inputs)
        if attempt(_write_new, prompts, text):
            say(f"pmc wrote the first prompts to {prompts}. Delete the file after reading it.")
    if faults.messages:
        return faults.messages
    say(disk_text(config, generator, finetunes))
    say(memory_text(config, generator, inputs, finetunes))
    if timed:
        devices = generator.layout.mesh.local_devices
        timings = attempt(time_programs, config, generator, inputs, finetunes=finetunes)
        if timings is None:
            return faults.messages
        say(used_text(devices))
        say(time_text(config, counts, timings, load_seconds))
    say(f"output   {path}: {state}")
    return faults.messages


def _is_whole(config: Config, inputs: RunInputs) -> bool:
    """Returns whether all rows of a run could be read."""
    needed = [inputs.forget, inputs.retain, inputs.refusals, *inputs.eval_sets]
    needed += [inputs.target_rows] if config.finetune.data else []
    needed += [inputs.reference_rows] if config.evaluate.makes_reference else []
    return None not in needed


def _folder_state(config: Config, inputs: RunInputs, overwrite: bool) -> tuple[str, bool]:
    """Returns what a run would do with its output folder, and whether it would reuse the target.

    The weights are hashed only if the folder exists.

    Raises:
        UserError: the run would be refused because of its output folder.
    """
    path = Path(output_dir(config))
    if not path.is_dir():
        run_folder.check(path, settings={}, digests={})
        _check_writable(path)
        return "new, the run would create this folder", False
    if not _is_whole(config, inputs):
        return "", False
    made = False
    if config.finetune.data and inputs.target_rows is not None:
        target = Target.of(config, inputs.target_rows)
        digest, made = target.made_of["model"], target.is_made(overwrite=overwrite, tidy=False)
        if inputs.reference_rows is not None:
            target.reference(inputs.reference_rows).is_made(overwrite=overwrite, tidy=False)
    else:
        digest = model_digest(model_path(config))
    digests = {"model": digest} | inputs.digests | other_digests(config, must_exist=False)
    how = dict(settings=dataclasses.asdict(config), digests=digests, overwrite=overwrite)
    resumes = run_folder.check(path, **how)
    _check_writable(path)
    reuses = ", and would reuse its target model" if made else ""
    if resumes:
        return f"an unfinished run, which would resume (numbers above: a whole run){reuses}", made
    if overwrite:
        return f"the run would replace the earlier run in this folder{reuses}", made
    return f"no run yet, the run would use this folder{reuses}", made


def _check_writable(path: Path) -> None:
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"output.dir: the folder {folder} cannot be written. Set output.dir to another folder."
        )


def _check_new(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise UserError(f"--prompts: the file {file} exists already. Pass the name of a new file.")
    if not file.absolute().parent.is_dir():
        raise UserError(f"--prompts: the folder of {file} does not exist. Create the folder.")


def _write_new(file: Path, text: str) -> bool:
    """Writes a new file that only its owner may read, and returns True."""
    with system_errors(f"{file}: the file cannot be written", "Pass the name of another file."):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
    return True


def _model_text(config: Config, generator: TextGenerator, path: Any) -> str:
    model = generator.lm.config
    form = "chat template" if generator.encoder.is_chat else "tags"
    return (
        f"model    {path}: {num_parameters(model):,} weights, {model.num_layers} layers, window of "
        f"{model.max_positions:,} tokens, prompts with {form}"
    )
