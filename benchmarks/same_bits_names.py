"""Translates names of settings and results before and since 0.2.0, for `same_bits.py`."""

import re
from typing import Any

# Settings of 0.2.0 -> settings of 0.1.0.
SETTINGS = {
    **{f"pmc.sampling.{n}": f"pmc.{n}" for n in ("num_samples", "temperature", "top_k", "top_p")},
    "pmc.sampling.max_attempts": "pmc.attempts",
    "pmc.sampling.temperature_decay_tokens": "pmc.cool_tokens",
    "pmc.sampling.final_temperature": "pmc.cool_to",
    "pmc.sampling.max_new_tokens": "pmc.max_new_tokens",
    "pmc.sampling.batch_size": "pmc.sample_batch_size",
    "pmc.score.name": "pmc.score",
    "pmc.score.threshold": "pmc.scores.target",
    "pmc.score.threshold_from": "pmc.scores.target_from",
    "pmc.score.min_len": "pmc.min_len",
    "pmc.score.guard_empty": "pmc.guard_empty",
    "pmc.selection.rule": "pmc.selection",
    "pmc.selection.tau": "pmc.tau",
    "pmc.selection.max_train_score": "pmc.max_train_score",
    "pmc.selection.share_answers": "pmc.share_answers",
    **{
        f"pmc.selection.{n}": f"pmc.scores.{n}"
        for n in ("prefer", "min_words", "max_repetition", "max_perplexity")
    },
    **{
        f"pmc.schedule.{n}": f"pmc.{n}"
        for n in ("epochs", "steps_per_round", "retain_rows", "lambda_retain", "max_retain_loss")
    },
    "pmc.augmentation.question_word_dropout": "pmc.question_dropout",
    "pmc.augmentation.answer_prefix": "pmc.recovery",
    "pmc.reward_samples": "pmc.probe_samples",
    "data.forget_answers": "data.targets",
    "evaluate.leakage.num_samples": "evaluate.samples",
    "evaluate.corpus.path": "evaluate.text",
    "evaluate.corpus.chunks": "evaluate.text_chunks",
    "evaluate.corpus.chunk_tokens": "evaluate.chunk_tokens",
    "evaluate.quantisation": "evaluate.weights",
}
# Keys of results and logs of 0.1.0 -> keys of 0.2.0.
KEYS = {
    "unresolved": "unreplaced",
    "resolved": "has_replacement",
    "probe": "reward_moments",
    "choices": "multiple_choice",
    "prompts": "prompt_attacks",
    "hand_over": "weight_sync",
    "cells": "runs",
    "cells_wanted": "num_runs",
    "rule": "criterion",
}


def in_old_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Renames settings to their names in 0.1.0."""

    def old(name: str) -> str:
        for new, before in SETTINGS.items():
            if name == new or name.startswith(f"{new}."):
                return before + name.removeprefix(new)
        return name

    return {old(name): value for name, value in settings.items()}


def in_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """Renames values, and settings in messages, to their names in 0.2.0."""
    names = {"/".join(KEYS.get(part, part) for part in n.split("/")): v for n, v in values.items()}
    # These values repeat settings of the comparison, whose names differ.
    names = {n: v for n, v in names.items() if not n.startswith("compare.json/evaluation/")}
    return {name: _message(value) for name, value in names.items()}


def _message(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for new, old in SETTINGS.items():
        value = re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w.])", new, value)
    return value
