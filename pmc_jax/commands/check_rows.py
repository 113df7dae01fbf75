"""Describes the rows, the measures and the schedule of a run for `pmc check`.

Only `prompts_text` returns texts of the data. All other functions return counts and ids.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.evaluate import LEVELS
from pmc_jax.config.run import Config
from pmc_jax.data.twins import overlapping, repeated
from pmc_jax.errors import UserError, first_of
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.evaluation.levels import paraphrases_of
from pmc_jax.evaluation.quality import FORGET_SPLITS, UTILITY_SPLITS
from pmc_jax.evaluation.registry import MEASURES
from pmc_jax.planning.run_time import Counts
from pmc_jax.sampling.generator import TextGenerator

_SHOWN = 3  # number of prompts of each set in the file of --prompts
_IDS = 5  # number of ids in a line


def _sets(inputs: RunInputs) -> dict[str, Any]:
    """Returns each set of rows by its setting."""
    given = None if inputs.own and not len(inputs.retain) else inputs.retain
    named = {"data.forget": inputs.forget, "data.retain": given, "data.retain (own)": inputs.own}
    named |= {"data.forget_answers": inputs.forget_answers, "finetune.data": inputs.target_rows}
    named |= {f"data.evaluate.{rows.name}": rows for rows in inputs.eval_sets}
    return {name: rows for name, rows in named.items() if rows is not None}


def rows_text(config: Config, generator: TextGenerator, inputs: RunInputs) -> str:
    """Returns the numbers of rows and tokens of each set, and how many rows have a peculiarity."""
    encoder, forget, retain = generator.encoder, inputs.forget, inputs.retain
    limit = min(config.data.max_length, generator.lm.config.max_positions)
    lines, special, long = [], {}, {}
    for name, rows in _sets(inputs).items():
        answers = getattr(rows, "answers", None)
        lengths, spelled = [], []
        for i, (id_, question) in enumerate(zip(rows.ids, rows.questions, strict=True)):
            answer = None if answers is None else answers[i]
            if encoder.spells_special_token(question, answer or ""):
                spelled.append(id_)
            lengths.append(_tokens(generator, question, answer))
        counts = [length for length in lengths if length is not None]
        what = "prompt" if answers is None else "prompt and answer"
        spread = (min(counts), statistics.median(counts), max(counts)) if counts else (None,) * 3
        lines.append((name, len(rows), what, *spread))
        special[name] = spelled
        if name in ("data.retain", "data.forget_answers", "finetune.data"):
            pairs = zip(rows.ids, lengths, strict=True)
            long[name] = [id_ for id_, length in pairs if (length or 0) > limit]
    headers = ("rows of", "number", "tokens of", "minimum", "median", "maximum")
    notes = {
        "forget questions that are also retain questions": overlapping(forget, retain),
        "repeated forget questions": repeated(forget),
        "repeated retain questions": repeated(retain),
    }
    notes |= {
        f"rows of {name} that spell out a special token": ids for name, ids in special.items()
    }
    notes |= {f"rows of {name} longer than {limit:,} tokens": ids for name, ids in long.items()}
    shown = [f"  {len(ids)} {what} ({first_of(ids, _IDS)})" for what, ids in notes.items() if ids]
    if not shown:
        shown = ["  No question is repeated or in both sets."]
        shown += ["  No row is too long or spells out a special token."]
    return "\n".join([table(lines, headers), *shown])


def _tokens(generator: TextGenerator, question: str, answer: str | None) -> int | None:
    """Returns the number of tokens of a row, or None if the row cannot be encoded."""
    try:
        if answer is None:
            return len(generator.encoder.prompt(question))
        return len(generator.encoder.sequence(question, answer))
    except UserError:  # `check_fits` reports this row.
        return None


def measures_text(config: Config, inputs: RunInputs) -> str:
    """Returns one line for each measure that the result of the run will not have, and why."""
    given = {rows.name: rows for rows in inputs.eval_sets}
    missing = {}
    if absent := [name for name in FORGET_SPLITS if name not in given]:
        missing["unlearn quality"] = _not_given(absent, " and ")
    if not {*given} & {*UTILITY_SPLITS}:
        missing["utility"] = _not_given(UTILITY_SPLITS, " or ")
    if inputs.not_heldout:
        missing["what it cost, on held-out retain rows"] = inputs.not_heldout
    levels = config.evaluate.levels.measured
    missing |= {
        f"forgotten: {name}": "evaluate.levels.measured does not contain it"
        for name in LEVELS
        if name not in levels
    }
    _, why = paraphrases_of(inputs.forget, inputs.eval_sets)
    if "elicited" in levels and why:
        missing["forgotten: elicited by paraphrases"] = why
    try:
        context = EvalContext(given, inputs.retain, config.evaluate, config.data)
    except UserError:  # `check_fits` reports the reason.
        context = None
    for name in config.evaluate.wanted if context else ():
        if why := MEASURES[name].missing_inputs(context):
            missing[name] = why
    lines = [f"  {name}: {why}" for name, why in missing.items()]
    lines = ["not measured:", *lines] if lines else ["all measures have their rows"]
    if inputs.heldout:
        lines.append(
            f"  {len(inputs.heldout)} rows of data.retain are held out of training and measured "
            "(data.retain_test_size)"
        )
    return "\n".join(lines)


def _not_given(names: Sequence[str], joint: str) -> str:
    return f"set {joint.join(f'data.evaluate.{name}' for name in names)}"


def schedule_text(config: Config, counts: Counts) -> str:
    """Returns the numbers of steps, rows and rounds, and the share of the warm-up."""
    schedule, train = config.pmc.schedule, config.train
    rows = train.step_rows
    lines = []
    if counts.finetune_steps:
        settings = config.finetune
        each = settings.step_rows
        lines.append(
            f"fine-tuning: {counts.finetune_steps:,} steps of {each:,} rows"
            f"{_warmup(settings.warmup_steps, counts.finetune_steps)}"
        )
    lines.append(
        f"unlearning: {counts.steps:,} steps of {rows:,} forget and "
        f"{rows * schedule.retain_rows:,} retain rows, in {counts.rounds:,} rounds"
        f"{_warmup(train.warmup_steps, counts.steps)}"
    )
    return "\n".join(lines)


def _warmup(warmup: int, steps: int) -> str:
    if not warmup:
        return ", no warm-up"
    return f", warm-up over {warmup:,} steps ({warmup / max(steps, 1):.0%} of them)"


def prompts_text(config: Config, generator: TextGenerator, inputs: RunInputs) -> str:
    """Returns the first prompts of each set as the model reads them, special tokens included."""
    encoder = generator.encoder
    show: Callable[..., str] = encoder.tokenizer.decode
    parts = []
    for name, rows in _sets(inputs).items():
        answers = getattr(rows, "answers", None)
        for i in range(min(_SHOWN, len(rows))):
            tokens = encoder.prompt(rows.questions[i])
            if answers is not None:
                tokens = encoder.sequence(rows.questions[i], answers[i]).tokens.tolist()
            parts.append(f"=== {name}, row {rows.ids[i]} ===\n{show(tokens)}\n")
    return "\n".join(parts)
