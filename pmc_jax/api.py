"""Defines the functions of the library that train and evaluate models."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.answers import answer
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.build import build_run, trains_on_own_answers
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.data import EVALUATION_SETS, DataConfig
from pmc_jax.config.run import (
    Config,
    EvaluateConfig,
    FinetuneConfig,
    MethodConfig,
    ModelConfig,
    PMCConfig,
)
from pmc_jax.config.train import LoRAConfig, TrainConfig
from pmc_jax.config.wording import key_name
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sets import pairs_to_retain, questions_to_forget
from pmc_jax.data.twins import check_twins
from pmc_jax.errors import UserError
from pmc_jax.evaluation import harness
from pmc_jax.evaluation.context import EvalContext, LoadedModel, ModelRef
from pmc_jax.evaluation.tables import headline
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.base import Score
from pmc_jax.training.finetune import finetune as _finetune
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.pmc import original_answers
from pmc_jax.unlearning.refusals import refusals_for

Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, repr=False)
class Unlearned:
    """Result of `unlearn`, with the unlearned model and the metrics of training.

    `originals`, `replacements` and `scores` are empty for methods other than PMC and PMC-alignment.

    Attributes:
        lm: unlearned model.
        originals: original answer to each forget question by the id of the question.
        replacements: replacement answer by the id of the question, or None if the question has no
            replacement answer.
        scores: score of the replacement answer by the id of the question; a score up to the
            threshold counts as 0, and inf means that there is no replacement answer.
        rounds: metrics of each round, such as losses. PMC adds the mean score and the number of
            questions without a replacement answer of score 0.
        seconds: wall time of each stage in seconds, and their sum as `total`.
        tokens: number of sampled tokens as `sampled`, and of trained tokens as `trained`.
        adapters: LoRA adapters, which are merged into `lm`, or None without LoRA.
        lora: settings of the adapters, or None without LoRA.
    """

    lm: LanguageModel
    originals: dict[str, str]
    replacements: dict[str, str | None]
    scores: dict[str, float]
    rounds: list[dict[str, Any]]
    seconds: dict[str, float]
    tokens: dict[str, int]
    adapters: Decoder | None = None
    lora: LoRAConfig | None = None

    def __repr__(self) -> str:
        """Returns a summary of the result without questions and answers."""
        seconds = self.seconds.get("total", 0.0)
        return (
            f"Unlearned({self.lm!r}, {len(self.rounds)} rounds, {len(self.replacements)} "
            f"replacement answers, {seconds:.0f} s)"
        )

    def export(self, folder: str | Path, *, dtype: str | None = None) -> None:
        """Writes the unlearned model as a Hugging Face folder (see `pmc_jax.export_hf`).

        Args:
            folder: folder to write, which must be absent or empty.
            dtype: dtype of the decoder's weights; None selects that of each tensor in the source.

        Raises:
            UserError: the folder is not empty or cannot be written.
        """
        export_hf(self.lm, folder, dtype=dtype)

    def export_adapter(self, folder: str | Path) -> None:
        """Writes the LoRA adapters as a PEFT folder.

        Args:
            folder: folder to write, which must be absent or empty.

        Raises:
            UserError: the model has no adapters because all weights were trained, or the folder is
                not empty or cannot be written.
        """
        if self.adapters is None or self.lora is None:
            raise UserError(
                "export_adapter: the model has no adapters, because all weights were trained. "
                "Call unlearn with train=TrainConfig(lora=LoRAConfig(rank=8))."
            )
        export_adapter(self.lm, self.adapters, self.lora, folder)

    def answer(self, questions: Sequence[str], **options: Any) -> list[str]:
        """Returns the greedy answer of the unlearned model to each question.

        Args:
            questions: questions without a prompt template.
            **options: keyword arguments of `pmc_jax.answer`.
        """
        return answer(self.lm, questions, **options)


def unlearn(
    lm: LanguageModel,
    forget: ForgetSet | Sequence[str] | Pairs,
    retain: RetainSet | Pairs,
    *,
    method: MethodConfig | str = "pmc",
    config: PMCConfig | None = None,
    train: TrainConfig | None = None,
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    score: Score | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Unlearned:
    """Unlearns the forget questions by Partial Model Collapse (PMC) or by another method.

    PMC needs no true answers, because it trains only on answers that the model itself generates and
    on retain pairs.

    Args:
        lm: model that `load` returns; this model is not changed.
        forget: forget questions, or (question, true answer) pairs for a method that trains on true
            answers.
        retain: question-answer pairs that the model must keep.
        method: name in `pmc_jax.training.losses.METHODS`, or settings of a method.
        config: settings of PMC. Methods other than PMC and PMC-alignment read only
            `config.schedule`, and `config.sampling.max_new_tokens` to check the length of prompts.
        train: settings of training.
        model: settings of prompts and dtypes.
        data: settings of the data. Only `max_length`, `long_rows`, `on_overlap` and `words` are
            read.
        score: function that maps an original answer and a list of samples to one number per sample,
            where lower is better and 0 means forgotten; None selects `config.score`. Only PMC and
            PMC-alignment read this argument.
        seed: seed of all random choices, such as sampling and the choice and order of rows.
        progress: whether to show progress bars on stderr.

    Raises:
        UserError: settings or rows are invalid, prompts or rows are too long, or training diverges.
    """
    settings = Config(
        pmc=config or PMCConfig(),
        method=MethodConfig(name=method) if isinstance(method, str) else method,
        train=train or TrainConfig(),
        data=data or DataConfig(),
        seed=seed,
    )
    answers = None
    if METHODS[settings.method.name].reads_true_answers:
        rows = pairs_to_retain(forget, "forget")
        answers = ForgetAnswerSet(rows.ids, rows.questions, rows.answers)
        forget = ForgetSet(rows.ids, rows.questions)
    elif not isinstance(forget, ForgetSet):
        forget = questions_to_forget(forget)
    inputs = RunInputs(forget, _retain_set(retain), answers, refusals_for(settings.method))
    check_twins(settings.data.on_overlap, inputs.forget, inputs.retain)
    generator, recorder = TextGenerator.of(lm, model or ModelConfig()), Recorder(bars=progress)
    with recorder.watch.compiling_apart():
        originals = [""] * len(forget)
        if trains_on_own_answers(settings):
            asking = EvaluateConfig(max_new_tokens=settings.pmc.sampling.max_new_tokens)
            untouched = LoadedModel("original answers", generator)
            originals = original_answers(
                forget.questions, lambda texts: untouched.greedy(texts, asking, recorder)
            )
        how = dict(config=settings, recorder=recorder, score=score)
        run = build_run(generator, inputs, originals, **how)
        run.run()
    source, replacements = run.source, run.source.replacements
    return Unlearned(
        lm=generator.trained(run.trainer.release()),
        originals=dict(source.originals) if replacements else {},
        replacements={id_: answer for id_, (answer, _) in replacements.items()},
        scores={id_: score for id_, (_, score) in replacements.items()},
        rounds=run.rounds,
        seconds=recorder.watch.seconds(),
        tokens={"sampled": source.usage.useful, "trained": run.trainer.tokens},
        adapters=run.trainer.adapters,
        lora=run.trainer.lora,
    )


def finetune(
    lm: LanguageModel,
    pairs: FinetuneSet | Pairs,
    *,
    config: FinetuneConfig | None = None,
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> LanguageModel:
    """Fine-tunes a copy of a model on question-answer pairs, with a loss only on answer tokens.

    Args:
        lm: model that `load` returns; this model is not changed.
        pairs: question-answer pairs to learn.
        config: settings of fine-tuning.
        model: settings of prompts and dtypes.
        data: settings of the data. Only `max_length` and `long_rows` are read.
        seed: seed of the order of the rows and of new adapters.
        progress: whether to show progress bars on stderr.

    Returns:
        The fine-tuned model.

    Raises:
        UserError: rows are invalid or too long, or training diverges.
    """
    if not isinstance(pairs, FinetuneSet):
        rows = pairs_to_retain(pairs, "pairs")
        pairs = FinetuneSet(rows.ids, rows.questions, rows.answers)
    generator = TextGenerator.of(lm, model or ModelConfig())
    weights = _finetune(
        generator,
        pairs,
        config or FinetuneConfig(),
        data or DataConfig(),
        seed=seed,
        recorder=Recorder(bars=progress),
    )
    return generator.trained(weights)


def evaluate(
    lm: LanguageModel,
    splits: Sequence[EvalSet] | Mapping[str, Pairs],
    *,
    config: EvaluateConfig | None = None,
    reference: LanguageModel | None = None,
    before: LanguageModel | None = None,
    never_saw: Sequence[LanguageModel] = (),
    retain: RetainSet | Pairs = (),
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Computes the unlearn quality, utility, ROUGE-L recalls and further measures of a model.

    Args:
        lm: model to evaluate.
        splits: evaluation sets with the names of `data.evaluate`, which are `forget`,
            `forget_paraphrased`, `retain`, `world_facts`, `real_authors`, `unrelated`, `holdout`
            and `relearn`. Some measures need paraphrased and wrong answers, which are columns of an
            `EvalSet`.
        config: settings of evaluation, which select the measures. The arguments `reference` and
            `never_saw` replace the settings with these names.
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
        A dict of the numbers that `pmc_jax.evaluation.quality.of_recalls` returns, with the key
        `words` for the rule by which ROUGE divides texts into words. If measures are selected, the
        key `evaluation` holds their results (see docs/reference/evaluation.md).

    Raises:
        UserError: a split has an unknown name, rows are invalid or too long, the text in
            `config.corpus.path` cannot be read, or the relearning attack fails.
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
    asking, settings = config or EvaluateConfig(), model or ModelConfig()
    named = {s.name: s for s in splits}

    def model_ref(which: LanguageModel) -> ModelRef:
        generator = TextGenerator.of(which, settings)
        return ModelRef("given in code", "", lambda name: LoadedModel(name, generator))

    models = {"before": before, "after": lm, "reference": reference}
    evaluation = harness.evaluate(
        {name: model_ref(which) for name, which in models.items() if which is not None},
        EvalContext(
            named,
            retain,
            asking,
            data or DataConfig(),
            seed,
            never_saw=tuple(map(model_ref, never_saw)),
        ),
        recorder=Recorder(bars=progress),
    )
    numbers = headline(evaluation, "after") | {"words": evaluation["words"]}
    return numbers | ({"evaluation": evaluation} if asking.wanted else {})


def _retain_set(retain: RetainSet | Pairs) -> RetainSet:
    return retain if isinstance(retain, RetainSet) else pairs_to_retain(retain)
