"""Scores the samples for a question and selects the replacement answers from them.

With `pmc.answer=own`, one sample is selected by its score. With `abstain` and `unseen`, the
replacement answers are drawn uniformly from the coherent samples that `admission` admits.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.errors import UserError, first_of
from pmc_jax.scoring.base import (
    Score,
    checked,
    is_empty,
    lower_bound,
    score_batch,
    worst_where,
)
from pmc_jax.scoring.coherence import coherent
from pmc_jax.scoring.preference import count_secret_words, preference, secret_words
from pmc_jax.scoring.registry import reads_words, run_score
from pmc_jax.scoring.words import rule_for, without_words
from pmc_jax.training.order import Stream, stream_rng
from pmc_jax.unlearning.admission import Admission
from pmc_jax.unlearning.pmc import Rollout, Selection, select_index

# Maximum number of replacement answers to a question. One abstention is enough, but many unseen
# samples represent their distribution.
_MAX_ANSWERS = {"abstain": 1, "unseen": 16}


class Selector:
    """Selector of the replacement answers to each question from its samples.

    Args:
        pmc: settings of PMC.
        forget: N forget questions.
        originals: original answers to the forget questions.
        retain: retain pairs. Their words are not secret, and `pmc.score.threshold_from` reads them.
        admission: rules for the samples that may replace an answer.
        encode: function that maps a text to token ids.
        seed: seed of the run.
        score: function or name of a score that replaces `pmc.score.name` and `pmc.score.weights`,
            or None.
        words: the setting `data.words`.

    Attributes:
        score: function that maps an original answer and K samples to scores, float64 [K]. Lower is
            better.
        secrets: words that occur only in original answers to forget questions.
        words: name of the rule in `words.RULES` by which ROUGE divides texts into words.
        wordless: ids of the questions whose original answer has no word, so that ROUGE gives score
            0 to every sample. The list is empty if ROUGE is not a part of the score.

    Raises:
        UserError: the score is unknown, or the rule `ascii` of `data.words` finds no word in an
            original answer in another script.
    """

    def __init__(
        self,
        pmc: PMCConfig,
        forget: ForgetSet,
        originals: Sequence[str],
        retain: RetainSet,
        *,
        admission: Admission,
        encode: Callable[[str], Sequence[int]],
        seed: int,
        score: str | Score | None,
        words: str = "auto",
    ):
        self._pmc, self._seed, self._admission = pmc, seed, admission
        self._questions = {id_: (i, originals[i]) for i, id_ in enumerate(forget.ids)}
        public = [*forget.questions, *retain.questions, *retain.answers]
        self.secrets = secret_words(originals, public)
        self.words = rule_for(words, originals)
        reads = reads_words(pmc.score, score)
        self.wordless = _wordless(self.words, forget.ids, originals) if reads else []
        self.score = checked(
            run_score(
                pmc,
                originals=originals,
                questions=forget.questions,
                retain_questions=retain.questions,
                retain_answers=retain.answers,
                encode=encode,
                score=score,
                secrets=self.secrets,
                words=self.words,
            )
        )

    def score_shared(self, ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Scores M answers as replacement answers to N questions, float64 [N, M].

        An answer that is not admitted has the score 1. With `abstain` and `unseen`, every other
        answer has the score 0.
        """
        rows = [self._questions[id_] for id_ in ids]
        admitted = [[self._admission.admits(index, text) for text in texts] for index, _ in rows]
        scores = np.zeros((len(ids), len(texts)))
        if self._pmc.answer == "own":
            scores = score_batch(self.score, [original for _, original in rows], [texts] * len(ids))
        return np.where(admitted, scores, 1.0)

    def select(
        self,
        id_: str,
        answers: Rollout,
        scores: np.ndarray,
        *,
        draw: Sequence[int],
        variants: int = 1,
    ) -> Selection:
        """Selects replacement answers from the K samples of a question.

        Args:
            id_: id of the question.
            answers: the K samples, in the order of their variants.
            scores: scores of the samples, float64 [K].
            draw: index of the first step in the round, followed by the index of the attempt unless
                this index is 0.
            variants: number of variants of the question.
        """
        pmc, texts, (index, original) = self._pmc, answers.texts, self._questions[id_]
        whole, secret = answers.is_whole, count_secret_words(texts, self.secrets)
        fine = self._admission.admitted(index, answers, scores, variants)
        fine &= ~whole | coherent(original, texts, pmc.selection, mean_nll=answers.mean_nll)
        refused, fine = ~fine, fine & whole
        rng = stream_rng(self._seed, Stream.SELECT, draw[0], index, *draw[1:])
        shareable = self._shareable(answers, fine & (secret == 0))
        if pmc.answer != "own":
            chosen = self._draw(index, texts, np.flatnonzero(fine), rng)
            if not chosen:
                return Selection(id_, None, 1.0, scores.tolist())
            first, *others = chosen
            return Selection(id_, first, 0.0, scores.tolist(), others, shareable)
        if not whole.all():
            bounds = lower_bound(self.score)(original, texts)
            scores = worst_where(refused, np.where(whole, scores, bounds))
            if not self._not_empty(texts, fine).any():
                return Selection(id_, None, float(scores.min()), scores.tolist(), (), shareable)
        k, chosen = select_sample(
            texts,
            scores,
            pmc.selection.rule,
            pmc.selection.tau,
            rng,
            guard_empty=pmc.score.guard_empty,
            is_coherent=fine,
            order=self._order(answers, secret),
        )
        scores = np.where(whole, chosen, scores)
        return Selection(id_, texts[k], float(scores[k]), scores.tolist(), (), shareable)

    def _order(self, answers: Rollout, secret: np.ndarray) -> np.ndarray:
        """Returns the indices of the samples in the order that decides between equal scores."""
        if self._pmc.selection.prefer == "first":
            return np.arange(len(answers.texts))
        return preference(secret, answers.length, answers.mean_nll)

    def _not_empty(self, texts: Sequence[str], which: np.ndarray) -> np.ndarray:
        """Removes empty samples from a mask bool [K] if they may not be selected."""
        if not self._pmc.score.guard_empty:
            return which
        return which & [not is_empty(text) for text in texts]

    @property
    def can_end_early(self) -> bool:
        """Whether samples can end early, which takes a lower bound of the score that decides."""
        rule = self._pmc.selection.rule
        return self._pmc.answer == "own" and rule == "best" and lower_bound(self.score) is not None

    def find_useless(self, id_: str, answers: Rollout, limit: float) -> np.ndarray:
        """Returns which samples of a question can end early, bool [K].

        Whatever follows them, `select` would not select them, or would select them with a score
        above the limit, and no other question would share them. A whole sample has no entry.

        Args:
            id_: id of the question.
            answers: the K samples so far.
            limit: highest score with which an answer matters.
        """
        pmc, texts, (index, original) = self._pmc, answers.texts, self._questions[id_]
        whole = answers.is_whole
        if whole.all():
            return ~whole
        secret = count_secret_words(texts, self.secrets)
        bounds = lower_bound(self.score)(original, texts)
        private = np.array([self._admission.has_private_word(index, text) for text in texts], bool)
        useless = bounds > limit
        # The score of a sample that is not admitted is at least 1 in the end.
        useless |= private & (limit < 1)
        fine = whole & self._admission.admitted(index, answers, bounds, 1)
        fine &= coherent(original, texts, pmc.selection, mean_nll=answers.mean_nll)
        fine = self._not_empty(texts, fine)
        if fine.any():
            scores = np.full(len(texts), np.inf)
            scores[fine] = self.score(original, [texts[i] for i in np.flatnonzero(fine)])
            order = self._order(answers, secret)
            best = int(order[np.argmin(scores[order])])
            if pmc.selection.prefer == "first":
                loses_tie = np.arange(len(texts)) > best
            else:
                loses_tie = (secret >= secret[best]) & (answers.length > answers.length[best])
                loses_tie |= secret > secret[best]
            useless |= private | (bounds > scores[best])
            useless |= (bounds == scores[best]) & loses_tie
        if pmc.selection.share_answers:
            # A sample without a secret word may replace the answer to another question.
            useless &= (secret > 0) | private
        return useless & ~whole

    def _draw(
        self, index: int, texts: Sequence[str], admitted: np.ndarray, rng: np.random.Generator
    ) -> list[str]:
        """Draws replacement answers uniformly from the admitted samples.

        If some of them name the subject in the words of the question, the others are left out.

        Args:
            admitted: indices of the admitted samples, int [number of admitted samples].
        """
        names = np.array([self._admission.names_subject(index, texts[i]) for i in admitted], bool)
        admitted = admitted[names] if names.any() else admitted
        return [texts[i] for i in rng.permutation(admitted)[: _MAX_ANSWERS[self._pmc.answer]]]

    def _shareable(self, answers: Rollout, fine: np.ndarray) -> list[tuple[str, float]]:
        """Returns `Selection.shareable` for the samples of a question.

        Samples that are empty or end in a question mark are left out.

        Args:
            fine: whether each sample is coherent, is admitted and has no secret word, bool [K].
        """
        if not self._pmc.selection.share_answers:
            return []
        states = [not (is_empty(t) or t.rstrip().endswith(("?", "？"))) for t in answers.texts]
        return [
            (answers.texts[i], float(answers.mean_nll[i])) for i in np.flatnonzero(fine & states)
        ]


