"""Forget questions asked of the model as it is: K samples each, and the choice among them.

While the device decodes one group of questions, a host thread scores the group before.
"""

import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet
from pmc_jax.distributed import multihost
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.engine import Engine, Samples, Usage
from pmc_jax.sampling.generator import TextGenerator, pmc_sampler
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.unlearning.selection import Selection, Selector


class RolloutSampler:
    """Samples questions as `pmc` says, in grids that stay the same all through a run.

    Args:
        generator: how the model is asked.
        forget: N questions.
        config: of the run.
        watch: clock of the stages `sample` and `score`.

    Attributes:
        prompts: token ids of the questions.
        sampler: how tokens are drawn, stubborn questions apart.
        usage: tokens that were sampled.

    Raises:
        UserError: prompts that are too long.
    """

    def __init__(
        self, generator: TextGenerator, forget: ForgetSet, config: Config, watch: Stopwatch
    ):
        pmc = config.pmc
        self.prompts = generator.prompts(forget.questions, pmc.max_new_tokens, ids=forget.ids)
        self.sampler, self.usage = pmc_sampler(pmc), Usage()
        self._generator, self._pmc, self._seed, self._watch = generator, pmc, config.seed, watch
        self._asked = np.zeros(len(forget), int)  # times that each question was sampled
        self._most = config.train.batch_size * config.train.accumulation_steps * pmc.steps_per_round
        self._usual = self._engine(self.sampler, pmc.num_samples)

    @functools.cached_property
    def _stubborn(self) -> Engine:
        """What asks questions that stay unresolved."""
        sampler = dataclasses.replace(self.sampler, temperature=self._pmc.stubborn_temperature)
        return self._engine(sampler, self._pmc.stubborn_samples)

    def _engine(self, sampler: Sampler, num_samples: int) -> Engine:
        return self._generator.engine(
            self.prompts,
            sampler,
            num_samples=num_samples,
            max_new_tokens=self._pmc.max_new_tokens,
            batch_size=self._pmc.sample_batch_size,
            most=self._most,
        )

    def snapshot(self, model: Decoder) -> SamplingWeights:
        """The weights as a round samples from them."""
        with self._watch.stage("sample"):
            return self._generator.snapshot(model)

    def ask(
        self,
        numbers: Sequence[int],
        weights: SamplingWeights,
        judge: Selector,
        draw: tuple[int, ...],
        *,
        expected: Sequence[int],
        note: Callable[[str], None],
    ) -> dict[int, Selection]:
        """Samples each question, as usual or as a stubborn one.

        Args:
            numbers: of the questions.
            weights: from `snapshot`.
            judge: chooses.
            draw: number of the step and, beyond the first, of the attempt.
            expected: tokens of an answer to each of the N questions.
            note: is told how far sampling has come; may raise `Preempted`.

        Returns:
            Its choice by the number of the question.
        """
        patience = self._pmc.patience or math.inf
        usual = [i for i in numbers if self._asked[i] < patience]
        others = [i for i in numbers if self._asked[i] >= patience]
        chosen = {}
        for asked, engine in ((usual, lambda: self._usual), (others, lambda: self._stubborn)):
            if asked:
                chosen |= self._sample(asked, engine(), weights, judge, draw, expected, note)
        self._asked[list(chosen)] += 1
        return chosen

    def _sample(
        self,
        numbers: Sequence[int],
        engine: Engine,
        weights: SamplingWeights,
        judge: Selector,
        draw: tuple[int, ...],
        expected: Sequence[int],
        note: Callable[[str], None],
    ) -> dict[int, Selection]:
        def choose(texts: dict[int, list[str]], samples: Samples) -> list[tuple[int, Selection]]:
            # One by one: questions come as their samples end, which no result may depend on.
            place = {row: i for i, row in enumerate(samples.rows.tolist())}
            return [
                (row, judge.choose(numbers[row], answers, samples, place[row], draw))
                for row, answers in texts.items()
            ]

        with concurrent.futures.ThreadPoolExecutor(1) as scorer, self._watch.stage("sample"):
            groups = self._generator.texts(
                engine,
                weights,
                [self.prompts[i] for i in numbers],
                key=functools.reduce(jax.random.fold_in, draw, jax.random.key(self._seed)),
                ids=numbers,
                expected=[expected[i] for i in numbers],
                usage=self.usage,
                progress=lambda tokens: note(f"sampling {self.usage.useful:,} tokens"),
            )
            pending = [scorer.submit(choose, texts, samples) for samples, texts in groups]
            with self._watch.stage("score"):
                own = [chosen for p in pending for chosen in p.result()]
                shares = multihost.gather(own)
        found = {row: Selection(*choice) for share in shares for row, choice in share}
        # In the order of the questions: sums do not depend on whose samples ended first.
        return {number: found[row] for row, number in enumerate(numbers)}

    def saved(self) -> Mapping[str, Any]:
        """JSON for a checkpoint."""
        return {"asked": self._asked.tolist(), "usage": dataclasses.asdict(self.usage)}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `saved` returned."""
        self._asked = np.array(saved["asked"])
        self.usage = Usage(**saved["usage"])
