"""Decides which samples may replace the original answer to a question, for each `pmc.answer`.

    own       The sample has no private word and no secret item of the original answer.
    abstain   The sample has ended and says only that the model does not know. Its other words are
              common, in the question or in retain questions. It has no private word, no secret item
              of the original answer and no fact that the question does not state.
    unseen    The sample has ended and is not empty. It has no private word, no secret item of the
              original answer and no rare item that the question does not have. If there are
              several invented names, its score is at most the highest score of such samples for
              the other names.

A private word of a question occurs in another forget question, in an original answer or in what the
model says about the subject, but neither in the question nor in the retain data, and is not a
common word. With `pmc.selection.private_words`, no word is private, and `own` admits every sample.
A rare item is a number, a name or another word that only one answer of the data has.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.spelling import any_of
from pmc_jax.scoring.abstention import Abstentions
from pmc_jax.scoring.base import is_empty
from pmc_jax.scoring.invention import foreign_words, invents
from pmc_jax.scoring.secret_items import secret_items
from pmc_jax.scoring.secret_readings import keys
from pmc_jax.scoring.secret_vocabulary import Vocabulary
from pmc_jax.scoring.words import unicode_words
from pmc_jax.unlearning.own_questions import names_only_near
from pmc_jax.unlearning.pmc import Rollout

_REMEMBERED = 4096  # texts whose keys are remembered, because shared answers are tried often


class Admission:
    """Rules for the samples of one run.

    Args:
        pmc: settings of PMC.
        forget: N forget questions.
        originals: original answers to the forget questions.
        retain: retain pairs. Their words are not private, except those of `names_only_near`.
        said: further answers of the target model about the subjects.
        subjects: names of the subject of each question.
        abstentions: phrases which say that the model does not know.
        words: tables of number words, month names and common words.
    """

    def __init__(
        self,
        pmc: PMCConfig,
        forget: ForgetSet,
        originals: Sequence[str],
        retain: RetainSet,
        *,
        said: Iterable[str],
        subjects: Sequence[Sequence[str]],
        abstentions: Abstentions,
        words: Vocabulary,
    ):
        self._answer, self._abstentions, self._words = pmc.answer, abstentions, words
        self._questions = forget.questions
        self._names = [[any_of([name.casefold()]) for name in names] for names in subjects]
        self._private: frozenset[str] = frozenset()
        if not pmc.selection.private_words:
            public = frozenset().union(*map(unicode_words, (*retain.questions, *retain.answers)))
            public = (public - names_only_near(forget, retain, pmc)).union(
                words.never_secret,
                *map(unicode_words, abstentions.openings if pmc.answer == "abstain" else ()),
            )
            texts = (*forget.questions, *originals, *said)
            words_of = frozenset().union(*map(unicode_words, texts)) - public
            # ASCII letters are not private words, because "Ada's" has the word "s".
            self._private = frozenset(w for w in words_of if len(w) > 1 or not w.isascii())
        self._given = [frozenset(unicode_words(question)) for question in forget.questions]
        self._keys = functools.lru_cache(_REMEMBERED)(lambda text: keys(text, words))
        self._admits_all = pmc.answer == "own" and pmc.selection.private_words
        if self._admits_all:
            return
        self._items = secret_items(
            originals, forget.questions, retain.answers, words, others=originals
        )
        if pmc.answer == "own":
            return
        self._asked = [keys(question, words) for question in forget.questions]
        if pmc.answer == "abstain":
            self._kept = frozenset().union(*(keys(q, words) for q in retain.questions))
        else:
            answers = (*originals, *retain.answers)
            count = Counter(key for text in answers for key in keys(text, words))
            common = {f"word {stem}" for stem in words.never_secret}
            self._rare = frozenset(key for key, n in count.items() if n == 1) - common

    def has_private_word(self, index: int, text: str) -> bool:
        """Returns whether a text has a private word of the question with this index."""
        words = frozenset(unicode_words(text))
        return not self._private.isdisjoint(words - self._given[index])

    def admits(self, index: int, text: str) -> bool:
        """Returns whether a text may replace the answer to the question with this index.

        The function applies only the rules that need nothing but the text.
        """
        if self._admits_all:
            return True
        if self.has_private_word(index, text):
            return False
        if not all(item.isdisjoint(self._keys(text)) for item in self._items[index]):
            return False
        if self._answer == "own":
            return True
        asked = self._asked[index]
        if self._answer == "unseen":
            return not is_empty(text) and self._rare.isdisjoint(keys(text, self._words) - asked)
        rest = self._abstentions.rest(text)
        return (
            rest is not None
            and not foreign_words(rest, asked | self._kept, self._words)
            and not invents(self._questions[index], text, self._words)
        )

    def admitted(
        self, index: int, answers: Rollout, scores: np.ndarray, variants: int
    ) -> np.ndarray:
        """Returns whether each of the K samples of a question may replace its answer, bool [K].

        Args:
            index: index of the question.
            answers: the K samples, in the order of their variants.
            scores: scores of the samples, float64 [K].
            variants: number of variants of the question, which share the samples equally.
        """
        fine = np.array([self.admits(index, text) for text in answers.texts], bool)
        if self._answer == "own":
            return fine
        fine &= answers.ended
        if self._answer == "unseen" and variants > 1:
            groups = np.where(fine, scores, -np.inf).reshape(variants, -1)
            highest = groups.max(axis=1)
            others = [np.delete(highest, v).max() for v in range(variants)]
            fine &= scores <= np.repeat(others, groups.shape[1])
        return fine

    def names_subject(self, index: int, text: str) -> bool:
        """Returns whether a text names the subject in the same words as the question."""
        return any(name.search(text.casefold()) for name in self._names[index])
