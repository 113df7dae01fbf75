"""PMC's rows: the model's own answers, kept and shared round by round.

How they are sampled is in `asking.py`, which of them is chosen in `judge.py`, the algorithm itself
in `pmc.py`. True forget answers have no place here.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.distributed import multihost
from pmc_jax.errors import Preempted, first_of
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.engine import Usage
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring import Score
from pmc_jax.unlearning import pmc as algorithm
from pmc_jax.unlearning.pmc import Step
from pmc_jax.unlearning.refusals import refusal_of
from pmc_jax.unlearning.rollouts import RolloutSampler
from pmc_jax.unlearning.selection import Selection, Selector
from pmc_jax.unlearning.source import TermRows
from pmc_jax.unlearning.store import ResponseStore

_log = logging.getLogger(__name__)

# A stored answer is tokenised again for training and may come out a little longer than it was
# sampled.
_SLACK_TOKENS = 8


class PMCSource:
    """A `RowSource`; see there.

    Args:
        generator: the model to start from, and how to ask it.
        forget: questions only.
        retain: pairs that `pmc.score.threshold_from` looks at.
        originals: the untouched model's greedy answers to `forget.questions`.
        refusals: of PMC-alignment; empty for PMC.
        config: of the run.
        recorder: log and clock.
        score: a function (original, samples) -> scores, lower is better, instead of `pmc.score`.

    Attributes:
        store: the best answer so far to every question.

    Raises:
        UserError: prompts that are too long, an unknown score.
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        retain: RetainSet,
        *,
        originals: Sequence[str],
        config: Config,
        recorder: Recorder,
        refusals: Sequence[str] = (),
        score: str | Score | None = None,
    ):
        pmc = config.pmc
        self.ids, self.pmc, self._seed = forget.ids, pmc, config.seed
        self._generator, self._questions = generator, forget.questions
        self._watch = recorder.watch
        self._rollouts = RolloutSampler(generator, forget, config, recorder.watch)
        self.prompts = self._rollouts.prompts
        self.store = ResponseStore(forget.ids, guard_empty=pmc.score.guard_empty)
        self._retain, self._given_score = retain, score
        self._numbers = {id_: i for i, id_ in enumerate(forget.ids)}
        self._refusals = [
            [generator.encoder.sequence(question, refusal, id_) for refusal in refusals]
            for id_, question in zip(forget.ids, forget.questions, strict=True)
        ]
        self._begin_from(originals)

    @property
    def usage(self) -> Usage:
        """Tokens that were sampled."""
        return self._rollouts.usage

    def _begin_from(self, originals: Sequence[str]) -> None:
        """Takes the original answers, and the score and the lengths that follow from them."""
        encoder = self._generator.encoder
        self.originals = dict(zip(self.ids, originals, strict=True))
        self._selector = Selector(
            self.pmc,
            self._questions,
            originals,
            self._retain,
            encode=encoder.plain,
            seed=self._seed,
            score=self._given_score,
        )
        answers = multihost.map_sharded(lambda i: encoder.answer(originals[i]), len(originals))
        self._expected = [len(answer) for answer in answers]
        self._openings = [
            answer[:-1] if self.pmc.augmentation.answer_prefix else [] for answer in answers
        ]
        self.lengths = [len(p) + n for p, n in zip(self.prompts, self._expected, strict=True)]
        room = self.pmc.sampling.max_new_tokens + len(encoder.answer("")) + _SLACK_TOKENS
        others = [len(s) for row in self._refusals for s in row]
        rows = zip(self.prompts, self._openings, strict=True)
        self.longest = max([len(p) + len(o) + room for p, o in rows] + others)

    def begin_round(
        self, block: Sequence[Step], model: Decoder, note: Callable[[str], None]
    ) -> dict[str, Any]:
        """Samples and scores the unresolved questions of a round."""
        ids = [self.ids[i] for step in block for i in step.forget]
        unresolved, before, enough = self.store.unresolved(ids), self.saved(), self._enough
        given = self._share(unresolved)
        unresolved = [id_ for id_ in unresolved if id_ not in given]
        names = ("sampled_score", "score_mean", "score_std")
        if not unresolved:
            return {**dict.fromkeys(names), "sampled_questions": 0}
        weights, scores = self._rollouts.snapshot(model), []
        try:
            for attempt in range(self.pmc.sampling.max_attempts):
                chosen = self._rollouts.sample(
                    [self._numbers[id_] for id_ in unresolved],
                    weights,
                    self._selector,
                    (block[0].index, attempt)[: 1 + bool(attempt)],
                    expected=self._expected,
                    note=note,
                )
                scores += [(choice.score, choice.scores) for choice in chosen.values()]
                given = self._share(unresolved, chosen.values())
                for number, choice in chosen.items():
                    if (id_ := self.ids[number]) not in given:
                        self.store.offer(id_, choice.answer, choice.score)
                unresolved = [id_ for id_ in unresolved if self.store.score(id_) > enough]
        except Preempted:
            self.restore(before)  # a round that is given up has changed nothing
            raise
        moments = algorithm.score_moments(scores)
        return {**dict(zip(names, moments, strict=True)), "sampled_questions": len(scores)}

    @property
    def _enough(self) -> float:
        """A score up to which an answer is good enough to be trained on and kept."""
        return self.pmc.selection.max_train_score or 0.0

    def _share(self, asked: Sequence[str], new: Iterable[Selection] = ()) -> set[str]:
        """Gives questions an answer that others have, or one of the new ones, where one is good
        enough and `pmc.selection.share_answers` asks for that; their ids.
        """
        if not self.pmc.selection.share_answers:
            return set()
        kept = [self.store.answer(i) for i in self.ids if self.store.score(i) <= self._enough]
        numbers = [self._numbers[id_] for id_ in asked]
        others = [answer for choice in new for answer in choice.others]
        given = self._selector.share(numbers, kept, others, self._enough)
        for number, (answer, score) in given.items():
            self.store.offer(self.ids[number], answer, score)
        return {self.ids[number] for number in given}

    def probe(self, model: Decoder) -> np.ndarray:
        """Scores of `pmc.reward_samples` fresh samples of every question, float64 [N,M]; the same
        random numbers every time.
        """
        with self._watch.stage("evaluate"):
            answers = self._generator.sample(
                self._generator.snapshot(model),
                self._questions,
                self._rollouts.sampler,
                num_samples=self.pmc.reward_samples,
                max_new_tokens=self.pmc.sampling.max_new_tokens,
                batch_size=self.pmc.sampling.batch_size,
                seed=self._seed,
            )
            return self._selector.scores(answers)

    def rows(self, step: Step) -> Mapping[str, TermRows]:
        """The stored answers of a step and, for PMC-alignment, refusals."""
        ids = [self.ids[i] for i in step.forget]
        weights = self.store.trainable(ids, self.pmc.selection.max_train_score).tolist()
        rows = {"collapse": TermRows([self._sequence(i, step.index) for i in step.forget], weights)}
        if self._refusals[0]:
            chosen = [
                self._refusals[i][refusal_of(self._seed, step.index, i, len(self._refusals[i]))]
                for i in step.forget
            ]
            rows["refusal"] = TermRows(chosen, factor=self._batch_score(ids))
        return rows

    def _batch_score(self, ids: Sequence[str]) -> float:
        """Mean stored score, 1 where nothing is stored."""
        return float(np.mean([min(1.0, self.store.score(id_)) for id_ in ids]))

    def _sequence(self, index: int, step: int) -> TokenSequence:
        prompt = self._prompt(index, step)
        encoder, stored = self._generator.encoder, self.store.answer(self.ids[index]) or ""
        opening = algorithm.sample_answer_prefix(
            self._openings[index], self.pmc.augmentation.answer_prefix, self._seed, step, index
        )
        answer = [*encoder.plain(stored), encoder.end_token] if opening else encoder.answer(stored)
        prompt = prompt + opening
        room = min(self.longest, self._generator.lm.config.longest(len(prompt))) - len(prompt)
        tokens = np.array(prompt + answer[:room], np.int32)
        return TokenSequence(tokens, len(prompt), self.ids[index])

    def _prompt(self, index: int, step: int) -> list[int]:
        whole, dropout = self.prompts[index], self.pmc.augmentation.question_word_dropout
        if not dropout:
            return whole
        question = self._questions[index]
        question = algorithm.question_word_dropout(question, dropout, self._seed, step, index)
        prompt = self._generator.encoder.prompt(question)
        # A word that has come to the front may have more tokens there than before.
        return prompt if len(prompt) <= len(whole) else whole

    def scalars(self) -> Mapping[str, float]:
        return {
            "selected_score": self.store.mean_score(),
            "unresolved": len(self.store.unresolved(self.ids)),
        }

    def summary(self) -> Mapping[str, Any]:
        answers = [self.store.answer(id_) for id_ in self.ids]
        return {
            "mean_score": self.store.mean_score(),
            "unresolved": len(self.store.unresolved(self.ids)),
            "overlap_with_original": algorithm.overlap(list(self.originals.values()), answers),
        }

    def is_done(self, model: Decoder) -> bool:
        """Whether every stored answer is resolved and so, on the mean, is what the model says
        greedily (`pmc.stop.max_score`).
        """
        if self.store.unresolved(self.ids):
            return False
        answers = self._generator.greedy(
            self._generator.snapshot(model),
            self._questions,
            max_new_tokens=self.pmc.sampling.max_new_tokens,
            batch_size=self.pmc.sampling.batch_size,
        )
        scores = self._selector.scores([[answers[question]] for question in self._questions])
        return float(scores.mean()) <= self.pmc.stop.max_score

    def end(self) -> None:
        """Warns of questions that were sampled and never trained on."""
        limit = self.pmc.selection.max_train_score
        kept = self.store.trainable(self.ids, limit)
        left = [id_ for id_, weight in zip(self.ids, kept, strict=True) if not weight]
        if left and self.usage.useful:
            named = first_of(left, 5)
            _log.warning(
                "%d of %d forget questions are not unlearned (%s): none of their samples is an "
                "answer that scores at most pmc.selection.max_train_score=%s; raise that, "
                "pmc.sampling.num_samples or pmc.selection.max_perplexity",
                *(len(left), len(self.ids), named, limit),
            )

    def saved(self) -> Mapping[str, Any]:
        return {
            "store": self.store.to_dict(),
            "originals": list(self.originals.values()),
            **self._rollouts.state_dict(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.store = ResponseStore.from_dict(saved["store"], ids=self.ids)
        self._begin_from(saved["originals"])
        self._rollouts.load_state_dict(saved)
