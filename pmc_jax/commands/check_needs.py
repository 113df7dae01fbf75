"""Describes the memory, the disk space and the time that a run needs, for `pmc check`."""

import dataclasses
import math
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax

from pmc_jax.artifacts.log import table
from pmc_jax.commands.build import trains_on_own_answers
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config, output_dir
from pmc_jax.distributed.memory import free_on_device, free_on_host
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning.run_memory import TrainingBytes
from pmc_jax.planning.run_time import Counts, Timings, run_time, sampled_questions, total
from pmc_jax.report.narrative import duration
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import pmc_sampler
from pmc_jax.training.losses import Objective
from pmc_jax.training.order import total_steps


def counts_of(config: Config, inputs: RunInputs, finetunes: bool) -> Counts:
    """Counts the steps, rounds and questions of a run.

    Args:
        finetunes: whether the run makes a target model, and then also a reference model if the
            settings say so.
    """
    schedule, forget = config.pmc.schedule, len(inputs.forget)
    rows = config.train.step_rows
    steps, finetune_steps = total_steps(forget, rows, schedule.epochs), 0
    if finetunes:
        settings = config.finetune
        each = settings.step_rows
        finetune_steps = total_steps(len(inputs.target_rows), each, settings.epochs)
        if inputs.reference_rows is not None:
            finetune_steps += total_steps(len(inputs.reference_rows), each, settings.epochs)
    return Counts(
        finetune_steps,
        steps,
        rounds=-(-steps // schedule.steps_per_round),
        forget=forget,
        round_questions=min(forget, rows * schedule.steps_per_round),
        evaluated=sum(map(len, inputs.eval_sets)) + len(inputs.heldout),
        own=len(inputs.own) if inputs.own else 0,
    )


def memory_text(
    config: Config, generator: TextGenerator, inputs: RunInputs, finetunes: bool
) -> str:
    """Returns the memory that the run needs at least, on all devices together."""
    model, dtype, pmc = generator.lm.config, generator.dtype, config.pmc
    snapshot = num_parameters(model) * dtype.itemsize
    unlearning = TrainingBytes.of(model, config.train, dtype)
    method = config.method.with_retain_loss(own=inputs.own is not None)
    how = Objective.of(method, lambda_retain=1.0, layers=model.num_layers, seed=0)
    if how.needs_reference and not config.train.lora.rank:  # a copy of the model before unlearning
        unlearning = dataclasses.replace(unlearning, weights=unlearning.weights + snapshot)
    states = {"unlearning": unlearning}
    if finetunes:
        states = {"fine-tuning": TrainingBytes.of(model, config.finetune, dtype)} | states
    rows = []
    for name, state in states.items():
        sizes = state.weights, state.optimizer, state.gradients
        rows.append((name, *map(_gb, sizes), None, _gb(sum(sizes))))
    if trains_on_own_answers(config):
        round_rows = config.train.step_rows
        engine = generator.engine(
            generator.prompts(inputs.forget.questions, pmc.sampling.max_new_tokens),
            pmc_sampler(pmc),
            num_samples=pmc.sampling.num_samples,
            max_new_tokens=pmc.sampling.max_new_tokens,
            batch_size=pmc.sampling.batch_size,
            max_prompts=round_rows * pmc.schedule.steps_per_round,
        )
        state = states["unlearning"]
        answers = engine.device_bytes(generator.cache_dtype or dtype)
        kept = state.weights + snapshot, state.optimizer
        rows.append(("sampling", *map(_gb, kept), None, _gb(answers), _gb(sum(kept) + answers)))
    headers = ("memory in GB", "weights", "optimizer", "gradients", "answers", "at least")
    free = min(map(free_on_device, generator.layout.mesh.local_devices))
    free, where = (free_on_host(), "this machine") if free == math.inf else (free, "each device")
    return f"{table(rows, headers)}\n  Activations come on top. {_gb(free)} GB are free on {where}."


def used_text(devices: Sequence[jax.Device]) -> str:
    """Returns the most memory that this process has used so far."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = "" if None in peaks else f", and {_gb(max(peaks))} GB on a device"
    return f"  The timed steps used up to {_gb(host)} GB on this machine{used}."


def disk_text(config: Config, generator: TextGenerator, finetunes: bool) -> str:
    """Returns the disk space that the run needs, and how much is free."""
    model, dtype = generator.lm.config, generator.dtype
    state = TrainingBytes.of(model, config.train, dtype)
    weights = num_parameters(model) * 4  # at most, because an export keeps the dtype of the source
    kept = config.output.keep + 1 + (config.evaluate.keep_best is not None)
    parts = {"checkpoints": kept * state.checkpoint, "model": weights}
    if finetunes:
        target = TrainingBytes.of(model, config.finetune, dtype)
        parts["target model"] = weights
        if config.evaluate.makes_reference:
            parts["reference model"] = weights
        parts["its checkpoint while it is made"] = target.checkpoint
    folder = Path(output_dir(config)).absolute()
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, sum(parts.values())
    named = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
    short = "" if needed < free else " This is too little: free space, or set output.dir."
    return f"disk     up to {_gb(needed)} GB ({named}); {_gb(free)} GB are free.{short}"


def time_text(config: Config, counts: Counts, timings: Timings, load_seconds: float) -> str:
    """Returns the predicted time of the run by part, and what makes it uncertain."""
    parts = run_time(config, counts, timings, load_seconds)
    parts = [part for part in parts if part.high]
    rows = [
        (part.name, duration(part.seconds), f"{duration(part.low)} to {duration(part.high)}")
        for part in [*parts, total(parts)]
    ]
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    lines = [table(rows, (f"time on {device}", "expected", "range")), *_doubts(config, counts)]
    for name, seconds in (("fine-tuning", timings.finetune), ("training", timings.train)):
        if seconds:
            lines.append(f"  {name} steps took {', '.join(f'{s:.2f}' for s in seconds)} s")
    return "\n".join(lines)


def _doubts(config: Config, counts: Counts) -> list[str]:
    """Returns sentences about what the prediction of the time does not know."""
    lines = ["  Other work on this machine while the run lasts makes it slower than this."]
    if trains_on_own_answers(config):
        low, high = sampled_questions(config, counts)
        lines.append(
            f"  Sampling takes the lowest time if all {low:,} questions get a replacement answer "
            f"in the first attempt, and the highest if none ever gets one ({high:,} attempts)."
        )
    if config.evaluate.wanted:
        lines.append(
            f"  The time of evaluate.measures is not included: {', '.join(config.evaluate.wanted)}."
        )
    return lines


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}" if size < 1e11 else f"{size / 1e9:.0f}"
