"""From settings to a score: names, user functions, weighted means, thresholds and penalties."""

import importlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from pmc_jax.config.pmc import PMCConfig, ScoreConfig
from pmc_jax.data.lines import read_lines
from pmc_jax.errors import UserError
from pmc_jax.scoring.base import Score, checked, with_empty_guard, with_min_len
from pmc_jax.scoring.text import chrf, combined, embedding, forbidden, rouge1_recall, rougeL_recall
from pmc_jax.scoring.threshold import by_original, never_saw_scores, with_threshold
from pmc_jax.scoring.token_lcs import token_lcs

# Those that need nothing but the texts, and those that need a tokenizer or settings too.
SCORES = {"rougeL_recall": rougeL_recall, "rouge1_recall": rouge1_recall, "chrf": chrf}
NAMES = (*SCORES, "token_lcs", "embedding", "forbidden")

Encode = Callable[[str], Sequence[int]]


def base_score(
    pmc: PMCConfig, *, encode: Encode | None = None, score: str | Callable | None = None
) -> Score:
    """The score that the settings name, without threshold and penalties.

    Args:
        pmc: `score` is read.
        encode: a text -> its token ids without special tokens, for token_lcs.
        score: a name or a function in place of `pmc.score.name` and `pmc.score.weights`.

    Raises:
        UserError: no such name, module or function, or one that lacks what it needs.
    """
    if score is not None or not pmc.score.weights:
        name = pmc.score.name if score is None else score
        return _score(name, pmc.score, encode, "pmc.score.name")
    names, weights = zip(*pmc.score.weights.items(), strict=True)
    where = "pmc.score.weights"
    return combined([_score(name, pmc.score, encode, where) for name in names], weights)


def run_score(
    pmc: PMCConfig,
    *,
    originals: Sequence[str],
    questions: Sequence[str],
    retain_questions: Sequence[str],
    retain_answers: Sequence[str],
    encode: Encode | None = None,
    score: str | Callable | None = None,
    secrets: frozenset[str] = frozenset(),
) -> Score:
    """The score of a run: that of `base_score`, above its threshold, with its penalties on top.

    Args:
        pmc, encode, score: see `base_score`.
        originals: N original answers.
        questions: N forget questions.
        retain_questions, retain_answers: the retain pairs, read for `score.threshold_from: retain`.
        secrets: words that no threshold excuses, see `preference.secret_words`.

    Raises:
        UserError: see `base_score`.
    """
    full = base_score(pmc, encode=encode, score=score)
    if pmc.score.threshold_from == "retain":
        levels = never_saw_scores(full, originals, questions, retain_questions, retain_answers)
        full = with_threshold(full, by_original(originals, levels), secrets)
    elif pmc.score.threshold:
        full = with_threshold(full, pmc.score.threshold, secrets)
    full = with_min_len(full, pmc.score.min_len)
    return with_empty_guard(full) if pmc.score.guard_empty else full


def _score(name: str | Callable, settings: ScoreConfig, encode: Encode | None, where: str) -> Score:
    if name == "token_lcs":
        if encode is None:
            raise UserError(f"{where}: token_lcs needs a tokenizer; give encode=, or a model")
        return token_lcs(encode)
    if name == "embedding":
        if settings.embedding is None:
            raise UserError(f"{where}: embedding needs pmc.score.embedding=package.module:function")
        return checked(embedding(_function(settings.embedding, "pmc.score.embedding")))
    if name == "forbidden":
        strings, file = [*settings.forbidden], settings.forbidden_file
        if file is not None:
            strings += read_lines(file, "pmc.score.forbidden_file")
        if not strings:
            raise UserError(f"{where}: forbidden needs strings; give pmc.score.forbidden=[...]")
        return forbidden(strings, similarity=settings.forbidden_similarity)
    score = _lookup(name, where) if isinstance(name, str) else name
    if not callable(score):
        raise UserError(f"{where}: {name!r} is not a function; give one")
    return checked(score)


def _lookup(name: str, where: str) -> Callable:
    if name in SCORES:
        return SCORES[name]
    if ":" in name:
        return _function(name, where)
    near = get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
    raise UserError(
        f"{where}: no score {name!r}; did you mean {near!r}? "
        "(a function of your own is written package.module:function)"
    )


def _function(name: str, where: str) -> Callable:
    """The function that "package.module:function" names."""
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{where}: cannot import {module_name!r} of {name!r} ({error}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, function):
        near = get_close_matches(function, dir(module), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "name a function of it"
        raise UserError(f"{where}: module {module_name!r} has no {function!r}; {hint}")
    value = getattr(module, function)
    if not callable(value):
        raise UserError(f"{where}: {name!r} is not a function; give one")
    return value
