"""Times the programs of a run on this device: fine-tuning, sampling, greedy answers and training.

The programs have the shapes of the run, so jax compiles here what the run would compile. Nothing is
written, and the weights that are trained here are thrown away.
"""

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable, Iterator

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.commands.build import build_run
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config
from pmc_jax.data.encode import Encoder
from pmc_jax.data.records import RetainSet
from pmc_jax.distributed.busy import busy
from pmc_jax.planning.run_time import AnswerTime, Timings
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.finetune import AnswerBatches
from pmc_jax.training.order import Step, total_steps
from pmc_jax.training.step_config import learning_rate
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.pmc_source import PMCSource

_CALLS = 3  # number of timed calls, after one call that is not counted
_ENOUGH_SECONDS = 20.0  # After this time, no further call is made.


def time_programs(
    config: Config, generator: TextGenerator, inputs: RunInputs, *, finetunes: bool
) -> Timings:
    """Times up to three calls of each program of a run, until it has taken 20 seconds.

    Args:
        config: settings of the run.
        generator: the model from which the run starts, whose buffers are donated.
        inputs: rows of the run.
        finetunes: whether the run fine-tunes this model first. If so, a few steps of fine-tuning
            come first, and the answers of the model are taken to be as long as retain answers.

    Raises:
        UserError: rows do not fit together, such as a prompt without room for an answer.
    """
    watch = Stopwatch()
    if (own := inputs.own) is not None:  # Here, each question stands for its unknown answer.
        rows = zip(own.ids, own.questions, own.questions, strict=True)
        given = zip(inputs.retain.ids, inputs.retain.questions, inputs.retain.answers, strict=True)
        retain = RetainSet(*zip(*given, *rows, strict=True))
        inputs = dataclasses.replace(inputs, retain=retain)
    with watch.compiling_apart():
        finetune = ()
        if finetunes:
            with busy("time the fine-tuning"):
                finetune, generator = _time_finetuning(config, generator, inputs, watch)
        with busy("time the greedy answers"):
            answers, greedy = _time_greedy(config, generator, inputs, watch)
        originals = [answers.get(question, "") for question in inputs.forget.questions]
        known = [] if finetunes else [answer for answer in originals if answer.strip()]
        room = config.pmc.sampling.max_new_tokens
        typical = known or [_cut(generator.encoder, text, room) for text in inputs.retain.answers]
        once = dataclasses.replace(config.pmc.sampling, max_attempts=1)
        once = dataclasses.replace(config, pmc=dataclasses.replace(config.pmc, sampling=once))
        recorder = Recorder(bars=False, watch=watch)
        cycle = itertools.cycle(typical)
        filled = [answer if answer.strip() else next(cycle) for answer in originals]
        run = build_run(generator, inputs, filled, config=once, recorder=recorder, donate=True)
        with busy("time the sampling"):
            sampled, replaced, before = _time_rounds(run, config, watch)
        with busy("time the training steps"):
            train = _time_training(run, typical, watch)
    own = _mean_tokens(generator.encoder, typical)
    return Timings(
        finetune=finetune,
        train=train,
        greedy=greedy,
        sampled=sampled,
        replaced=None if finetunes else replaced,
        knowledge_seconds=before,
        answer_tokens=min(own, config.pmc.sampling.max_new_tokens),
        compile_seconds=watch.seconds()["compile"],
    )


def timed(calls: Iterator[Callable[[], None]], watch: Stopwatch) -> list[float]:
    """Returns the seconds of each call without compilation, except those of the first call.

    The first call also traces the program, so it counts only if it is the only one.
    """
    seconds: list[float] = []
    for call in itertools.islice(calls, _CALLS + 1):
        begin = _without_compilation(watch)
        call()
        seconds.append(_without_compilation(watch) - begin)
        if sum(seconds) > _ENOUGH_SECONDS:
            break
    return seconds[1:] or seconds


def _without_compilation(watch: Stopwatch) -> float:
    seconds = watch.seconds()
    return seconds["total"] - seconds["compile"]


