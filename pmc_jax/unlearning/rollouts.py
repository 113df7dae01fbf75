"""Samples K answers to each forget question of a round under the current weights.

While the device decodes one group of questions, a host thread scores the previous group.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Sequence

import jax

from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet
from pmc_jax.data.thoughts import answer_of
from pmc_jax.distributed import multihost
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.engine import Samples
from pmc_jax.sampling.generator import TextGenerator, pmc_sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.unlearning.pmc import Rollout, Selection


class RolloutSampler:
    """Sampler of answers that uses the settings `pmc.sampling` and the same shapes in all rounds.

    Args:
        generator: the target model with its prompts and its decoding.
        forget: N forget questions.
        config: settings of the run.
        watch: stopwatch for the stages `sample` and `score`.

    Attributes:
        prompts: token ids of each question's prompt.
        sampler: settings with which tokens are drawn, such as the temperature.
        usage: number of sampled tokens.

    Raises:
        UserError: a prompt is too long.
    """

    def __init__(
        self, generator: TextGenerator, forget: ForgetSet, config: Config, watch: Stopwatch
    ):
        pmc, train = config.pmc, config.train
        self.prompts = generator.prompts(
            forget.questions, pmc.sampling.max_new_tokens, ids=forget.ids
        )
        self.sampler, self.usage = pmc_sampler(pmc), Usage()
        self._index = {id_: i for i, id_ in enumerate(forget.ids)}
        self._generator, self._seed, self._watch = generator, config.seed, watch
        self._engine = generator.engine(
            self.prompts,
            self.sampler,
            num_samples=pmc.sampling.num_samples,
            max_new_tokens=pmc.sampling.max_new_tokens,
            batch_size=pmc.sampling.batch_size,
            max_prompts=train.batch_size * train.accumulation_steps * pmc.schedule.steps_per_round,
        )

    def snapshot(self, model: Decoder) -> SamplingWeights:
        """Returns the model's weights in the layout and the dtype that sampling uses."""
        with self._watch.stage("sample"):
            return self._generator.snapshot(model)

    def sample(
        self,
        ids: Sequence[str],
        score_and_select: Callable[[str, Rollout], Selection],
        *,
        weights: SamplingWeights,
        draw: Sequence[int],
        expected_tokens: Sequence[int],
        report: Callable[[str], None],
    ) -> list[Selection]:
        """Samples K answers to each question and selects one of them.

        Args:
            ids: ids of the questions.
            score_and_select: function to call in a host thread with a question id and its samples.
            weights: weights from `snapshot`.
            draw: index of the step, followed by the number of the attempt after the first attempt.
            expected_tokens: expected number of tokens in an answer to each forget question.
            report: function to call with a text about the progress. The function may raise
                `Preempted`.

        Returns:
            The selections in the order of `ids`.
        """
        if not ids:
            return []
        questions = [self._index[id_] for id_ in ids]

        def select_each(
            texts: dict[int, list[str]], samples: Samples
        ) -> list[tuple[int, Selection]]:
            # Each question is scored alone, so the order in which samples end has no effect.
            selections = []
            for i, row in enumerate(samples.questions.tolist()):
                if row in texts:
                    answered = list(map(answer_of, texts[row]))
                    answers = Rollout(answered, samples.length[i], samples.mean_nll[i])
                    selections.append((row, score_and_select(ids[row], answers)))
            return selections

        with concurrent.futures.ThreadPoolExecutor(1) as scorer, self._watch.stage("sample"):
            groups = self._generator.generate(
                self._engine,
                weights,
                [self.prompts[i] for i in questions],
                key=functools.reduce(jax.random.fold_in, draw, jax.random.key(self._seed)),
                ids=questions,
                expected=[expected_tokens[i] for i in questions],
                usage=self.usage,
                progress=lambda tokens: report(f"sampling {self.usage.useful:,} tokens"),
            )
            pending = [scorer.submit(select_each, texts, samples) for samples, texts in groups]
            with self._watch.stage("score"):
                own = [selection for p in pending for selection in p.result()]
                gathered = multihost.gather(own)
        by_row = {row: Selection(*fields) for rows in gathered for row, fields in rows}
        # The selections are in the order of the questions, so that sums do not depend on which
        # samples ended first.
        return [by_row[row] for row in range(len(ids))]
