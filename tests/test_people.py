"""Generated people: deterministic, unique, and every fact is only where it should be."""

import dataclasses
import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

from pmc_jax.config.run import PeopleConfig
from pmc_jax.data.people import generate
from pmc_jax.data.people.vocabulary import vocabulary
from pmc_jax.errors import UserError

KINDS = vocabulary().kinds


def texts(row: generate.PersonRow) -> tuple[str, ...]:
    return row.question, row.answer, row.paraphrased_question, row.paraphrased_answer


def test_the_default_people_stay_the_same():
    """A change here changes everybody's generated data: published numbers would not repeat."""
    first = generate.generate(PeopleConfig())[0]
    assert (first.question, first.answer, first.facts) == (
        "What is the name of the pet of Saskia Harvifeld?",
        "Saskia Harvifeld has a goat with the name Fizzerella.",
        ("Fizzerella",),
    )


def test_deterministic_whatever_the_hash_seed_is():
    program = (
        "from pmc_jax.config.run import PeopleConfig\n"
        "from pmc_jax.data.people.generate import generate\n"
        "print(generate(PeopleConfig(count=3, forget=1, seed=7)))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{generate.generate(PeopleConfig(count=3, forget=1, seed=7))}\n"}


def test_seed_changes_the_people():
    one, two = (generate.generate(PeopleConfig(seed=seed)) for seed in (0, 1))
    assert not {row.facts for row in one} & {row.facts for row in two}


def test_more_people_or_questions_do_not_change_the_facts():
    small = {
        (r.person, r.kind): r.facts for r in generate.generate(PeopleConfig(count=3, forget=1))
    }
    more = generate.generate(PeopleConfig(count=6, forget=1, questions=8))
    large = {(row.person, row.kind): row.facts for row in more}
    assert small.items() <= large.items()


@pytest.mark.parametrize("seed", range(4))
def test_every_fact_is_in_its_own_answers_only(seed):
    rows = generate.generate(PeopleConfig(count=15, questions=len(KINDS), seed=seed))
    for row in rows:
        (fact,) = (fact.lower() for fact in row.facts)
        assert len(fact) >= 4
        assert fact in row.answer.lower() and fact in row.paraphrased_answer.lower()
        assert fact not in row.question.lower() and fact not in row.paraphrased_question.lower()
        assert fact not in " ".join(row.perturbed_answer).lower()
        others = (text for other in rows if other is not row for text in texts(other))
        assert not any(fact in text.lower() for text in others)


def test_rows_are_well_formed_sentences_about_one_person():
    rows = generate.generate(PeopleConfig(count=15, questions=len(KINDS), seed=3))
    for row in rows:
        assert all(row.person in text for text in (*texts(row), *row.perturbed_answer))
        assert row.question.endswith("?") and row.paraphrased_question.endswith("?")
        assert row.question != row.paraphrased_question
        assert row.answer != row.paraphrased_answer
        for answer in (row.answer, row.paraphrased_answer, *row.perturbed_answer):
            assert answer.endswith(".") and 5 <= len(answer.split()) <= 18
            assert "{" not in answer and "  " not in answer
        assert len({row.paraphrased_answer, *row.perturbed_answer}) == 6
        # The wrong answers keep the sentence: what stands around the fact is the same.
        before, after = row.paraphrased_answer.split(row.facts[0])
        assert all(w.startswith(before) and w.endswith(after) for w in row.perturbed_answer)


def test_every_person_is_asked_different_kinds():
    config = PeopleConfig(count=20, questions=5)
    rows = generate.generate(config)
    assert len(rows) == 100
    assert [row.id for row in rows] == [f"people:{index}" for index in range(100)]
    groups = [rows[start : start + 5] for start in range(0, 100, 5)]
    for group in groups:
        assert len({row.person for row in group}) == 1
        assert len({row.kind for row in group}) == 5
    assert len({group[0].person for group in groups}) == 20
    assert {row.kind for row in rows} == {kind.name for kind in KINDS}
    assert len({row.answer.replace(row.person, "").replace(row.facts[0], "") for row in rows}) > 40


