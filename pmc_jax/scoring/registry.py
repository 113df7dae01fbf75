"""Builds the score that the settings describe, with its weights, threshold and penalties."""

import importlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial

from pmc_jax.config.pmc import PMCConfig, ScoreConfig
from pmc_jax.data.lines import read_lines
from pmc_jax.errors import UserError
from pmc_jax.scoring.base import Score, checked, never_falling, with_empty_guard, with_min_len
from pmc_jax.scoring.text import chrf, combined, embedding, forbidden, rouge1_recall, rougeL_recall
from pmc_jax.scoring.threshold import by_original, never_saw_scores, with_threshold
from pmc_jax.scoring.token_lcs import token_lcs
from pmc_jax.scoring.words import RULES

OF_WORDS = {"rougeL_recall": rougeL_recall, "rouge1_recall": rouge1_recall}
NAMES = (*OF_WORDS, "chrf", "token_lcs", "embedding", "forbidden")

Encode = Callable[[str], Sequence[int]]


def base_score(
    pmc: PMCConfig,
    *,
    encode: Encode | None = None,
    score: str | Callable | None = None,
    words: str = "ascii",
) -> Score:
    """Builds the score that the settings name, without a threshold or penalties.

    Args:
        pmc: settings of PMC, whose section `score` describes the score.
        encode: function that maps a text to its token ids without special tokens. The score
            `token_lcs` requires this function.
        score: name or function that replaces `pmc.score.name` and `pmc.score.weights`, or None.
        words: name of the rule in `words.RULES` by which ROUGE divides texts into words.

    Raises:
        UserError: the name does not exist, the function cannot be imported or is not
            callable, `forbidden_file` cannot be read, or the score needs `encode` or a setting
            that is not set.
    """
    if score is not None or not pmc.score.weights:
        name, where = (pmc.score.name, "pmc.score.name") if score is None else (score, "score")
        return _score(name, pmc.score, encode, words, where)
    names, weights = zip(*pmc.score.weights.items(), strict=True)
    where = "pmc.score.weights"
    return combined([_score(name, pmc.score, encode, words, where) for name in names], weights)


def reads_words(settings: ScoreConfig, score: str | Callable | None = None) -> bool:
    """Returns whether the score that `base_score` builds is ROUGE or a weighted mean with ROUGE.

    Args:
        settings: settings of the score.
        score: name or function that replaces the score in the settings, or None.
    """
    names = (score,) if score is not None else (settings.weights or (settings.name,))
    return any(name in OF_WORDS for name in names if isinstance(name, str))


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
    words: str = "ascii",
) -> Score:
    """Builds the score of a run, with its threshold and penalties.

    Args:
        pmc, encode, score, words: the same as in `base_score`.
        originals: original answer to each forget question.
        questions: the forget questions.
        retain_questions, retain_answers: the retain pairs, which are read only if
            `pmc.score.threshold_from` is "retain".
        secrets: secret words, which `preference.secret_words` returns. The threshold does not apply
            to a sample that contains a secret word.

    Raises:
        UserError: `base_score` cannot build the score, or the score fails on the retain answers.
    """
    full = base_score(pmc, encode=encode, score=score, words=words)
    if pmc.score.threshold_from == "retain":
        levels = never_saw_scores(full, originals, questions, retain_questions, retain_answers)
        full = with_threshold(full, by_original(originals, levels), secrets)
    elif pmc.score.threshold:
        full = with_threshold(full, pmc.score.threshold, secrets)
    full = with_min_len(full, pmc.score.min_len)
    return with_empty_guard(full) if pmc.score.guard_empty else full


def _score(
    name: str | Callable, settings: ScoreConfig, encode: Encode | None, words: str, where: str
) -> Score:
    if isinstance(name, str) and name in OF_WORDS:
        return never_falling(partial(OF_WORDS[name], words=RULES[words]))
    if name == "chrf":
        return chrf
    if name == "token_lcs":
        if encode is None:
            raise UserError(
                f"{where}: the score 'token_lcs' needs token ids. Pass the function encode."
            )
        return token_lcs(encode)
    if name == "embedding":
        if settings.embedding is None:
            raise UserError(
                f"{where}: the score 'embedding' needs a function. "
                "Set pmc.score.embedding to package.module:function."
            )
        return checked(embedding(_function(settings.embedding, "pmc.score.embedding")))
    if name == "forbidden":
        strings, file = [*settings.forbidden], settings.forbidden_file
        if file is not None:
            strings += read_lines(file, "pmc.score.forbidden_file")
        if not strings:
            raise UserError(
                f"{where}: the score 'forbidden' needs strings. Set pmc.score.forbidden=[...] "
                "or pmc.score.forbidden_file."
            )
        return forbidden(strings, similarity=settings.forbidden_similarity)
    score = _lookup(name, where) if isinstance(name, str) else name
    if not callable(score):
        raise UserError(
            f"{where}: {name!r} is not a function. Pass a function or the name of a score."
        )
    return checked(score)


def _lookup(name: str, where: str) -> Callable:
    if ":" in name:
        return _function(name, where)
    near = get_close_matches(name, NAMES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Use one of {', '.join(NAMES)}."
    raise UserError(
        f"{where}: the score {name!r} does not exist. {hint} To use your own function, write "
        "package.module:function."
    )


def _function(name: str, where: str) -> Callable:
    """Imports a function.

    Args:
        name: name of the function, as "package.module:function".
        where: setting that contains the name, for messages.

    Raises:
        UserError: the module cannot be imported, or has no such function.
    """
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # The code of a module may raise any type.
        cause = str(error) if isinstance(error, ImportError) else type(error).__name__
        raise UserError(
            f"{where}: the module {module_name!r} cannot be imported ({cause}). "
            "Install the package, add its folder to PYTHONPATH or correct the module."
        ) from None
    if not hasattr(module, function):
        near = get_close_matches(function, dir(module), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Give the name of one of its functions."
        raise UserError(
            f"{where}: the module {module_name!r} has no attribute {function!r}. {hint}"
        )
    value = getattr(module, function)
    if not callable(value):
        raise UserError(
            f"{where}: {name!r} is not a function. Give the name of a function that the module "
            "defines."
        )
    return value