def _time_finetuning(
    config: Config, generator: TextGenerator, inputs: RunInputs, watch: Stopwatch
) -> tuple[tuple[float, ...], TextGenerator]:
    settings, rows, lm = config.finetune, inputs.target_rows, generator.lm
    sequences = generator.sequences(rows.questions, rows.answers, config.data, ids=rows.ids)
    batches = AnswerBatches(sequences, settings, config.seed, lm.layout.row_multiple)
    step_rows = settings.step_rows
    steps = total_steps(len(sequences), step_rows, settings.epochs)
    if not steps:
        return (), generator
    how = dict(donate=True, seed=config.seed)
    trainer = Trainer(lm.model, lm.config, lm.layout, settings, generator.dtype, **how)

    def take(i: int) -> None:
        trainer.step(batches.of(i)[0], learning_rate(settings, steps, i))

    seconds = timed((functools.partial(take, i) for i in range(steps)), watch)
    return tuple(seconds), dataclasses.replace(generator, lm=generator.trained(trainer.release()))


def _time_greedy(
    config: Config, generator: TextGenerator, inputs: RunInputs, watch: Stopwatch
) -> tuple[dict[str, str], AnswerTime]:
    """Times the greedy answers to as many forget questions as are answered at the same time."""
    questions = list(inputs.forget.questions)[: config.evaluate.batch_size]
    weights, answers = generator.snapshot(generator.lm.model), {}
    how = dict(max_new_tokens=config.evaluate.max_new_tokens, batch_size=config.evaluate.batch_size)

    def ask() -> None:
        answers.update(generator.greedy(weights, questions, **how))

    seconds = timed(itertools.repeat(ask), watch)
    tokens = _mean_tokens(generator.encoder, list(answers.values()))
    return answers, AnswerTime(statistics.median(seconds) / len(answers), tokens)


def _time_rounds(
    run: Unlearning, config: Config, watch: Stopwatch
) -> tuple[AnswerTime | None, float, float]:
    """Times one attempt for the questions of a round, in up to four rounds.

    Returns:
        The time of one sampled answer, or None if the method does not sample, the share of
        questions with a replacement answer after the attempt, and the seconds of the work that
        only the first round does.
    """
    source = run.source
    if not isinstance(source, PMCSource):
        return None, 1.0, 0.0
    size = config.pmc.schedule.steps_per_round
    rounds = _batched(run.remaining_steps(), size)
    start, asked, replaced, useful = source.state_dict(), [], 0, []

    def attempt(steps: tuple[Step, ...]) -> None:
        nonlocal replaced
        before = source.usage.useful
        source.prepare_round(steps, run.trainer.model, lambda text: None)
        ids = {source.ids[i] for step in steps for i in step.forget}
        asked.append(len(ids))
        useful.append(source.usage.useful - before)
        replaced += len(ids) - len(source.store.unreplaced(ids))
        source.load_state_dict({**source.state_dict(), "store": start["store"]})

    begin = _without_compilation(watch)
    seconds = timed(((lambda steps=steps: attempt(steps)) for steps in rounds), watch)
    if not seconds:  # The run has no steps.
        return None, 1.0, 0.0
    spent = _without_compilation(watch) - begin
    counted = asked[-len(seconds) :]
    answers = sum(counted) * config.pmc.sampling.num_samples
    first = spent - sum(seconds) - statistics.mean(seconds) if len(asked) > len(seconds) else 0.0
    tokens = sum(useful[-len(seconds) :]) / answers
    return AnswerTime(sum(seconds) / answers, tokens), replaced / sum(asked), max(0.0, first)


def _batched(steps: Iterator[Step], size: int) -> Iterator[tuple[Step, ...]]:
    while batch := tuple(itertools.islice(steps, size)):
        yield batch


def _time_training(run: Unlearning, typical: list[str], watch: Stopwatch) -> tuple[float, ...]:
    """Times training steps in which each question has a replacement answer of a usual length."""
    if isinstance(run.source, PMCSource):
        for id_, answer in zip(run.source.ids, itertools.cycle(typical), strict=False):
            run.source.store.offer(id_, answer, 0.0)

    def take(step: Step) -> None:
        run.trainer.step(run.batch(step)[0], run.early_stop.learning_rate(step.index))

    return tuple(timed((functools.partial(take, step) for step in run.remaining_steps()), watch))


def _cut(encoder: Encoder, answer: str, room: int) -> str:
    """Returns an answer, or its beginning if it has more tokens than a sampled answer may have."""
    tokens = encoder.answer_prefix(answer)
    return answer if len(tokens) <= room else encoder.decode(tokens[:room])


def _mean_tokens(encoder: Encoder, answers: list[str]) -> float:
    return statistics.mean(len(encoder.answer(answer)) for answer in answers)
