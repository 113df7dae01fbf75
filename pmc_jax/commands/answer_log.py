"""Logs the answers of a run: one line for each evaluation question and each forget question."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.artifacts.log import RunLog
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config
from pmc_jax.data.conversation import transcript
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation.levels import true_answers
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.scoring.words import RULES, rule_for, without_words
from pmc_jax.unlearning.source import RowSource


def log_answers(
    log: RunLog, sets: Sequence[EvalSet], before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Logs one line per evaluation question, in place of the lines of an interrupted run."""
    log.drop("answer")
    for split in sets:
        rows = zip(split.ids, split.questions, split.answers, strict=True)
        for id_, question, truth in rows:
            texts = {"question": transcript(question), "truth": truth}
            texts |= {"before": before.get(question), "after": after[question]}
            log.event("answer", split=split.name, id=id_, texts=texts)


def log_questions(
    log: RunLog,
    inputs: RunInputs,
    source: RowSource,
    after: Mapping[str, str],
    levels: Sequence[Mapping[str, Any]],
    words: Mapping[str, Any],
) -> None:
    """Logs one line per forget question with its answers, its scores and its levels.

    Args:
        words: names of the rules by which ROUGE divides texts into words (see `words_of`).
    """
    log.drop("question")
    forget, true = inputs.forget, true_answers(inputs.eval_sets)
    replacements = source.replacements
    for id_, question, told in zip(forget.ids, forget.questions, levels, strict=True):
        stored, score = replacements.get(id_, (None, None))
        original, final = source.originals[id_], after[question]
        texts = {"question": transcript(question), "original": original}
        texts |= {"stored": stored, "final": final}
        log.event(
            "question",
            id=id_,
            score=None if stored is None else score,
            overlap=_recall(original, final, words["selection"]),
            true_overlap=_recall(true.get(question), final, words["evaluation"]),
            **told,
            texts=texts,
        )


def _recall(reference: str | None, answer: str, rule: str) -> float | None:
    """Returns the ROUGE-L recall of an answer, or None if the reference is None or has no word."""
    if reference is None or not RULES[rule](reference):
        return None
    return rougeL_recall(reference, answer, RULES[rule])


def words_of(config: Config, sets: Sequence[EvalSet], source: RowSource) -> dict[str, Any]:
    """Returns the rules by which ROUGE divides texts into words.

    Returns:
        A dictionary with three keys. `selection` and `evaluation` hold the name of the rule that
        each of these stages uses. `originals_without_words` lists the ids of questions whose
        original answer has no word.
    """
    setting, originals = config.data.words, list(source.originals.values())
    rule = rule_for(setting, originals)
    truths = [answer for rows in sets for answer in rows.answers]
    return {
        "selection": rule,
        "evaluation": rule_for(setting, truths),
        "originals_without_words": without_words(rule, list(source.originals), originals),
    }
