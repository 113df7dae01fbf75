"""Finds questions that are in both the forget set and the retain set, or twice in one set."""

import logging

from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.visible import appearance
from pmc_jax.errors import UserError, first_of

_log = logging.getLogger(__name__)


def check_twins(rule: str, forget: ForgetSet, retain: RetainSet) -> None:
    """Reports questions that occur in both sets, and warns about questions that one set repeats.

    Two questions count as the same if they look the same (`visible.appearance`).

    Args:
        rule: value of the setting `data.on_overlap`: "warn" to log a warning about a question in
            both sets, or "error" to raise an error.
        forget: the forget questions.
        retain: the retain pairs.

    Raises:
        UserError: a question is in both sets and `rule` is "error".
    """
    for name, rows in (("forget", forget), ("retain", retain)):
        if again := repeated(rows):
            _log.warning(
                "data.%s: in %d of %d rows, the question looks the same as in an earlier row (%s). "
                "Remove each such row, because the run counts it as a further question.",
                *(name, len(again), len(rows), first_of(again, 5)),
            )
    both = overlapping(forget, retain)
    if not both:
        return
    named = first_of(both, 5)
    message = (
        f"data.forget: the retain data contain {len(both)} of {len(forget)} forget questions "
        f"({named}). Remove each of them from data.forget, or from data.retain and data.retain_more"
    )
    if rule == "error":
        raise UserError(f"{message}, or set data.on_overlap=warn.")
    _log.warning(
        "%s, because the run trains the model both to forget and to keep such a question.", message
    )


def overlapping(forget: ForgetSet, retain: RetainSet) -> list[str]:
    """Returns the ids of the forget questions that look the same as a retain question."""
    retained = set(map(appearance, retain.questions))
    pairs = zip(forget.ids, forget.questions, strict=True)
    return [id_ for id_, question in pairs if appearance(question) in retained]


def repeated(rows: ForgetSet | RetainSet) -> list[str]:
    """Returns the ids of the rows whose question looks the same as an earlier question."""
    seen: set[str] = set()
    again = []
    for id_, question in zip(rows.ids, rows.questions, strict=True):
        look = appearance(question)
        if look in seen:
            again.append(id_)
        seen.add(look)
    return again
