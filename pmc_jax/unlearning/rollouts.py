"""Forget questions asked of the model as it is: K samples each, and the choice among them.

While the device decodes one group of questions, a host thread scores the group before.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet
from pmc_jax.distributed import multihost
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.engine import Samples, Usage
from pmc_jax.sampling.generator import TextGenerator, pmc_sampler
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
        sampler: how tokens are drawn.
        usage: tokens that were sampled.

    Raises:
        UserError: prompts that are too long.
    """

    def __init__(
        self, generator: TextGenerator, forget: ForgetSet, config: Config, watch: Stopwatch
    ):
        pmc = config.pmc
        self.prompts = generator.prompts(
            forget.questions, pmc.sampling.max_new_tokens, ids=forget.ids
        )
        self.sampler, self.usage = pmc_sampler(pmc), Usage()
        self._generator, self._pmc, self._seed, self._watch = generator, pmc, config.seed, watch
        self._engine = generator.engine(
            self.prompts,
            self.sampler,
            num_samples=pmc.sampling.num_samples,
            max_new_tokens=pmc.sampling.max_new_tokens,
            batch_size=pmc.sampling.batch_size,
            max_prompts=config.train.batch_size
            * config.train.accumulation_steps
            * pmc.schedule.steps_per_round,
        )

    def snapshot(self, model: Decoder) -> SamplingWeights:
        """The weights as a round samples from them."""
        with self._watch.stage("sample"):
            return self._generator.snapshot(model)

    def sample(
        self,
        numbers: Sequence[int],
        weights: SamplingWeights,
        selector: Selector,
        draw: tuple[int, ...],
        *,
        expected: Sequence[int],
        note: Callable[[str], None],
    ) -> dict[int, Selection]:
        """Samples each question.

        Args:
            numbers: of the questions.
            weights: from `snapshot`.
            selector: chooses.
            draw: number of the step and, beyond the first, of the attempt.
            expected: tokens of an answer to each of the N questions.
            note: is told how far sampling has come; may raise `Preempted`.

        Returns:
            Its choice by the number of the question.
        """

        def choose(texts: dict[int, list[str]], samples: Samples) -> list[tuple[int, Selection]]:
            # One by one: questions come as their samples end, which no result may depend on.
            place = {row: i for i, row in enumerate(samples.questions.tolist())}
            return [
                (row, selector.choose(numbers[row], answers, samples, place[row], draw))
                for row, answers in texts.items()
            ]

        with concurrent.futures.ThreadPoolExecutor(1) as scorer, self._watch.stage("sample"):
            groups = self._generator.generate(
                self._engine,
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

    def state_dict(self) -> Mapping[str, Any]:
        """JSON for a checkpoint."""
        return {"usage": dataclasses.asdict(self.usage)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` returned."""
        self.usage = Usage(**state["usage"])
