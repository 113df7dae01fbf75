"""Samples K answers to each forget question of a round under the current weights.

A question has one or more variants (`variants.Variant`), which share the K samples equally. While
the device decodes one group of questions, a host thread scores the previous group.
"""

import concurrent.futures
import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import Config
from pmc_jax.data.thoughts import answer_of
from pmc_jax.distributed import multihost
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.engine import Samples
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.unlearning.pmc import Rollout, Selection
from pmc_jax.unlearning.variants import Variant


class RolloutSampler:
    """Sampler of answers that uses the settings `pmc.sampling` and the same shapes in all rounds.

    Args:
        generator: the target model with its prompts and its decoding.
        ids: ids of the N forget questions.
        variants: variants of each question. All questions have the same number V of variants.
        sampler: settings with which tokens are drawn, such as the temperature.
        config: settings of the run.
        watch: stopwatch for the stages `sample` and `score`.

    Attributes:
        usage: counters of the sampled tokens.
    """

    def __init__(
        self,
        generator: TextGenerator,
        ids: Sequence[str],
        variants: Sequence[Sequence[Variant]],
        *,
        sampler: Sampler,
        config: Config,
        watch: Stopwatch,
    ):
        pmc, train, self.usage = config.pmc, config.train, Usage()
        self._index = {id_: i for i, id_ in enumerate(ids)}
        self._variants, self._each = variants, len(variants[0]) if variants else 1
        self._generator, self._seed, self._watch = generator, config.seed, watch
        rows_per_round = train.step_rows * pmc.schedule.steps_per_round
        self._engine = generator.engine(
            [variant.prompt for row in variants for variant in row],
            sampler,
            num_samples=math.ceil(pmc.sampling.num_samples / self._each),
            max_new_tokens=pmc.sampling.max_new_tokens,
            batch_size=pmc.sampling.batch_size,
            max_prompts=rows_per_round * self._each,
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
        find_useless: Callable[[str, Rollout], np.ndarray] | None = None,
    ) -> list[Selection]:
        """Samples K answers to each question and passes them to `score_and_select`.

        Args:
            ids: ids of the questions.
            score_and_select: function to call in a host thread with a question id and its samples.
            weights: weights from `snapshot`.
            draw: index of the first step in the round, followed by the index of the attempt unless
                this index is 0.
            expected_tokens: expected number of tokens in an answer to each forget question.
            report: function to call with a text about the progress. The function may raise
                `Preempted`.
            find_useless: function that returns for a question id and its samples so far whether
                each of them can end early, bool [K]. Questions must have one variant.

        Returns:
            The selections in the order of `ids`.
        """
        if not ids:
            return []
        questions, each = [self._index[id_] for id_ in ids], self._each
        variants = [variant for i in questions for variant in self._variants[i]]
        parts: dict[int, dict[int, Rollout]] = {}  # by question and variant, until all have ended

        def select_each(
            texts: dict[int, list[str]], samples: Samples
        ) -> list[tuple[int, Selection]]:
            # Each question is scored alone, so the order in which samples end has no effect.
            selections = []
            for i, prompt in enumerate(samples.questions.tolist()):
                if prompt not in texts:
                    continue
                row, variant = divmod(prompt, each)
                answers = [variants[prompt].restore(answer_of(text)) for text in texts[prompt]]
                parts.setdefault(row, {})[variant] = rollout(answers, samples, i)
                if len(parts[row]) == each:
                    ended = parts.pop(row)
                    answers = joined([ended[v] for v in range(each)])
                    selections.append((row, score_and_select(ids[row], answers)))
            return selections

        def find(samples: Samples, texts: dict[int, list[str]]) -> list[tuple[int, int]]:
            useless = []
            for i, row in enumerate(samples.questions.tolist()):
                if row in texts:
                    answers = rollout(list(map(answer_of, texts[row])), samples, i)
                    which = np.flatnonzero(find_useless(ids[row], answers))
                    useless += [(row, sample) for sample in which.tolist()]
            return useless

        with concurrent.futures.ThreadPoolExecutor(1) as scorer, self._watch.stage("sample"):
            groups = self._generator.generate(
                self._engine,
                weights,
                [variant.prompt for variant in variants],
                openings=[variant.opening for variant in variants],
                group=each,
                is_prefilled=any(variant.opening for variant in variants),
                key=functools.reduce(jax.random.fold_in, draw, jax.random.key(self._seed)),
                ids=[i * each + v for i in questions for v in range(each)],
                expected=[expected_tokens[i] for i in questions for _ in range(each)],
                usage=self.usage,
                find_useless=find if find_useless else None,
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


def rollout(texts: list[str], samples: Samples, i: int) -> Rollout:
    """Returns the answers to the question at position `i` of the samples."""
    s = samples
    return Rollout(texts, s.length[i], s.mean_nll[i], s.ended[i], s.is_whole[i])


def joined(parts: Sequence[Rollout]) -> Rollout:
    """Joins the answers to the variants of a question, in the order of the variants."""
    if len(parts) == 1:
        return parts[0]
    texts = [text for part in parts for text in part.texts]
    arrays = zip(*(part[1:] for part in parts), strict=True)
    return Rollout(texts, *map(np.concatenate, arrays))