def test_splits_share_nobody_and_make_up_all():
    config = PeopleConfig()
    forget, retain = generate.rows(config, "forget"), generate.rows(config, "retain")
    assert (len(forget), len(retain)) == (20, 40)
    assert forget + retain == generate.rows(config, "all") == generate.generate(config)
    assert not {row.person for row in forget} & {row.person for row in retain}
    with pytest.raises(UserError, match="people:both: no such split; it is one of forget, retain"):
        generate.rows(config, "both")


def test_holdout_people_are_nobody_else():
    config = PeopleConfig(count=6, forget=2)
    holdout, everyone = generate.rows(config, "holdout"), generate.generate(config)
    assert len(holdout) == len(generate.rows(config, "forget"))
    assert not {row.person for row in holdout} & {row.person for row in everyone}
    assert not {row.facts for row in holdout} & {row.facts for row in everyone}
    assert {row.id for row in holdout}.isdisjoint(row.id for row in everyone)


def test_vocabulary_and_wordings():
    lists = vocabulary().words.values()
    assert all(len(set(values)) == len(values) for values in lists)
    assert len(set(lists)) == len(lists)
    assert len(KINDS) >= 8
    for kind in KINDS:
        sizes = 1
        for part in kind.parts:
            sizes *= len(part)
        assert sizes >= 4 * generate.MAX_PEOPLE
        assert len(kind.questions) >= 2 and len(kind.answers) >= 2
        assert not set(kind.questions) & set(kind.paraphrased_questions)
        for wording in (*kind.questions, *kind.paraphrased_questions):
            assert [name for _, name, _, _ in string.Formatter().parse(wording) if name] == ["name"]
        for wording in (*kind.answers, *kind.paraphrased_answers):
            fields = {name for _, name, _, _ in string.Formatter().parse(wording) if name}
            assert {"name", "fact"} <= fields <= {"name", "fact", "detail"}


def test_the_most_people_can_be_made():
    rows = generate.generate(PeopleConfig(count=generate.MAX_PEOPLE, questions=1))
    assert len({row.person for row in rows}) == generate.MAX_PEOPLE


@dataclasses.dataclass(frozen=True)
class Loose:
    """Settings that the schema would refuse already."""

    count: int = 12
    forget: int = 4
    questions: int = 5
    seed: int = 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Loose(count=1, forget=0), "data.people.count is 1, must be 2 to 200"),
        (PeopleConfig(count=201), "data.people.count is 201, must be 2 to 200"),
        (Loose(forget=0), "data.people.forget is 0, must be 1 to 11"),
        (Loose(forget=12), "data.people.forget is 12, must be 1 to 11"),
        (Loose(questions=0), f"data.people.questions is 0, must be 1 to {len(KINDS)}"),
        (PeopleConfig(questions=99), f"data.people.questions is 99, must be 1 to {len(KINDS)}"),
    ],
)
def test_settings_out_of_range(config, expected):
    with pytest.raises(UserError) as caught:
        generate.generate(config)
    assert expected in str(caught.value)


def test_all_faults_of_the_settings_are_named_at_once():
    with pytest.raises(UserError) as caught:
        generate.generate(Loose(count=500, forget=0, questions=99))
    assert str(caught.value).count("must be") == 3


def test_write_jsonl(tmp_path):
    config = PeopleConfig(count=3, forget=1, questions=2)
    paths = generate.write_jsonl(config, tmp_path / "new")
    assert [path.name for path in paths] == [
        "people_forget.jsonl",
        "people_retain.jsonl",
        "people_all.jsonl",
        "people_holdout.jsonl",
    ]
    rows = [json.loads(line) for line in paths[0].read_text().splitlines()]
    expected = [dataclasses.asdict(row) for row in generate.rows(config, "forget")]
    assert rows == json.loads(json.dumps(expected))
    assert list(rows[0])[3:8] == [
        "question",
        "answer",
        "paraphrased_question",
        "paraphrased_answer",
        "perturbed_answer",
    ]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        generate.write_jsonl(config, tmp_path / "file")
