"""Warnings of a PMC run about forget questions that it could not treat as intended."""

import logging
from collections.abc import Sequence

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.errors import first_of

_log = logging.getLogger(__name__)

_NO_ANSWER = {
    "abstain": "no sample is admitted as an abstention (see docs/reference/methods.md)",
    "unseen": "no sample for an invented name is admitted (see docs/reference/methods.md)",
}


def warn_of_unknown(unknown: Sequence[str], count: int, pmc: PMCConfig) -> None:
    """Warns of questions whose answers the model does not know.

    Args:
        unknown: ids of these questions.
        count: number of all forget questions.
    """
    _log.warning(
        "The model seems not to know the answers to %d of %d forget questions (%s), because it "
        "gives the same or no less likely answers for invented names. %s",
        *(len(unknown), count, first_of(unknown, 5)),
        "These questions are skipped."
        if pmc.subject.unknown == "skip"
        else "Set pmc.subject.unknown=skip to leave these questions out.",
    )


def warn_of_wordless(wordless: Sequence[str], count: int) -> None:
    """Warns of questions whose original answers have no word.

    Args:
        wordless: ids of these questions.
        count: number of all forget questions.
    """
    _log.warning(
        "The original answers to %d of %d forget questions (%s) have no letter or digit, "
        "so ROUGE gives every sample the score 0. Use the score token_lcs in pmc.score.",
        *(len(wordless), count, first_of(wordless, 5)),
    )


def warn_of_unreplaced(left: Sequence[str], count: int, pmc: PMCConfig) -> None:
    """Warns of questions without a replacement answer.

    Args:
        left: ids of these questions.
        count: number of all forget questions.
    """
    shown = (len(left), count, first_of(left, 5))
    if pmc.answer != "own":
        _log.warning(
            "No replacement answer was found for %d of %d forget questions (%s), because %s. "
            "Increase num_samples or max_new_tokens in pmc.sampling, or change pmc.answer.",
            *(*shown, _NO_ANSWER[pmc.answer]),
        )
        return
    selection, limit = pmc.selection, pmc.selection.max_train_score
    scored = "" if limit is None else f" with a score of at most {limit}"
    setting = "" if limit is None else " or pmc.selection.max_train_score"
    setting += " or pmc.selection.max_perplexity" * (selection.max_perplexity is not None)
    _log.warning(
        "No replacement answer was found for %d of %d forget questions (%s), because none "
        "of their samples is a coherent answer without private words%s. Increase "
        "pmc.sampling.num_samples%s.",
        *(*shown, scored, setting),
    )
