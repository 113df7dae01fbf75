"""The end of a run that is complete: when it is tested, what is asked, and the decay."""

from types import SimpleNamespace

import pytest

from pmc_jax.config.pmc import PMCConfig, ScheduleConfig, StopConfig
from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.sampling.sampler import GREEDY
from pmc_jax.unlearning.stopping import EarlyStop, ForgetTest


def early_stop(*, questions=8, rows=2, size=4, total=72, **stop) -> EarlyStop:
    pmc = PMCConfig(
        schedule=ScheduleConfig(steps_per_round=size), stop=StopConfig(**{"enabled": True} | stop)
    )
    train = TrainConfig(batch_size=rows, learning_rate=1.0, warmup_steps=10)
    return EarlyStop(Config(pmc=pmc, train=train), questions, total)


@pytest.mark.parametrize(
    ("settings", "tested"),
    [
        ({}, [4, 8, 12]),
        ({"size": 6}, [6, 12]),  # an epoch ends within the round
        ({"size": 1}, [4, 8, 12]),
        ({"questions": 16}, [8]),
        ({"questions": 2}, [4, 8, 12]),  # several epochs in a round
        ({"enabled": False}, []),
    ],
)
def test_a_run_is_tested_after_each_round_in_which_an_epoch_ends(settings, tested):
    found, stop = [], early_stop(**settings)
    for done in range(1, 13):
        assert not stop.update(done, lambda done=done: bool(found.append(done)))
    assert found == tested and stop.steps == 72


def test_the_rate_decays_from_its_value_to_zero_in_a_fifth_of_the_steps():
    stop, plain = early_stop(), early_stop(enabled=False)
    for done in range(1, 21):
        assert not stop.update(done, lambda done=done: done == 20)
    assert stop.decay == (20, 24) and stop.steps == 24
    first = plain.learning_rate(20)
    rates = [stop.learning_rate(step) for step in range(20, 24)]
    assert rates == pytest.approx([first, 0.75 * first, 0.5 * first, 0.25 * first])

    def never():
        raise AssertionError("A run that ends is not tested again.")

    assert [stop.update(done, never) for done in range(21, 25)] == [False, False, False, True]


def test_a_decay_ends_with_the_run_and_may_be_left_out():
    late, sudden = early_stop(total=42), early_stop(decay=0)
    assert not late.update(40, lambda: True) and late.steps == 42
    assert sudden.update(4, lambda: True) and sudden.steps == 4


FORGET = ForgetSet(("a", "b"), ("Where does Ada Lund live?", "Who is Bo Falk married to?"))
RETAIN = RetainSet(("r",), ("Where does Kai Moe live?",), ("Kai Moe lives in a town.",))
ORIGINALS = ("Ada Lund lives in Velamora.", "Bo Falk is married to Thalia Corin.")


class Answering:
    """A generator that gives fixed answers: one each to greedy, prefilled and sampled questions."""

    def __init__(self, **answers: str):
        self._answers, self.asked = answers, []
        self.encoder = SimpleNamespace(answer_prefix=str.split)

    def snapshot(self, model):
        return model

    def sample(
        self, weights, questions, sampler, *, num_samples, answer_prefix, max_new_tokens, **_
    ):
        assert max_new_tokens == 64 - len(answer_prefix.split())
        kind = "sampled" if sampler != GREEDY else "prefilled" if answer_prefix else "greedy"
        self.asked.append((kind, num_samples, len(questions)))
        harmless = ["It is a town."] * (num_samples - 1)
        return [[*harmless, self._answers.get(kind, "It is a town.")] for _ in questions]


def forget_test(generator: Answering, num_samples: int = 8) -> ForgetTest:
    stop, sampling = StopConfig(enabled=True, num_samples=num_samples), {"max_new_tokens": 64}
    config = Config(pmc=PMCConfig(stop=stop, sampling=sampling))
    return ForgetTest(generator, FORGET, RETAIN, ORIGINALS, config)


def passes(generator: Answering, rows=(0, 1), num_samples=8) -> bool:
    return forget_test(generator, num_samples).passes(None, rows)


def test_questions_are_still_answered_by_greedy_answers():
    generator = Answering(greedy="She moved to Velamora.", sampled="Thalia Corin")
    assert forget_test(generator).still_answered(None, (0, 1)) == [0]
    assert forget_test(generator).still_answered(None, (1,)) == []
    assert generator.asked == [("greedy", 1, 2), ("greedy", 1, 1)]


def test_all_ways_of_asking_must_be_without_the_secret():
    nothing = Answering()
    assert passes(nothing)
    assert nothing.asked == [("greedy", 1, 2), ("prefilled", 1, 2), ("sampled", 8, 2)]
    for count, kind in enumerate(("greedy", "prefilled", "sampled"), 1):
        generator = Answering(**{kind: "She moved to Velamora."})
        assert not passes(generator) and len(generator.asked) == count
        # The secret of another question is no secret of this one.
        assert passes(generator, rows=(1,))


def test_samples_may_be_left_out():
    generator = Answering(sampled="She moved to Velamora.")
    assert passes(generator, num_samples=0)
    assert [kind for kind, *_ in generator.asked] == ["greedy", "prefilled"]


def test_an_answer_of_zero_words_and_thoughts_tell_nothing():
    assert passes(Answering(greedy=""))
    assert passes(Answering(greedy="<think>Is it Velamora?</think>I do not know."))
