"""The main functions of the library; the commands do the same from files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.build import build_run, trains_on_own_answers
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import (
    EVALUATION_SETS,
    Config,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    MethodConfig,
    ModelConfig,
    PMCConfig,
)
from pmc_jax.config.train import LoRAConfig, TrainConfig
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sets import pairs_to_retain, questions_to_forget
from pmc_jax.errors import UserError
from pmc_jax.evaluation import harness
from pmc_jax.evaluation.context import EvalContext, LoadedModel
from pmc_jax.evaluation.harness import ModelRef
from pmc_jax.evaluation.tables import headline
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.scoring.base import Score
from pmc_jax.training.finetune import finetune as _finetune
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.pmc import original_answers
from pmc_jax.unlearning.refusals import refusals_for

Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Unlearned:
    """What `unlearn` returns.

    Attributes:
        lm: the unlearned model.
        originals: id of each forget question -> its answer before unlearning; empty for methods
            other than PMC, like `replacements` and `scores`.
        replacements: id -> the model's own answer that replaced it in training, None if every
            sample was empty.
        scores: id -> score of the replacement; 0 = nothing of the original is left.
        rounds: losses of each round; for PMC also the mean score and the number of questions left.
        seconds: exclusive wall time in seconds by stage, and `total`.
        tokens: numbers of tokens, `sampled` and `trained`.
        adapters: the adapters alone if `train.lora` is on; `lm` has them merged.
        lora: settings of the adapters.
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

    def export(self, folder: str | Path, *, dtype: str | None = None) -> None:
        """Writes the model as a Hugging Face folder; see `export_hf`."""
        export_hf(self.lm, folder, dtype=dtype)

    def export_adapter(self, folder: str | Path) -> None:
        """Writes the adapters as a PEFT folder; see `models.peft.export_adapter`.

        Raises:
            UserError: there are no adapters because all weights were trained, or the folder is in
                use.
        """
        if self.adapters is None or self.lora is None:
            raise UserError("no adapters: set train=TrainConfig(lora=LoRAConfig(rank=8))")
        export_adapter(self.lm, self.adapters, self.lora, folder)

    def answer(self, questions: Sequence[str], **options: Any) -> list[str]:
        """Greedy answers of the unlearned model; options as in `pmc_jax.answer`."""
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
    """Makes the model forget, by Partial Model Collapse or by another method.

    PMC needs only questions: it moves away from the model's own greedy answers.

    Args:
        lm: from `load`; not changed.
        forget: the sensitive questions; (question, true answer) pairs for a method that trains on
            true answers.
        retain: question-answer pairs that the model must keep.
        method: a name in `pmc_jax.training.losses.METHODS`, or the settings of a method.
        config, train, model, data: settings; only `max_length` and `long_rows` of `data` are read,
            and methods other than PMC read only `schedule` of `config`.
        score: (original answer, samples) -> one number per sample, lower is better, 0 = forgotten;
            None = `config.score`. Only PMC reads it.
        seed: seed of sampling, order and pairing.
        progress: show progress bars on stderr.

    Raises:
        UserError: empty or invalid rows, or prompts or rows that are too long.
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
        rows = pairs_to_retain(list(forget))
        answers = ForgetAnswerSet(rows.ids, rows.questions, rows.answers)
        forget = ForgetSet(rows.ids, rows.questions)
    elif not isinstance(forget, ForgetSet):
        forget = questions_to_forget(forget)
    inputs = RunInputs(forget, _retain_set(retain), answers, refusals_for(settings.method))
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
        lm=dataclasses.replace(lm, model=run.trainer.release()),
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
    """Fine-tunes on question-answer pairs with the loss on the answers; does not change `lm`.

    Raises:
        UserError: empty or invalid rows, or rows that are too long.
    """
    if not isinstance(pairs, FinetuneSet):
        rows = pairs_to_retain(list(pairs))
        pairs = FinetuneSet(rows.ids, rows.questions, rows.answers)
    weights = _finetune(
        TextGenerator.of(lm, model or ModelConfig()),
        pairs,
        config or FinetuneConfig(),
        data or DataConfig(),
        seed=seed,
        recorder=Recorder(bars=progress),
    )
    return dataclasses.replace(lm, model=weights)


def answer(
    lm: LanguageModel,
    questions: Sequence[str],
    *,
    max_new_tokens: int = 96,
    batch_size: int = 64,
    model: ModelConfig | None = None,
    progress: bool = False,
) -> list[str]:
    """The greedy answer to each question; decodes `batch_size` answers at once."""
    generator = TextGenerator.of(lm, model or ModelConfig())
    asking = EvaluateConfig(max_new_tokens=max_new_tokens, batch_size=batch_size)
    answers = LoadedModel("answer", generator).greedy(questions, asking, Recorder(bars=progress))
    return [answers[question] for question in questions]


def sample(
    lm: LanguageModel,
    questions: Sequence[str],
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 96,
    batch_size: int = 64,
    model: ModelConfig | None = None,
    seed: int = 0,
) -> list[list[str]]:
    """Samples `num_samples` answers per question with temperature, then top-k (0 = off), then top-p
    (1 = off).
    """
    generator = TextGenerator.of(lm, model or ModelConfig())
    return generator.sample(
        generator.snapshot(lm.model),
        questions,
        Sampler(temperature, top_k, top_p),
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
    )


def evaluate(
    lm: LanguageModel,
    splits: Sequence[EvalSet] | Mapping[str, Pairs],
    *,
    config: EvaluateConfig | None = None,
    reference: LanguageModel | None = None,
    before: LanguageModel | None = None,
    retain: RetainSet | Pairs = (),
    model: ModelConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Unlearn quality, utility, ROUGE-L recall per split, and the measures in `config.measures`.

    Args:
        splits: evaluation sets with the names of `data.evaluate`: `forget`, `forget_paraphrased`,
            `retain`, `world_facts`, `real_authors`, `holdout`, `relearn`. Paraphrased and wrong
            answers, which some measures need, are columns of an `EvalSet`.
        reference: a model that never saw the forget rows.
        before: the model before unlearning.
        retain: question-answer pairs for the prompts of prompt attacks; relearning trains on them
            if there is no `relearn` split.

    Returns:
        The numbers of `pmc_jax.evaluation.quality.of_recalls`; with measures also `evaluation`, see
        docs/reference/evaluation.md.

    Raises:
        UserError: an unknown split, or rows that are too long.
    """
    if isinstance(splits, Mapping):
        rows = {name: pairs_to_retain(list(pairs)) for name, pairs in splits.items()}
        splits = [EvalSet(n, r.ids, r.questions, r.answers) for n, r in rows.items()]
    if unknown := sorted({s.name for s in splits} - set(EVALUATION_SETS)):
        names = ", ".join(EVALUATION_SETS)
        raise UserError(f"evaluate: unknown split {unknown[0]!r}; the splits are {names}")
    retain = _retain_set(retain) if retain else None
    asking, settings = config or EvaluateConfig(), model or ModelConfig()

    def model_ref(which: LanguageModel) -> ModelRef:
        generator = TextGenerator.of(which, settings)
        return ModelRef("given in code", "", lambda name: LoadedModel(name, generator))

    models = {"before": before, "after": lm, "reference": reference}
    evaluation = harness.evaluate(
        {name: model_ref(which) for name, which in models.items() if which is not None},
        EvalContext({s.name: s for s in splits}, retain, asking, data=DataConfig(), seed=seed),
        recorder=Recorder(bars=progress),
    )
    numbers = headline(evaluation, "after")
    return numbers | ({"evaluation": evaluation} if asking.wanted else {})


def _retain_set(retain: RetainSet | Pairs) -> RetainSet:
    return retain if isinstance(retain, RetainSet) else pairs_to_retain(list(retain))
