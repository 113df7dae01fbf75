"""Connects the PMC algorithm (`pmc.py`) with the model, the tokenizer and the settings.

This module uses no true forget answers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.thoughts import answer_of
from pmc_jax.distributed import multihost
from pmc_jax.errors import Preempted
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.base import Score, score_batch
from pmc_jax.training.order import Step
from pmc_jax.unlearning.admission import Admission
from pmc_jax.unlearning.asking import Asking, Knowledge
from pmc_jax.unlearning.extensions import run_attempts, share_answers
from pmc_jax.unlearning.metrics import overlap, score_moments
from pmc_jax.unlearning.pmc import Rollout, Selection, run_round, step_rows
from pmc_jax.unlearning.pmc_warnings import (
    warn_of_unknown,
    warn_of_unreplaced,
    warn_of_wordless,
)
from pmc_jax.unlearning.refusals import refusal_of
from pmc_jax.unlearning.replacement_encoder import ReplacementEncoder
from pmc_jax.unlearning.rollouts import RolloutSampler
from pmc_jax.unlearning.selection import Selector
from pmc_jax.unlearning.source import RowSource, TermRows
from pmc_jax.unlearning.stopping import ForgetTest
from pmc_jax.unlearning.store import ReplacementStore


class PMCSource(RowSource):
    """`RowSource` of PMC and PMC-alignment.

    Args:
        generator: the target model with its prompts and its decoding.
        forget: the forget questions.
        retain: the retain pairs, whose words a replacement answer may contain.
        originals: original answers to the forget questions.
        refusals: refusals that PMC-alignment trains on. The sequence is empty for PMC.
        config: settings of the run.
        recorder: recorder whose stopwatch measures the time of the stages.
        score: function or name of a score that replaces `pmc.score.name` and `pmc.score.weights`.
            A function maps an original answer and its samples to scores. Lower is better.

    Attributes:
        store: store of the best answer so far to every question.

    Raises:
        UserError: a prompt is too long, the score is unknown, or the questions cannot be asked as
            `pmc.answer` requires.
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
        self.ids, self._config, self._pmc, self._seed = forget.ids, config, pmc, config.seed
        self._generator, self._forget, self._retain = generator, forget, retain
        self._custom_score, self._watch = score, recorder.watch
        prompts = generator.prompts(forget.questions, pmc.sampling.max_new_tokens, ids=forget.ids)
        self.prompts = list(map(generator.encoder.before_answer, prompts))
        self._asking = Asking(generator, forget, retain, prompts, config)
        self._rollouts = RolloutSampler(
            generator,
            forget.ids,
            self._asking.variants,
            sampler=self._asking.sampler,
            config=config,
            watch=recorder.watch,
        )
        self.usage = self._rollouts.usage
        self._knowledge: Knowledge | None = None  # It is measured before the first step.
        self.store = ReplacementStore(forget.ids, guard_empty=pmc.score.guard_empty)
        self._refusals = [
            [generator.encoder.sequence(question, refusal, id_) for refusal in refusals]
            for id_, question in zip(forget.ids, forget.questions, strict=True)
        ]
        sampling = pmc.sampling
        self._limits = dict(max_new_tokens=sampling.max_new_tokens, batch_size=sampling.batch_size)
        # A question whose answer has at most this score needs no further attempt.
        self._good_enough = pmc.selection.max_train_score or 0.0
        self._encoder = ReplacementEncoder(
            generator,
            forget,
            self.prompts,
            self.store,
            config=config,
            subjects=self._asking.subjects,
            longest_opening=self._asking.longest_opening,
            refusals=[sequence for row in self._refusals for sequence in row],
        )
        self._set_originals(originals)

    @property
    def replacements(self) -> dict[str, tuple[str | None, float]]:
        return self.store.replacements

    def _set_originals(self, originals: Sequence[str]) -> None:
        """Sets the original answers, and the score and the lengths that depend on them."""
        encoder = self._generator.encoder
        self.originals = dict(zip(self.ids, originals, strict=True))
        self._forget_test: ForgetTest | None = None  # It is made when it is needed.
        self._set_selector()
        answers = multihost.map_sharded(lambda i: encoder.answer(originals[i]), len(originals))
        self._expected_tokens = [len(answer) for answer in answers]
        pairs = zip(self.prompts, self._expected_tokens, strict=True)
        self.lengths = [len(prompt) + length for prompt, length in pairs]
        self._encoder.set_originals(originals, self._expected_tokens)

    def _set_selector(self) -> None:
        """Sets the score and the rules for samples from the original answers and the knowledge."""
        originals = list(self.originals.values())
        admission = Admission(
            self._pmc,
            self._forget,
            originals,
            self._retain,
            said=self._knowledge.said if self._knowledge else (),
            subjects=self._asking.subjects,
            abstentions=self._asking.abstentions,
            words=self._asking.words,
        )
        self._selector = Selector(
            self._pmc,
            self._forget,
            originals,
            self._retain,
            admission=admission,
            encode=self._generator.encoder.plain,
            seed=self._seed,
            score=self._custom_score,
            words=self._config.data.words,
        )

    def prepare_round(
        self, steps: Sequence[Step], model: Decoder, report: Callable[[str], None]
    ) -> dict[str, Any]:
        """Samples answers to those questions of the steps that need an answer (`pmc.run_round`)."""
        if self._knowledge is None and self._asking.measures_knowledge:
            self._measure_knowledge(model)
        before = self.state_dict()
        questions = self._unreplaced(self.ids[i] for step in steps for i in step.forget)
        if self._pmc.selection.share_answers:
            # Only questions that no stored answer fits are sampled.
            shared = self._shared(questions, ())
            for id_, (answer, score) in shared.items():
                self.store.offer(id_, answer, score)
            questions = [id_ for id_ in questions if id_ not in shared]
        weights = self._rollouts.snapshot(model) if questions else None

        def attempt_round(ids: Sequence[str], attempt: int) -> list[Selection]:
            draw = (steps[0].index, attempt) if attempt else (steps[0].index,)
            sample = functools.partial(
                self._rollouts.sample,
                weights=weights,
                draw=draw,
                expected_tokens=self._expected_tokens,
                report=report,
                find_useless=self._find_useless if self._ends_early else None,
            )
            return run_round(
                self.store,
                ids,
                self.originals,
                sample=sample,
                score=self._selector.score,
                select=functools.partial(
                    self._selector.select, draw=draw, variants=self._asking.count
                ),
                revise=self._share_new if self._pmc.selection.share_answers else list,
            )

        try:
            selections = run_attempts(
                self.store,
                questions,
                attempt_round,
                max_attempts=self._pmc.sampling.max_attempts,
                good_enough=self._good_enough,
            )
        except Preempted:
            # A resumed run repeats the interrupted round from the beginning.
            self.load_state_dict(before)
            raise
        return score_moments(selections)

    @property
    def _ends_early(self) -> bool:
        """Whether samples end early.

        In the answer of a model that thinks, a later mark may turn earlier words into a thought.
        """
        wanted, encoder = self._pmc.sampling.end_early, self._generator.encoder
        if wanted is None:
            wanted = self._generator.layout.platform == "cpu"
        return wanted and self._selector.can_end_early and not encoder.may_think

    def _find_useless(self, id_: str, answers: Rollout) -> np.ndarray:
        """Returns which samples of a question can end early, because no step would read them."""
        limit = self.store.score(id_)
        most = self._pmc.selection.max_train_score
        if most is not None and not self._refusals[0]:  # PMC-alignment reads all stored scores.
            limit = min(limit, most)
        return self._selector.find_useless(id_, answers, limit)

    @property
    def _skipped(self) -> frozenset[str]:
        """Ids of the questions that are left out, because the model does not know their answers."""
        skips = self._knowledge is not None and self._pmc.subject.unknown == "skip"
        return frozenset(self._knowledge.unknown if skips else ())

    def _unreplaced(self, ids: Iterable[str]) -> list[str]:
        return [id_ for id_ in self.store.unreplaced(ids) if id_ not in self._skipped]

    def _measure_knowledge(self, model: Decoder) -> None:
        """Finds the questions whose answers the target model does not know, before training."""
        with self._watch.stage("sample"):
            originals = list(self.originals.values())
            self._knowledge = self._asking.measure_knowledge(model, originals)
        self._set_selector()
        if self._knowledge.unknown:
            warn_of_unknown(self._knowledge.unknown, len(self.ids), self._pmc)

    def _share_new(self, selections: list[Selection]) -> list[Selection]:
        """Replaces each selection with a stored or new shared answer if such an answer fits."""
        new = [answer for selection in selections for answer in selection.shareable]
        shared = self._shared([s.question for s in selections], new)
        revised = []
        for s in selections:
            if s.question in shared:
                answer, score = shared[s.question]
                s = s._replace(answer=answer, score=score, others=())
            revised.append(s)
        return revised

    def _shared(
        self, questions: Sequence[str], new: Sequence[tuple[str, float]]
    ) -> dict[str, tuple[str, float]]:
        return share_answers(
            questions,
            [answer for answer, score in self.replacements.values() if score <= self._good_enough],
            new,
            score=self._selector.score_shared,
            good_enough=self._good_enough,
            secrets=self._selector.secrets,
        )

    def rows(self, step: Step, retain: Sequence[TokenSequence]) -> Mapping[str, TermRows]:
        """Returns the rows from `pmc.step_rows` and, for PMC-alignment, the refusals."""
        limit = self._pmc.selection.max_train_score
        rows = step_rows(step, self.store, self.ids, self._encoder.sequence, retain, limit)
        if self._refusals[0]:
            chosen = [
                self._refusals[i][refusal_of(self._seed, step.index, i, len(self._refusals[i]))]
                for i in step.forget
            ]
            # Refusals have weight as long as the stored answers are similar to the original
            # answers.
            scores = [min(1.0, self.store.score(self.ids[i])) for i in step.forget]
            rows["refusal"] = TermRows(chosen, factor=float(np.mean(scores)))
        return rows

    def scalars(self) -> Mapping[str, float]:
        return {
            "selected_score": self.store.mean_score(),
            "unreplaced": len(self._unreplaced(self.ids)),
        }

    def summary(self) -> Mapping[str, Any]:
        return {
            "mean_score": self.store.mean_score(),
            "unreplaced": len(self._unreplaced(self.ids)),
            "overlap_with_original": overlap(
                self.originals, self.replacements, self._selector.words
            ),
        }

    def fresh_scores(self, model: Decoder) -> np.ndarray | None:
        """Scores `pmc.reward_samples` new samples for each question.

        Every call uses the same random numbers.

        Returns:
            Scores float64 [questions, samples], or None if `pmc.reward_samples` is 0.
        """
        if not self._pmc.reward_samples:
            return None
        with self._watch.stage("evaluate"):
            answers = self._generator.sample(
                self._generator.snapshot(model),
                self._forget.questions,
                self._asking.sampler,
                num_samples=self._pmc.reward_samples,
                seed=self._seed,
                **self._limits,
            )
            answers = [list(map(answer_of, texts)) for texts in answers]
            return score_batch(self._selector.score, list(self.originals.values()), answers)

    def still_answered(self, model: Decoder) -> list[int]:
        """Returns the questions that the model still answers. Skipped questions do not count."""
        return self._test().still_answered(model, self._asked)

    def is_done(self, model: Decoder) -> bool:
        """Returns whether all questions have answers of score 0 and none tells its secret.

        Skipped questions do not count.
        """
        return not self._unreplaced(self.ids) and self._test().passes(model, self._asked)

    @property
    def _asked(self) -> list[int]:
        return [i for i, id_ in enumerate(self.ids) if id_ not in self._skipped]

    def _test(self) -> ForgetTest:
        if self._forget_test is None:
            originals = list(self.originals.values())
            how = (self._generator, self._forget, self._retain, originals, self._config)
            self._forget_test = ForgetTest(*how)
        return self._forget_test

    def finish(self) -> None:
        """Warns of questions without an answer to train on, and of originals that have no word."""
        if self._selector.wordless:
            warn_of_wordless(self._selector.wordless, len(self.ids))
        limit = self._pmc.selection.max_train_score
        weighted = zip(self.ids, self.store.trainable(self.ids, limit), strict=True)
        left = [id_ for id_, weight in weighted if not weight and id_ not in self._skipped]
        if left and self.usage.useful:
            warn_of_unreplaced(left, len(self.ids), self._pmc)

    def state_dict(self) -> Mapping[str, Any]:
        return {
            "store": self.store.state_dict(),
            "originals": list(self.originals.values()),
            "knowledge": self._knowledge and dataclasses.asdict(self._knowledge),
            "usage": dataclasses.asdict(self.usage),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.store.load_state_dict(state["store"])
        if (known := state["knowledge"]) is not None:
            self._knowledge = Knowledge(tuple(known["said"]), tuple(known["unknown"]))
        self._set_originals(state["originals"])
        self.usage = self._rollouts.usage = Usage(**state["usage"])