def _wordless(rule: str, ids: Sequence[str], originals: Sequence[str]) -> list[str]:
    """Returns the ids of the questions whose original answer has no word.

    Raises:
        UserError: some of these answers have words under the rule `unicode`.
    """
    wordless = without_words(rule, ids, originals)
    lost = sorted(set(wordless).difference(without_words("unicode", ids, originals)))
    if lost:
        raise UserError(
            f"data.words: the rule {rule} finds no word in the original answers to {len(lost)} "
            f"of {len(ids)} forget questions ({first_of(lost, 5)}). Set data.words=unicode."
        )
    return wordless


def select_sample(
    texts: Sequence[str],
    scores: np.ndarray,
    rule: str,
    tau: float,
    rng: np.random.Generator,
    *,
    guard_empty: bool,
    is_coherent: np.ndarray,
    order: np.ndarray,
) -> tuple[int, np.ndarray]:
    """Selects one of K samples by their scores.

    Incoherent samples, and with `guard_empty` also empty samples, are selected only if no other
    sample exists.

    Args:
        texts: texts of the K samples.
        scores: scores of the samples, float64 [K].
        rule, tau, rng: arguments of `pmc.select_index`.
        guard_empty: whether an empty sample may be selected only if all samples are empty.
        is_coherent: whether each sample is coherent and admitted, bool [K]. The other samples get
            the worst score.
        order: indices of the samples, int [K]. Among samples with equal scores, the first in this
            order is preferred.

    Returns:
        The index of the selected sample, and the scores of all samples, float64 [K].
    """
    eligible = order
    if guard_empty:
        eligible = _only(~np.array([is_empty(text) for text in texts], bool), eligible)
    scores = worst_where(~is_coherent, scores)
    eligible = _only(is_coherent, eligible)
    return int(eligible[select_index(scores[eligible], rule, tau, rng)]), scores


def _only(allowed: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns the indices for which `allowed` is true, or all indices if no index is allowed."""
    mask = allowed[indices]
    return indices[mask] if mask.any() else indices
