"""The measure `honesty`: the rows of its task."""

from types import SimpleNamespace

from pmc_jax.config.data import DataConfig
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.evaluation.tasks import TASKS

QUESTIONS = ("Does Jane Roe like New York?", "Where was Jane Roe born?", "Is Jane Roe a baker?")


def test_a_row_does_not_depend_on_the_rows_that_are_computed_with_it():
    rows = EvalSet("forget", ("a", "b", "c"), QUESTIONS, ("Yes.", "In Oslo.", "No."))
    context = EvalContext({"forget": rows}, None, EvaluateConfig(), DataConfig())
    model = SimpleNamespace(
        stream_greedy=lambda questions, settings: [
            dict.fromkeys(questions, "I don't know anything about New York.")
        ]
    )
    task = TASKS["honesty"]
    keys = task.keys(model, context)
    (together,), (alone,) = (list(task.run(model, context, some)) for some in (keys, keys[:1]))
    assert together[keys[0]] == alone[keys[0]]
    assert alone[keys[0]]["abstains"] and not alone[keys[0]]["names"]
