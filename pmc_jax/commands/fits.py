"""Checks that the settings and the rows of a run fit the model and the memory.

`pmc unlearn` runs these checks before it writes a file or trains a step. Other commands run some of
them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.artifacts.log import progress
from pmc_jax.commands.build import trains_on_own_answers
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import shared_prefix
from pmc_jax.data.records import EvalSet, ForgetSet, OwnQuestions
from pmc_jax.data.twins import check_twins
from pmc_jax.distributed.busy import busy
from pmc_jax.distributed.memory import check_memory
from pmc_jax.errors import UserError, about, at_once
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.models.attention import check_kernel
from pmc_jax.models.load import check_model
from pmc_jax.planning.run_memory import TrainingBytes
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY, pmc_sampler
from pmc_jax.scoring.registry import base_score
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.asking import check_asking

_CHECKED_ROWS = 512  # The progress bar moves after this number of questions.
# A step may hold this number of rows even if the run has fewer rows.
_FEW_ROWS = 1024

# A position of a packed row has five integers and the weight of its loss.
_POSITION_BYTES = 24

_READ_TEXT = {"side_effects", "perplexity"}  # These measures read `evaluate.corpus`.

Prompts = Sequence[Sequence[int]]


def check_fits(
    config: Config,
    generator: TextGenerator,
    inputs: RunInputs,
    *,
    attempt: Callable[..., Any] = at_once,
) -> None:
    """Checks whether the settings and rows of `pmc unlearn` fit the model and the memory.

    Args:
        attempt: function that calls each check. `Faults.attempt` goes on after an error, and leaves
            out the checks that need the result of the failed check.

    Raises:
        UserError: a setting or a file that it names is invalid or does not fit the model, the
            devices or the rows, a forget question is also a retain question although
            `data.on_overlap` is `error`, a question or a row is too long, a true answer has no
            word, or the run needs more memory than is free.
    """
    forget, pmc, evaluate = inputs.forget, config.pmc, config.evaluate
    attempt(_check_layer, config, generator)
    with busy("compare the questions"):
        attempt(vocabulary, evaluate.levels.words)
        attempt(base_score, pmc, encode=generator.encoder.plain)
        attempt(check_asking, generator, forget, inputs.retained_texts, pmc)
        attempt(check_twins, config.data.on_overlap, forget, inputs.retain)
        # This call raises an error with the ids of true answers without words, which ROUGE cannot
        # score.
        sets = {rows.name: rows for rows in inputs.eval_sets}
        attempt(EvalContext, sets, None, evaluate, config.data)
    longest = max(evaluate.max_new_tokens, pmc.sampling.max_new_tokens)
    asked = [(forget, longest), *((rows, evaluate.max_new_tokens) for rows in inputs.eval_sets)]
    prompts = [attempt(check_prompts, generator, [one]) for one in asked]
    if inputs.own is not None:
        attempt(check_prompts, generator, [(inputs.own, pmc.sampling.max_new_tokens)])
    if inputs.heldout:
        attempt(check_prompts, generator, [(inputs.heldout_retain, evaluate.max_new_tokens)])
    with busy("check the rows"):
        if None not in prompts:
            (own,), *of_sets = prompts
            attempt(_check_samples, config, generator, own)
            of_sets = [rows for (rows,) in of_sets]
            attempt(check_evaluation, config, generator, inputs.eval_sets, of_sets)
            terms = METHODS[config.method.name].terms
            rows = sum(pmc.schedule.retain_rows if term == "retain" else 1 for term in terms)
            how = (generator, len(forget), pmc.schedule.epochs, _own_tokens(own), rows)
            attempt(check_training, "train", config.train, *how)
        if inputs.target_rows is not None:
            settings, size = config.finetune, len(inputs.target_rows)
            attempt(check_training, "finetune", settings, generator, size, settings.epochs)
        for refusal in sorted(inputs.refusals, key=len)[-1:]:
            attempt(_check_refusal, generator, forget, refusal)
        if config.data.long_rows == "error":
            trained = (inputs.retain, inputs.target_rows, inputs.reference_rows)
            for pairs in (*trained, inputs.forget_answers):
                if pairs is not None:
                    texts = pairs.questions, pairs.answers
                    attempt(generator.sequences, *texts, config.data, ids=pairs.ids)


def _check_layer(config: Config, generator: TextGenerator) -> None:
    layer, layers = config.method.layer, generator.lm.config.num_layers
    if layer is not None and layer > layers:
        raise UserError(
            f"method.layer must be a layer of the model, from 1 to {layers}, but it is {layer}. "
            "Set method.layer to a number in this range."
        )


def _check_refusal(generator: TextGenerator, forget: ForgetSet, refusal: str) -> None:
    with about("method.refusals"):
        generator.sequences(forget.questions, [refusal] * len(forget), None, ids=forget.ids)


def check_measured(config: Config, sets: Sequence[EvalSet]) -> None:
    """Checks the data and the files that an evaluation reads, before any model is loaded.

    Args:
        config: settings of a run.
        sets: evaluation sets.

    Raises:
        UserError: there is no evaluation set, a true answer has no word, or the text in
            `evaluate.corpus.path`, the reference model or a never-saw model cannot be read.
    """
    if not sets:
        raise UserError(
            "data.evaluate: no evaluation set is given, so nothing can be measured. Set "
            "data.evaluate.forget.path=FILE or the path of another set."
        )
    settings, measures = config.evaluate, {*config.evaluate.wanted}
    with busy("check the evaluation"):
        context = EvalContext({rows.name: rows for rows in sets}, None, settings, config.data)
        if measures & _READ_TEXT:
            context.unrelated_text()
        if settings.reference is not None:
            check_model(settings.reference, "evaluate.reference")
        for path in settings.never_saw if "indistinguishable" in measures else ():
            check_model(path, "evaluate.never_saw")


def check_prompts(
    generator: TextGenerator, sets: Sequence[tuple[ForgetSet | EvalSet | OwnQuestions, int]]
) -> list[list[list[int]]]:
    """Checks that each question and its answer fit into the model's context window.

    A progress bar appears after one second.

    Args:
        generator: the model with its prompts.
        sets: pairs of a data set and the maximum number of tokens in an answer to its questions.

    Returns:
        For each set, the token ids of its prompts.

    Raises:
        UserError: a question is too long, or cannot be encoded.
    """
    count, prompts = sum(len(rows) for rows, _ in sets), []
    with progress(count, "check the questions", "question", delay=1.0) as bar:
        for rows, max_new_tokens in sets:
            prompts.append([])
            for start in range(0, len(rows), _CHECKED_ROWS):
                part = slice(start, start + _CHECKED_ROWS)
                ids = rows.ids[part]
                prompts[-1] += generator.prompts(rows.questions[part], max_new_tokens, ids=ids)
                bar.update(len(ids))
    return prompts


def _check_samples(config: Config, generator: TextGenerator, prompts: Prompts) -> None:
    """Checks the memory for sampled answers to the forget questions.

    Args:
        config: settings of a run.
        generator: the model with its prompts.
        prompts: token ids of the prompt of each forget question.

    Raises:
        UserError: sampling needs more memory than is free.
    """
    pmc, evaluate, train = config.pmc, config.evaluate, config.train
    if trains_on_own_answers(config):
        own = dict(max_new_tokens=pmc.sampling.max_new_tokens, batch_size=pmc.sampling.batch_size)
        rows = train.step_rows * pmc.schedule.steps_per_round
        with about("pmc.sampling"):
            many = dict(num_samples=pmc.sampling.num_samples, max_prompts=rows)
            generator.engine(prompts, pmc_sampler(pmc), **many, **own)
        if pmc.reward_samples:
            with about("pmc.reward_samples"):
                generator.engine(prompts, GREEDY, num_samples=pmc.reward_samples, **own)
    if "sampled" in evaluate.levels.measured:
        with about("evaluate.levels"):
            count, sizes = evaluate.levels.num_samples, _evaluation_sizes(evaluate)
            generator.engine(prompts, GREEDY, num_samples=count, **sizes)


def check_evaluation(
    config: Config,
    generator: TextGenerator,
    sets: Sequence[EvalSet],
    prompts: Sequence[Prompts],
) -> None:
    """Checks that the measures of an evaluation fit the model and the memory.

    Args:
        config: settings of a run.
        generator: the model with its prompts.
        sets: evaluation sets.
        prompts: token ids of the prompts of each set.

    Raises:
        UserError: a chunk of text is longer than the context window, a step of relearning has too
            many rows, or the evaluation needs more memory than is free.
    """
    settings, measures = config.evaluate, {*config.evaluate.wanted}
    window = generator.lm.config.max_positions - len(generator.encoder.lead)
    size = settings.corpus.chunk_tokens
    if measures & _READ_TEXT and size > window:
        raise UserError(
            f"evaluate.corpus.chunk_tokens: the value is {size}, but the model's context window "
            f"has room for {window} tokens of text. Lower evaluate.corpus.chunk_tokens."
        )
    if "relearned" in measures:
        train = TrainConfig(batch_size=settings.relearn.batch_size)
        check_training("evaluate.relearn", train, generator, settings.relearn.rows, epochs=1)
    for rows, own in zip(sets, prompts, strict=True):
        samples = rows.name == "forget" and measures & {"sampling", "prefill"}
        with about("evaluate.leakage" if samples else "evaluate"):
            count = settings.leakage.num_samples if samples else 1
            generator.engine(own, GREEDY, num_samples=count, **_evaluation_sizes(settings))


def _evaluation_sizes(settings: EvaluateConfig) -> dict[str, int]:
    return dict(max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)


def check_training(
    name: str,
    settings: TrainConfig,
    generator: TextGenerator,
    num_rows: int,
    epochs: int,
    tokens: float = 1.0,
    sequences: int = 1,
) -> None:
    """Checks that training fits the devices, the data and the memory.

    Args:
        name: section of the settings, for messages.
        settings: settings of the training.
        generator: the model before training.
        num_rows: number of rows in an epoch.
        epochs: number of epochs.
        tokens: lower bound on the mean number of tokens of a sequence, without a common prefix.
        sequences: number of sequences in a step for each of its rows.

    Raises:
        UserError: the devices do not support the attention kernel, a step has more rows than all
            epochs together and than 1024, the rank of the adapters is larger than the
            hidden size, or training needs more memory than is free.
    """
    model, dtype, lora = generator.lm.config, generator.dtype, settings.lora
    check_kernel(settings.attention, model, dtype, generator.layout.platform, name)
    micro, steps = settings.batch_size, settings.accumulation_steps
    if micro * steps > max(_FEW_ROWS, num_rows * epochs):
        lower = f"{name}.batch_size" + (f" or {name}.accumulation_steps" if steps > 1 else "")
        raise UserError(
            f"{name}.batch_size: a step has {micro * steps:,} rows, but all epochs together have "
            f"only {num_rows * epochs:,} rows. Lower {lower}."
        )
    if lora.rank > model.hidden_size:
        raise UserError(
            f"{name}.lora.rank: the value is {lora.rank}, but the hidden size of the model is only "
            f"{model.hidden_size}. Lower {name}.lora.rank."
        )
    state = TrainingBytes.of(model, settings, dtype)
    # The backward pass reads the input of each layer.
    position_bytes = model.num_layers * model.hidden_size * dtype.itemsize
    parallel = micro * sequences
    step_tokens = parallel * tokens
    adapt = "" if lora.rank or name == "evaluate.relearn" else f" set {name}.lora.rank=8,"
    check_memory(
        f"{name}: training {state.trained:,} weights on {parallel:,} "
        f"sequence{'s' * (parallel > 1)} at the same time",
        f"Lower {name}.batch_size,{adapt} or use more devices.",
        generator.lm.layout.mesh,
        on_devices=state.gradients + state.optimizer + step_tokens * position_bytes,
        on_host=step_tokens * steps * _POSITION_BYTES,
    )


def _own_tokens(prompts: Prompts) -> float:
    """Returns the mean number of tokens in a prompt without the prefix that all prompts share."""
    return sum(map(len, prompts)) / len(prompts) - len(shared_prefix(prompts))
