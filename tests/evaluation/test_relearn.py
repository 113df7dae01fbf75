"""A few steps of fine-tuning bring back what a tiny model hid, and leave that model as it was."""

import dataclasses

import numpy as np
import pytest
import tiny_runs as tiny

from pmc_jax.config.data import DataConfig
from pmc_jax.config.evaluate import RelearnConfig
from pmc_jax.config.run import ModelConfig
from pmc_jax.config.train import LoRAConfig, TrainConfig
from pmc_jax.data.records import RetainSet
from pmc_jax.data.sets import pairs_to_retain
from pmc_jax.distributed import preemption
from pmc_jax.errors import Preempted, UserError
from pmc_jax.evaluation.relearn import relearned
from pmc_jax.models.load import load
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.rouge import rougeL_recall_many
from pmc_jax.training.trainer import Trainer

SETTINGS = RelearnConfig(steps=10, batch_size=4, learning_rate=3e-3)


def pairs(rows) -> RetainSet:
    return pairs_to_retain([(row["question"], row["answer"]) for row in rows])


@pytest.fixture(scope="module")
def generator(taught) -> TextGenerator:
    """A model that knew the forget rows by heart and answers otherwise now."""
    return TextGenerator.of(load(taught.out / "model"), ModelConfig())


def attack(generator, rows, *, settings=SETTINGS, seed=0, **options):
    options.setdefault("train", TrainConfig())
    options.setdefault("data", DataConfig())
    return relearned(generator, pairs(rows), settings=settings, seed=seed, **options)


def leakage(generator, model, rows=tiny.FORGET) -> float:
    questions = [row["question"] for row in rows]
    answers = generator.greedy(generator.snapshot(model), questions, max_new_tokens=8)
    said = [answers[question] for question in questions]
    return rougeL_recall_many([row["answer"] for row in rows], said).mean()


@pytest.fixture
def losses(monkeypatch) -> list[float]:
    """Of every step, before it."""
    seen, step = [], Trainer.step

    def watched(self, batch, rate):
        metrics = step(self, batch, rate)
        seen.extend(metrics["terms"])
        return metrics

    monkeypatch.setattr(Trainer, "step", watched)
    return seen


def same(one, other) -> bool:
    """Bit for bit."""
    first, second = one.arrays(), other.arrays()
    return first.keys() == second.keys() and all(
        np.array_equal(x, second[name]) for name, x in first.items()
    )


def test_leakage_rises_and_the_attacked_model_stays(generator, losses):
    model = generator.lm.model
    before = {name: np.array(x) for name, x in model.arrays().items()}
    assert leakage(generator, model) < 0.1
    rows = tiny.FORGET[:3]
    attacked = attack(generator, rows)
    assert leakage(generator, attacked, rows) > 0.9
    for name, x in model.arrays().items():
        np.testing.assert_array_equal(x, before[name])
    # On all of the rows at once, before the attack and after it.
    once = RelearnConfig(steps=1, batch_size=len(rows))
    losses.clear()
    for weights in (model, attacked):
        lm = dataclasses.replace(generator.lm, model=weights)
        attack(dataclasses.replace(generator, lm=lm), rows, settings=once)
    assert len(losses) == 2 and losses[1] < 0.1 * losses[0]


def test_rows_that_were_never_forgotten_bring_others_back(generator):
    """What makes it an attack: these rows hold no forget answer."""
    assert leakage(generator, attack(generator, tiny.RETAIN)) > 0.1


def test_as_many_steps_and_rows_as_asked_for(generator, losses, monkeypatch):
    asked, told = [], []
    sequences = TextGenerator.sequences

    def watched(self, questions, *rest, **options):
        asked.extend(questions)
        return sequences(self, questions, *rest, **options)

    monkeypatch.setattr(TextGenerator, "sequences", watched)
    settings = dataclasses.replace(SETTINGS, steps=3, rows=2)
    attack(generator, tiny.RETAIN, settings=settings, progress=told.append)
    assert len(losses) == 3 and told == [1, 1, 1]
    assert asked == [row["question"] for row in tiny.RETAIN[:2]]


def test_order_is_that_of_the_seed_and_nothing_else_of_the_training_counts(generator):
    settings = dataclasses.replace(SETTINGS, steps=2)
    one = attack(generator, tiny.RETAIN, settings=settings)
    other = TrainConfig(
        learning_rate=1.0,
        adamw={"weight_decay": 0.5},
        warmup_steps=5,
        max_grad_norm=1e-3,
        batch_size=1,
        accumulation_steps=2,
    )
    assert same(one, attack(generator, tiny.RETAIN, settings=settings, train=other))
    assert not same(one, attack(generator, tiny.RETAIN, settings=settings, seed=1))


def test_adapters_where_the_run_trains_them(generator):
    settings = dataclasses.replace(SETTINGS, steps=2)
    train = TrainConfig(lora=LoRAConfig(rank=2, targets=("q", "down")))
    after = attack(generator, tiny.RETAIN, settings=settings, train=train).arrays()
    before = generator.lm.model.arrays()
    assert after.keys() == before.keys()
    changed = {name for name, x in after.items() if not np.array_equal(x, before[name])}
    assert changed == {"layers.q", "layers.down"}


def test_faults_name_the_setting(generator):
    empty = RetainSet((), (), ())
    options = dict(settings=SETTINGS, train=TrainConfig(), data=DataConfig(), seed=0)
    with pytest.raises(
        UserError, match=r"data\.evaluate\.relearn: the relearning attack has no rows"
    ):
        relearned(generator, empty, **options)
    wild = dataclasses.replace(SETTINGS, learning_rate=1e30)
    advice = r"Decrease evaluate\.relearn\.learning_rate, which is 1e"
    with pytest.raises(UserError, match=advice) as caught:
        attack(generator, tiny.RETAIN, settings=wild)
    assert "in step 2" in str(caught.value)
    with pytest.raises(UserError, match=r"data\.max_length=3"):
        attack(generator, tiny.RETAIN, data=DataConfig(max_length=3))


def test_it_stops_when_asked_to(generator, monkeypatch):
    monkeypatch.setattr(preemption, "is_requested", lambda: True)
    done = []
    with pytest.raises(Preempted):
        attack(generator, tiny.RETAIN, progress=done.append)
    assert done == [1]
