"""The library reads rows as a run reads them, into the type that the program names."""

import pytest
from data_files import write
from tiny_runs import fault

import pmc_jax as pmc

ROWS = [
    {"prompt": "Who?", "completion": "Ann.", "topic": "who", "paraphrased_answer": "It is Ann."},
    {"prompt": "Where?", "completion": "Here.", "topic": "", "paraphrased_answer": "It is here."},
]


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, "r.jsonl", ROWS)


def test_each_type_has_its_columns(path):
    ids, questions, answers = ("r:0", "r:1"), ("Who?", "Where?"), ("Ann.", "Here.")
    assert pmc.load_data(path, pmc.ForgetSet) == pmc.ForgetSet(ids, questions)
    named = pmc.load_data(path, pmc.ForgetSet, subject="topic")
    assert named == pmc.ForgetSet(ids, questions, ("who", ""))
    for kind in (pmc.RetainSet, pmc.FinetuneSet, pmc.ForgetAnswerSet):
        assert pmc.load_data(str(path), kind) == kind(ids, questions, answers)
    paraphrased = tuple(row["paraphrased_answer"] for row in ROWS)
    got = pmc.load_data(path, pmc.EvalSet, name="forget")
    assert got == pmc.EvalSet("forget", ids, questions, answers, paraphrased)


def test_it_takes_the_settings_of_a_source(path):
    got = pmc.load_data(path, pmc.RetainSet, rows="1:", question="completion", answer="prompt")
    assert got == pmc.RetainSet(("r:1",), ("Here.",), ("Where?",))
    data = pmc.DataConfig(root=str(path.parent))
    assert len(pmc.load_data("r.jsonl", pmc.RetainSet, data=data)) == 2
    assert len(pmc.load_data("general:all", pmc.RetainSet, rows="0:3")) == 3


def test_faults(path):
    message = fault(pmc.load_data, path, "forget")
    assert "Use one of: pmc_jax.ForgetSet, pmc_jax.RetainSet" in message
    assert "one of: forget, forget_paraphrased" in fault(pmc.load_data, path, pmc.EvalSet)
    assert "name is for an EvalSet" in fault(pmc.load_data, path, pmc.RetainSet, name="forget")
    assert "rows: the value must be a range" in fault(pmc.load_data, path, pmc.RetainSet, rows="x")
    message = fault(pmc.load_data, path, pmc.RetainSet, question="query")
    assert "'query' does not exist" in message and "Set load_data.question and load" in message
    assert fault(pmc.load_data, "nosuch.csv", pmc.ForgetSet).startswith("load_data.path: ")


def test_a_method_takes_the_rows_that_it_trains_on(path):
    answers, questions = (pmc.load_data(path, k) for k in (pmc.ForgetAnswerSet, pmc.ForgetSet))
    # The forget rows are accepted, so the fault is that of the retain pairs.
    for rows, method in ((answers, "npo"), (questions, "pmc")):
        assert fault(pmc.unlearn, None, rows, [], method=method).startswith("retain: ")
    for rows, method in ((questions, "npo"), (answers, "pmc")):
        assert "forget: the argument is of type Forget" in fault(
            pmc.unlearn, None, rows, [], method=method
        )
