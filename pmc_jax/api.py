"""Defines the functions of the library that train and evaluate models."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.build import build_run, trains_on_own_answers
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.commands.library_report import LibraryRun
from pmc_jax.commands.own_answers import with_own_answers
from pmc_jax.config.arguments import Settings, sections_of
from pmc_jax.config.data import EVALUATION_SETS, DataConfig
from pmc_jax.config.method import MethodConfig, MethodName
from pmc_jax.config.run import (
    Config,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PMCConfig,
)
from pmc_jax.config.train import TrainConfig
from pmc_jax.config.wording import key_name
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sets import general_set, pairs_to_retain, questions_to_forget
from pmc_jax.data.twins import check_twins
from pmc_jax.errors import UserError
from pmc_jax.evaluation import harness
from pmc_jax.evaluation.context import EvalContext, LoadedModel, ModelRef
from pmc_jax.evaluation.heldout import cost_of, heldout_recall
from pmc_jax.evaluation.result import Evaluation
from pmc_jax.evaluation.tables import headline
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.base import Score
from pmc_jax.training.finetune import finetune as _finetune
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearned import Unlearned
from pmc_jax.unlearning.own_questions import own_questions
from pmc_jax.unlearning.pmc import original_answers
from pmc_jax.unlearning.refusals import refusals_for

Pairs: TypeAlias = Sequence[tuple[str, str]]


def unlearn(
    lm: LanguageModel,
    forget: ForgetSet | ForgetAnswerSet | Sequence[str] | Pairs,
    retain: RetainSet | Pairs | None = None,
    *,
    method: MethodConfig | MethodName | Config | Settings | None = None,
    config: PMCConfig | Config | Settings | None = None,
    train: TrainConfig | Config | Settings | None = None,
    model: ModelConfig | Config | Settings | None = None,
    data: DataConfig | Config | Settings | None = None,
    score: Score | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Unlearned:
    """Unlearns the forget questions by Partial Model Collapse (PMC) or by another method.

    PMC needs no true answers, because it trains only on answers that the model itself generates and
    on retain pairs. Settings are sections such as `PMCConfig`, a whole `Config`, or dicts of
    either, and have the names and the checks of a YAML file.

    Args:
        lm: model that `load` returns; this model is not changed.
        forget: forget questions, or (question, true answer) pairs for a method that trains on true
            answers. `load_data` reads both from a file.
        retain: question-answer pairs that the model must keep. With None, these are the model's own
            answers to general questions and to questions near the forget questions (see
            `unlearning.own_retain`), which are returned as `Unlearned.retain`. With
            `data={"retain_more": ["own"]}`, these answers are added to the pairs.
        method: name of a method (see docs/reference/methods.md), or settings of a method.
        config: settings of PMC. Methods other than PMC and PMC-alignment read only
            `config.schedule`, and `config.sampling.max_new_tokens` to check the length of prompts.
            Of a whole `Config`, the call reads also `report.request`, `method`, `train`, `model`,
            `data` and `seed`. Arguments of the same names replace the last five.
        train: settings of training.
        model: settings of prompts and dtypes.
        data: settings of the data. Only `max_length`, `long_rows`, `on_overlap`, `words`,
            `retain_test_size` and the source own in `retain_more` are read.
        score: function that maps an original answer and a list of samples to one number per sample,
            where lower is better and 0 means forgotten; None selects `config.score`. Only PMC and
            PMC-alignment read this argument.
        seed: seed of all random choices, such as sampling and the choice and order of rows; None
            selects the seed of a whole `config`, or else 0.
        progress: whether to show progress bars on stderr.

    Raises:
        UserError: settings or rows are invalid, prompts or rows are too long, or training diverges.

    Example:
        >>> result = pmc.unlearn(
        ...     lm,
        ...     forget=["Where does Jane Roe live?"],
        ...     retain=[("What is the capital of France?", "The capital of France is Paris.")],
        ...     config={"sampling": {"num_samples": 4, "max_new_tokens": 8}},
        ...     train={"learning_rate": 1e-4, "lora": {"rank": 8}},
        ... )
        >>> list(result.replacements)
        ['question:0']
    """
    if isinstance(method, str):
        method = MethodConfig(name=method)
    others = dict(method=method, train=train, model=model, data=data, report=None)
    settings = Config(**sections_of("pmc", config, seed, **others))
    answers = None
    if METHODS[settings.method.name].reads_true_answers:
        answers = forget
        if not isinstance(forget, ForgetAnswerSet):
            rows = pairs_to_retain(forget, "forget")
            answers = ForgetAnswerSet(rows.ids, rows.questions, rows.answers)
        forget = ForgetSet(answers.ids, answers.questions)
    elif not isinstance(forget, ForgetSet):
        forget = questions_to_forget(forget)
    given = RetainSet((), (), ()) if retain is None else _retain_set(retain)
    own = None
    if retain is None or settings.data.adds_own_answers:
        own = own_questions(forget, given, general_set(), settings)
    inputs = RunInputs(forget, given, answers, refusals_for(settings.method), own=own)
    inputs = inputs.with_heldout(settings, len(given))
    check_twins(settings.data.on_overlap, inputs.forget, inputs.retain)
    generator, recorder = TextGenerator.of(lm, settings.model), Recorder(bars=progress)
    heldout = inputs.heldout_retain

    def recall(model: LoadedModel) -> float | None:
        answers = model.greedy(heldout.questions, EvaluateConfig(), recorder)
        return heldout_recall(heldout, answers, settings.data.words)

    with recorder.watch.compiling_apart():
        originals = [""] * len(forget)
        untouched = LoadedModel("original answers", generator)
        recall_before = recall(untouched)
        if trains_on_own_answers(settings) or own is not None:
            asking = EvaluateConfig(max_new_tokens=settings.pmc.sampling.max_new_tokens)
            originals = original_answers(
                forget.questions, lambda texts: untouched.greedy(texts, asking, recorder)
            )
        inputs = with_own_answers(inputs, generator, originals, settings, recorder, RunState())
        how = dict(config=settings, recorder=recorder, score=score)
        run = build_run(generator, inputs, originals, **how)
        run.run()
        unlearned = generator.trained(run.trainer.release())
        recall_after = recall(LoadedModel.of("held-out answers", generator, unlearned.model))
    source, replacements = run.source, run.source.replacements
    seconds = recorder.watch.seconds()
    tokens = {"sampled": source.usage.useful, "trained": run.trainer.tokens}
    cost = cost_of(heldout, inputs.not_heldout, recall_before, recall_after)
    return Unlearned(
        lm=unlearned,
        originals=dict(source.originals) if replacements else {},
        replacements={id_: answer for id_, (answer, _) in replacements.items()},
        scores={id_: score for id_, (_, score) in replacements.items()},
        rounds=run.rounds,
        seconds=seconds,
        tokens=tokens,
        heldout=cost,
        adapters=run.trainer.adapters,
        lora=run.trainer.lora,
        retain=inputs.trained_retain,
        run=LibraryRun(
            settings,
            inputs,
            dict(source.originals),
            replacements,
            dict(
                rounds=run.rounds,
                seconds=seconds,
                tokens=tokens,
                heldout=cost | {"evaluated": 0},
                total_steps=run.total_steps,
                stopped=run.stopped,
                step=run.done,
                best=None,
            ),
        ),
    )


def finetune(
    lm: LanguageModel,
    pairs: FinetuneSet | Pairs,
    *,
    config: FinetuneConfig | Config | Settings | None = None,
    model: ModelConfig | Config | Settings | None = None,
    data: DataConfig | Config | Settings | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> LanguageModel:
    """Fine-tunes a copy of a model on question-answer pairs, with a loss only on answer tokens.

    Args:
        lm: model that `load` returns; this model is not changed.
        pairs: question-answer pairs to learn.
        config: settings of fine-tuning. Of a whole `Config`, the call reads also `model`, `data`
            and `seed`.
        model: settings of prompts and dtypes.
        data: settings of the data. Only `max_length` and `long_rows` are read.
        seed: seed of the order of the rows and of new adapters.
        progress: whether to show progress bars on stderr.

    Returns:
        The fine-tuned model.

    Raises:
        UserError: rows are invalid or too long, or training diverges.

    Example:
        >>> pairs = [("What is the capital of France?", "The capital of France is Paris.")]
        >>> target = pmc.finetune(lm, pairs, config={"epochs": 2, "learning_rate": 1e-4})
    """
    if not isinstance(pairs, FinetuneSet):
        rows = pairs_to_retain(pairs, "pairs")
        pairs = FinetuneSet(rows.ids, rows.questions, rows.answers)
    settings = sections_of("finetune", config, seed, model=model, data=data)
    generator = TextGenerator.of(lm, settings["model"])
    weights = _finetune(
        generator,
        pairs,
        settings["finetune"],
        settings["data"],
        seed=settings["seed"],
        recorder=Recorder(bars=progress),
    )
    return generator.trained(weights)


def evaluate(
    lm: LanguageModel,
    splits: Sequence[EvalSet] | Mapping[str, Pairs],
    *,
    config: EvaluateConfig | Config | Settings | None = None,
    reference: LanguageModel | None = None,
    before: LanguageModel | None = None,
    never_saw: Sequence[LanguageModel] = (),
    retain: RetainSet | Pairs = (),
    model: ModelConfig | Config | Settings | None = None,
    data: DataConfig | Config | Settings | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Computes the unlearn quality, utility, ROUGE-L recalls and further measures of a model.

    Args:
        lm: model to evaluate.
        splits: evaluation sets with the names of `data.evaluate`, which are `forget`,
            `forget_paraphrased`, `retain`, `world_facts`, `real_authors`, `unrelated`, `holdout`
            and `relearn`. Some measures need paraphrased and wrong answers, which are columns of an
            `EvalSet`.
        config: settings of evaluation, which select the measures. The arguments `reference` and
            `never_saw` replace the settings with these names. Of a whole `Config`, the call reads
            also `model`, `data` and `seed`.
        reference: model that never saw the forget rows.
        before: model before unlearning.
        never_saw: at least five models like `reference`, trained with other seeds, for the measure
            `indistinguishable`.
        retain: question-answer pairs for the prompts of prompt attacks. Relearning trains on these
            pairs if there is no split `relearn`.
        model: settings of prompts and dtypes.
        data: settings of the data. Only `words` is read, and for the measure `relearned` also
            `max_length` and `long_rows`.
        seed: seed of the random draws.
        progress: whether to show progress bars on stderr.

    Returns:
        The numbers (see `Evaluation`).

    Raises:
        UserError: a split has an unknown name, rows are invalid or too long, the text in
            `config.corpus.path` cannot be read, or the relearning attack fails.

    Example:
        >>> pairs = [("What is the capital of France?", "The capital of France is Paris.")]
        >>> numbers = pmc.evaluate(lm, {"retain": pairs}, config={"max_new_tokens": 8})
        >>> 0 <= numbers["splits"]["retain"]["rougeL_recall"] <= 1
        True
    """
    if isinstance(splits, Mapping):
        names = list(splits)
        rows = {n: pairs_to_retain(splits[n], f"splits.{key_name(n, names)}") for n in names}
        splits = [EvalSet(n, r.ids, r.questions, r.answers) for n, r in rows.items()]
    if not all(isinstance(rows, EvalSet) for rows in splits):
        raise UserError(
            "splits: an entry of the list is not an EvalSet. Pass a list of EvalSet, or a dict "
            "from the name of each split to its list of (question, answer) pairs."
        )
    given = [rows.name for rows in splits]
    if unknown := [name for name in given if name not in EVALUATION_SETS]:
        names = ", ".join(EVALUATION_SETS)
        name = key_name(unknown[0], given)
        raise UserError(f"splits: the split {name} is unknown. Use one of: {names}.")
    retain = _retain_set(retain) if retain else None
    settings = sections_of("evaluate", config, seed, model=model, data=data)
    named = {s.name: s for s in splits}

    def model_ref(which: LanguageModel) -> ModelRef:
        generator = TextGenerator.of(which, settings["model"])
        return ModelRef("given in code", "", lambda name: LoadedModel(name, generator))

    models = {"before": before, "after": lm, "reference": reference}
    evaluation = harness.evaluate(
        {name: model_ref(which) for name, which in models.items() if which is not None},
        EvalContext(
            named,
            retain,
            settings["evaluate"],
            settings["data"],
            settings["seed"],
            never_saw=tuple(map(model_ref, never_saw)),
        ),
        recorder=Recorder(bars=progress),
    )
    numbers = headline(evaluation, "after")
    return Evaluation(**numbers, words=evaluation["words"], evaluation=evaluation)


def _retain_set(retain: RetainSet | Pairs) -> RetainSet:
    return retain if isinstance(retain, RetainSet) else pairs_to_retain(retain)
