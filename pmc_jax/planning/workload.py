"""The workload of a run, from its settings: shapes of its programs, and how often each runs."""

import dataclasses
import math
from collections.abc import Callable, Sequence, Sized

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
    """Shape of a training program.

    Attributes:
        micro_batches: micro-batches per gradient step.
        rows: rows per micro-batch.
        tokens: tokens per row.
        answers: answer positions per row.
        terms: terms of the loss.
    """

    micro_batches: int
    rows: int
    tokens: int
    answers: int
    terms: int

    @property
    def step_tokens(self) -> int:
        """Tokens per gradient step, padding included."""
        return self.micro_batches * self.rows * self.tokens


@dataclasses.dataclass(frozen=True)
class SampleShape:
    """Shape of the sampling programs.

    Attributes:
        batch_shape: rows and slots per row.
        prompts: number of prompts that are prefilled together.
        prompt_tokens: tokens per prompt, padding included.
        cache_size: generated tokens per slot that the cache holds.
        sampler: token choice.
    """

    batch_shape: tuple[int, int]
    prompts: int
    prompt_tokens: int
    cache_size: int
    sampler: Sampler

    @property
    def step_tokens(self) -> int:
        """Tokens per decode step, one per slot."""
        return math.prod(self.batch_shape)


@dataclasses.dataclass(frozen=True)
class Workload:
    """The programs of a run and how often they run.

    Attributes:
        train, finetune, sample: shapes; `finetune` is None if the run makes no target model.
        steps, finetune_steps: number of gradient steps.
        rounds: number of sampling rounds.
        questions: questions of all rounds, if each round samples all its questions.
        samples: sampled answers to these questions.
        greedy: number of greedy answers, of the untouched and the unlearned model.
        answer_tokens: tokens per answer.
    """

    train: TrainShape
    finetune: TrainShape | None
    sample: SampleShape
    steps: int
    finetune_steps: int
    rounds: int
    questions: int
    samples: int
    greedy: int
    answer_tokens: int

    @property
    def decode_steps(self) -> int:
        """Decode steps of all answers, if the batch is full while samples wait."""
        slots = self.sample.step_tokens
        a_round = -(-self.samples // max(1, self.rounds) // slots)
        return (self.rounds * a_round + -(-self.greedy // slots)) * self.answer_tokens

    @property
    def prefills(self) -> int:
        """Number of prompt batches."""
        return -(-(self.questions + self.greedy) // self.sample.prompts)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Number of rows to forget, to fine-tune the target model on, and to evaluate on."""

    forget: int
    finetune: int
    evaluate: int


def count_rows(config: Config) -> Rows:
    """Counts the rows of the data; unreadable data is estimated from the number of questions.

    Raises:
        UserError: `plan.questions` is not set and the forget data cannot be read.
    """

    def count(read: Callable[[], Sized], otherwise: int) -> int:
        try:
            return len(read()) or otherwise
        except UserError:
            return otherwise

    data, taught = config.data, config.finetune.data
    try:
        forget = config.plan.questions or len(forget_set(data.forget, data))
    except UserError as error:
        raise UserError(f"{error}; or set plan.questions to the number of questions") from None
    finetune = count(lambda: finetune_set(taught, data), 10 * forget) if taught else 0
    evaluate = (
        count(lambda n=n, s=s: eval_set(n, s, data), forget) for n, s in data.evaluate.items()
    )
    return Rows(forget, finetune, sum(evaluate))


def workload(config: Config, rows: Rows, row_multiple: int) -> Workload:
    """The workload of the settings, on a mesh with `row_multiple` shards of rows.

    Raises:
        UserError: the method is not PMC.
    """
    plan, sampling, schedule = config.plan, config.pmc.sampling, config.pmc.schedule
    if config.method.name != "pmc":
        raise UserError(f"method.name: {config.method.name}; pmc plan supports only the method pmc")
    step_rows = config.train.batch_size * config.train.accumulation_steps
    steps = total_steps(rows.forget, step_rows, schedule.epochs)
    finetune, finetune_steps = None, 0
    if config.finetune.data:
        taught_rows = config.finetune.batch_size * config.finetune.accumulation_steps
        finetune_steps = total_steps(rows.finetune, taught_rows, config.finetune.epochs)
        finetune = train_shape(config, config.finetune, row_multiple, terms=(1,))
    b, k = largest_batch_shape(
        min(rows.forget, step_rows * schedule.steps_per_round),
        sampling.num_samples,
        sampling.batch_size,
        platform="tpu",
    )
    b = round_up(b, row_multiple)
    sample = SampleShape(
        batch_shape=(b, k),
        prompts=min(b, round_up(Engine.prefill_batch, row_multiple)),
        prompt_tokens=round_up(plan.prompt_tokens, 16),
        cache_size=round_up(max(sampling.max_new_tokens - 1, 1), Engine.decode_chunk),
        sampler=pmc_sampler(config.pmc),
    )
    return Workload(
        train=train_shape(config, config.train, row_multiple, terms=(1, schedule.retain_rows)),
        finetune=finetune,
        sample=sample,
        steps=steps,
        finetune_steps=finetune_steps,
        rounds=-(-steps // schedule.steps_per_round),
        questions=rows.forget * schedule.epochs,
        samples=rows.forget * schedule.epochs * sampling.num_samples,
        greedy=rows.forget + 2 * rows.evaluate,
        answer_tokens=min(plan.answer_tokens, sampling.max_new_tokens),
    )


def train_shape(
    config: Config, settings: TrainConfig, row_multiple: int, *, terms: Sequence[int]
) -> TrainShape:
    """The shape of the training step, from the packer that the trainer uses.

    The packer gets sequences of the expected length, and one of `data.max_length` tokens; `terms`
    holds the number of rows of each loss term per batch row.
    """
    plan, longest = config.plan, config.data.max_length
    length = min(plan.prompt_tokens + plan.answer_tokens, longest)
    lengths = [longest, *[length] * (settings.batch_size - 1)]
    rows = [TokenSequence(np.zeros(n, np.int32), min(plan.prompt_tokens, n - 1)) for n in lengths]
    batch = sum(terms) * settings.batch_size
    packer = Packer.fit(np.zeros(0, np.int32), [length], batch, row_multiple)
    packed = packer.pack([rows * n for n in terms], [1.0] * len(terms))
    _, num_rows, tokens = packed.tokens.shape
    answers = packed.answer_positions.shape[2]
    if plan.rows or plan.row_tokens:
        num_rows = round_up(plan.rows or num_rows, row_multiple)
        tokens = plan.row_tokens or tokens
        answers = max(32, 32 * (tokens // 64))
    return TrainShape(settings.accumulation_steps, num_rows, tokens, answers, len(terms))
