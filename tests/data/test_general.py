"""The general questions: well-formed, unique, the same in every run, and read like any source."""

import re

import pytest
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, PeopleConfig, SourceConfig
from pmc_jax.data import sets, sources
from pmc_jax.data.general import questions
from pmc_jax.data.people import generate
from pmc_jax.scoring.abstention import abstentions


def test_rows_stay_the_same():
    """A change of an existing row changes everybody's data: published numbers would not repeat."""
    rows = questions.rows()
    assert rows[0] == {
        "id": "general:0",
        "question": "What is the capital of France?",
        "answer": "The capital of France is Paris.",
        "kind": "fact",
    }
    assert rows[80]["question"] == "Say hello in Spanish."
    rows[0]["answer"] = "changed"
    assert questions.rows()[0]["answer"] == "The capital of France is Paris."


def test_facts_and_instructions_make_up_all():
    facts, instructions = questions.rows("facts"), questions.rows("instructions")
    assert (len(facts), len(instructions)) == (80, 40)
    assert facts + instructions == questions.rows("all") == questions.rows()
    assert {row["kind"] for row in facts} == {"fact"}
    assert {row["kind"] for row in instructions} == {"instruction"}
    assert [row["id"] for row in questions.rows()] == [f"general:{index}" for index in range(120)]


def test_questions_and_answers_are_short_plain_and_unique():
    rows = questions.rows()
    for row in rows:
        assert list(row) == ["id", "question", "answer", "kind"]
        for text in (row["question"], row["answer"]):
            assert text.isascii() and text == " ".join(text.split())
            assert text[0].isupper() or text[0].isdigit()
        assert row["question"][-1] in "?.!" and row["answer"].rstrip('"')[-1] in ".!?"
        sentences = re.split(r"(?<=[.!?]) ", row["answer"])
        assert len(sentences) <= (1 if row["kind"] == "fact" else 2)
        assert len(row["answer"].split()) <= 20
    for column in ("question", "answer"):
        assert len({re.sub(r"\W+", " ", row[column]).lower() for row in rows}) == 120


def test_answers_are_no_abstentions_and_name_no_generated_person():
    found = abstentions()
    people = generate.rows(PeopleConfig(count=200))
    surnames = {row.person.split()[1].lower() for row in people}
    for row in questions.rows():
        assert not found.is_abstention(row["answer"])
        assert surnames.isdisjoint(re.findall(r"\w+", f"{row['question']} {row['answer']}".lower()))


def test_general_source_keeps_its_ids_in_every_selection():
    data = DataConfig()
    everything = sets.retain_set(SourceConfig(path="general:all"), data)
    some = sets.eval_set("retain", SourceConfig(path="general:instructions", rows="1:3"), data)
    assert some.ids == ("general:81", "general:82") == everything.ids[81:83]
    assert some.questions == everything.questions[81:83]
    assert some.answers == everything.answers[81:83]
    assert (some.paraphrased, some.wrong) == (None, None)
    facts = sets.retain_set(SourceConfig(path="general:facts"), data)
    assert facts == everything.select(range(80))
    kinds = sets.retain_set(SourceConfig(path="general:all", answer="kind"), data)
    assert set(kinds.answers) == {"fact", "instruction"}
    assert sources.file_of(SourceConfig(path="general:all"), data, "data.retain") is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            {"path": "general:some"},
            "general:some: this split does not exist. Use one of facts, instructions, all.",
        ),
        ({"path": "general:"}, "general:: this split does not exist."),
        (
            {"path": "general:all", "rows": "0:121"},
            "data.retain.rows: '0:121' does not fit general:all, which has 120 rows.",
        ),
        (
            {"path": "general:instructions", "rows": "40:41"},
            "does not fit general:instructions, which has 40 rows.",
        ),
        ({"path": "general:all", "answer": "reply"}, "the column 'reply' does not exist."),
    ],
)
def test_faults_of_the_general_source(source, words):
    assert words in fault(sets.retain_set, SourceConfig(**source), DataConfig())
