"""Workload of a run: the shapes of its programs, and how often each program runs."""

import dataclasses
import math
from collections.abc import Callable, Sequence, Sized

import numpy as np

from pmc_jax.config.data import OWN
from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.sets import eval_set, finetune_set, forget_set
from pmc_jax.distributed.mesh import round_up
from pmc_jax.errors import UserError
from pmc_jax.sampling.buckets import largest_batch_shape
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.sampler import Sampler, pmc_sampler
from pmc_jax.training.losses import Objective
from pmc_jax.training.order import total_steps
from pmc_jax.training.packing import Packer


@dataclasses.dataclass(frozen=True)
class TrainShape:
    """Shape of the batch of a training program.

    Attributes:
        micro_batches: number of micro-batches per gradient step.
        rows: number of rows per micro-batch.
        tokens: number of tokens per row.
        answers: number of positions per row whose logits are computed.
        terms: number of loss terms.
        objective: settings of the loss, as in `StepConfig`.
    """

    micro_batches: int
    rows: int
    tokens: int
    answers: int
    terms: int
    objective: Objective | None = None

    @property
    def step_tokens(self) -> int:
        """Number of tokens per gradient step, padding included."""
        return self.micro_batches * self.rows * self.tokens


@dataclasses.dataclass(frozen=True)
class SampleShape:
    """Shape of the sampling programs.

    Attributes:
        batch_shape: number of rows of the decode batch, and number of slots per row.
        prompts: number of prompts that are prefilled together.
        prompt_tokens: number of tokens per prompt, padding included.
        cache_size: number of generated tokens per slot that the cache holds.
        sampler: settings for the choice of a token.
    """

    batch_shape: tuple[int, int]
    prompts: int
    prompt_tokens: int
    cache_size: int
    sampler: Sampler

    @property
    def step_tokens(self) -> int:
        """Number of tokens per decode step, which is the number of slots."""
        return math.prod(self.batch_shape)


@dataclasses.dataclass(frozen=True)
class Workload:
    """Programs of a run, and how often each program runs.

    Attributes:
        train, finetune, sample: shapes of the programs. `finetune` is None if the run trains no
            target model.
        steps, finetune_steps: numbers of gradient steps of unlearning and of fine-tuning.
        rounds: number of sampling rounds.
        questions: number of questions in all rounds together, if each needs an answer. A forget
            question counts once per epoch.
        samples: number of sampled answers to these questions, with one attempt for each.
        greedy: number of greedy answers. A forget question needs one answer, and an evaluation row
            needs two, before and after unlearning.
        answer_tokens: expected number of tokens per answer.
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
        """Number of decode steps for all answers, if no slot is idle while samples wait."""
        slots = self.sample.step_tokens
        a_round = -(-self.samples // max(1, self.rounds) // slots)
        return (self.rounds * a_round + -(-self.greedy // slots)) * self.answer_tokens

    @property
    def prefills(self) -> int:
        """Number of prefill calls for all questions."""
        return -(-(self.questions + self.greedy) // self.sample.prompts)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Numbers of rows in the data of a run.

    Attributes:
        forget: number of forget questions.
        finetune: number of rows for fine-tuning.
        evaluate: number of rows in all evaluation sets.
    """

    forget: int
    finetune: int
    evaluate: int


def count_rows(config: Config) -> Rows:
    """Counts the forget questions and the rows for fine-tuning and evaluation.

    If the data for fine-tuning or an evaluation set cannot be read, its number of rows is estimated
    from the number of forget questions. `plan.questions` overrides the number of forget questions.

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
        raise UserError(
            f"{str(error).rstrip('.')}. You can also set plan.questions to the number of questions."
        ) from None
    finetune = count(lambda: finetune_set(taught, data), 10 * forget) if taught else 0
    evaluate = (
        count(lambda n=n, s=s: eval_set(n, s, data), forget) for n, s in data.evaluate.items()
    )
    return Rows(forget, finetune, sum(evaluate))


def workload(config: Config, rows: Rows, row_multiple: int) -> Workload:
    """Computes the workload of a run from its settings.

    Args:
        config: settings of the run.
        rows: numbers of rows in the data.
        row_multiple: number of shards into which the mesh splits the rows of a batch.

    Raises:
        UserError: the method is not PMC.
    """
    plan, sampling, schedule = config.plan, config.pmc.sampling, config.pmc.schedule
    if config.method.name != "pmc":
        raise UserError(
            f"method.name={config.method.name}: pmc plan supports only PMC. Set method.name=pmc."
        )
    step_rows = config.train.step_rows
    steps = total_steps(rows.forget, step_rows, schedule.epochs)
    finetune, finetune_steps = None, 0
    if config.finetune.data:
        taught_rows = config.finetune.step_rows
        finetune_steps = total_steps(rows.finetune, taught_rows, config.finetune.epochs)
        finetune = train_shape(config, config.finetune, row_multiple, terms=(1,))
    b, k = largest_batch_shape(
        min(rows.forget, step_rows * schedule.steps_per_round),
        sampling.num_samples,
        sampling.batch_size,
        platform="tpu",
    )
    b = round_up(b, row_multiple)
    train = train_shape(config, config.train, row_multiple, terms=(1, schedule.retain_rows))
    # Without the path, the retain data are not known yet.
    own = config.data.retain.path == OWN or config.data.adds_own_answers
    method = config.method.with_retain_loss(own=own)
    if method.retain_loss == "kl":
        objective = Objective.of(
            method, lambda_retain=schedule.lambda_retain, layers=1, seed=config.seed
        )
        train = dataclasses.replace(train, objective=objective)
    sample = SampleShape(
        batch_shape=(b, k),
        prompts=min(b, round_up(Engine.prefill_batch, row_multiple)),
        prompt_tokens=round_up(plan.prompt_tokens, 16),
        cache_size=round_up(max(sampling.max_new_tokens - 1, 1), Engine.decode_chunk),
        sampler=pmc_sampler(config.pmc),
    )
    return Workload(
        train=train,
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
    """Computes the batch shape of a training step with the packer that the trainer uses.

    In each group of `batch_size` sequences that the packer gets, one has `data.max_length` tokens
    and the others have the expected length. `plan.rows` and `plan.row_tokens` replace
    the numbers of rows and tokens that the packer returns.

    Args:
        config: settings with the sections `plan` and `data`.
        settings: settings of the training.
        row_multiple: number of shards into which the mesh splits the rows of a batch.
        terms: for each loss term, its number of sequences, in multiples of `batch_size`.
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
