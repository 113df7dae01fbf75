"""How much a run computes, from its settings: shapes of its programs, and how often each runs."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.sets import eval_set, finetune_set, forget_set
from pmc_jax.distributed.mesh import round_up
from pmc_jax.errors import UserError
from pmc_jax.sampling.buckets import largest_batch_shape
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.generator import pmc_sampler
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.training.order import total_steps
from pmc_jax.training.packing import Packer


@dataclasses.dataclass(frozen=True)
class TrainShape:
    """Of a training program: M micro-batches of R rows, S tokens and A answer positions."""

    micro_batches: int
    rows: int
    tokens: int
    answers: int
    terms: int

    @property
    def computed(self) -> int:
        """Tokens of a step, padding included."""
        return self.micro_batches * self.rows * self.tokens


@dataclasses.dataclass(frozen=True)
class SampleShape:
    """Of the sampling programs.

    Attributes:
        batch_shape: rows and slots per row.
        prompts: prefilled together.
        prompt_tokens: of each, padded.
        cache_size: generated tokens that the cache holds.
        sampler: token choice.
    """

    batch_shape: tuple[int, int]
    prompts: int
    prompt_tokens: int
    cache_size: int
    sampler: Sampler

    @property
    def slots(self) -> int:
        return math.prod(self.batch_shape)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A run.

    Attributes:
        train, finetune, sample: shapes; `finetune` None where no target is made.
        steps, finetune_steps: gradient steps.
        rounds: of sampling.
        asked: questions of all rounds, if none has a replacement before the end.
        samples: answers to them.
        greedy: answers of the untouched and of the unlearned model.
        answer_tokens: of an answer.
    """

    train: TrainShape
    finetune: TrainShape | None
    sample: SampleShape
    steps: int
    finetune_steps: int
    rounds: int
    asked: int
    samples: int
    greedy: int
    answer_tokens: int

    @property
    def decode_steps(self) -> int:
        """Of all answers, the batch full as long as samples wait."""
        a_round = -(-self.samples // max(1, self.rounds) // self.sample.slots)
        answers = self.rounds * a_round + -(-self.greedy // self.sample.slots)
        return answers * self.answer_tokens

    @property
    def prefills(self) -> int:
        """Batches of prompts."""
        return -(-(self.asked + self.greedy) // self.sample.prompts)


@dataclasses.dataclass(frozen=True)
class Rows:
    """How many rows a run has: to forget, to teach the target, and to be evaluated on."""

    forget: int
    finetune: int
    evaluate: int


def count_rows(config: Config) -> Rows:
    """Reads the data; where it is not here, numbers follow from that of the questions.

    Raises:
        UserError: the number of questions is neither set nor can the data be read.
    """
    questions = config.plan.questions or _count(config)
    finetune = 0
    if config.finetune.data:
        known = _rows_of(lambda: len(finetune_set(config.finetune.data, config.data)))
        finetune = known or 10 * questions
    evaluate = sum(
        _rows_of(lambda n=n, s=s: len(eval_set(n, s, config.data))) or questions
        for n, s in config.data.evaluate.items()
    )
    return Rows(questions, finetune, evaluate)


def workload(config: Config, rows: Rows, row_multiple: int) -> Workload:
    """The run that the settings describe, on a mesh with this many shards of rows.

    Raises:
        UserError: a method other than PMC.
    """
    plan, pmc, questions = config.plan, config.pmc, rows.forget
    if config.method.name != "pmc":
        raise UserError(f"method.name: {config.method.name}; only runs of pmc are planned")
    rows_a_step = config.train.batch_size * config.train.accumulation_steps
    steps = total_steps(questions, rows_a_step, pmc.schedule.epochs)
    finetune, finetune_steps = None, 0
    if config.finetune.data:
        a_step = config.finetune.batch_size * config.finetune.accumulation_steps
        finetune_steps = total_steps(rows.finetune, a_step, config.finetune.epochs)
        finetune = train_shape(config, config.finetune, row_multiple, terms=(1,))
    asked = min(questions, rows_a_step * pmc.schedule.steps_per_round)
    k, size = pmc.sampling.num_samples, pmc.sampling.batch_size
    b, k = largest_batch_shape(asked, k, size, platform="tpu")
    b = round_up(b, row_multiple)
    return Workload(
        train=train_shape(config, config.train, row_multiple, terms=(1, pmc.schedule.retain_rows)),
        finetune=finetune,
        sample=SampleShape(
            batch_shape=(b, k),
            prompts=min(b, round_up(Engine.prefill_batch, row_multiple)),
            prompt_tokens=round_up(plan.prompt_tokens, 16),
            cache_size=round_up(max(pmc.sampling.max_new_tokens - 1, 1), Engine.decode_chunk),
            sampler=pmc_sampler(pmc),
        ),
        steps=steps,
        finetune_steps=finetune_steps,
        rounds=-(-steps // pmc.schedule.steps_per_round),
        asked=questions * pmc.schedule.epochs,
        samples=questions * pmc.schedule.epochs * pmc.sampling.num_samples,
        greedy=questions + 2 * rows.evaluate,
        answer_tokens=min(plan.answer_tokens, pmc.sampling.max_new_tokens),
    )


def train_shape(
    config: Config, settings: TrainConfig, row_multiple: int, *, terms: Sequence[int]
) -> TrainShape:
    """What the trainer's own packer makes of sequences of the expected length, one of them as long
    as `data.max_length` allows; `terms` are the rows of each term for one of the batch.
    """
    plan, longest = config.plan, config.data.max_length
    length = min(plan.prompt_tokens + plan.answer_tokens, longest)

    def sequence(tokens: int) -> TokenSequence:
        begin = min(plan.prompt_tokens, tokens - 1)
        return TokenSequence(np.zeros(tokens, np.int32), begin)

    batch = sum(terms) * settings.batch_size
    packer = Packer.fit(np.zeros(0, np.int32), [length], longest, batch, row_multiple)
    one = [sequence(longest), *[sequence(length)] * (settings.batch_size - 1)]
    packed = packer.pack([one * n for n in terms], [1.0] * len(terms))
    _, rows, tokens = packed.tokens.shape
    answers = packed.answer_positions.shape[2]
    if plan.rows or plan.row_tokens:
        rows = round_up(plan.rows or rows, row_multiple)
        tokens = plan.row_tokens or tokens
        answers = max(32, 32 * (tokens // 64))
    return TrainShape(settings.accumulation_steps, rows, tokens, answers, len(terms))


def _count(config: Config) -> int:
    if config.data.forget.path is None:
        raise UserError("data.forget.path: not given; name the questions, or set plan.questions")
    try:
        return len(forget_set(config.data.forget, config.data))
    except UserError as error:
        raise UserError(f"{error}; or set plan.questions to their number") from None


def _rows_of(read) -> int:
    """How many rows a source has, 0 where it is not here."""
    try:
        return read()
    except UserError:
        return 0
