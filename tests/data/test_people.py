"""Generated people: deterministic, unique, and every fact is only where it should be."""

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.people import generate
from pmc_jax.data.people.vocabulary import vocabulary
from pmc_jax.errors import UserError

KINDS = vocabulary().kinds


def texts(row: generate.PersonRow) -> tuple[str, ...]:
    return row.question, row.answer, row.paraphrased_question, row.paraphrased_answer


def test_the_default_people_stay_the_same():
    """A change here changes everybody's generated data: published numbers would not repeat."""
    first = generate.rows(PeopleConfig())[0]
    assert (first.question, first.answer, first.facts) == (
        "What is the name of the pet of Saskia Harvifeld?",
        "Saskia Harvifeld has a goat with the name Fizzerella.",
        ("Fizzerella",),
    )


def test_deterministic_whatever_the_hash_seed_is():
    program = (
        "from pmc_jax.config.data import PeopleConfig\n"
        "from pmc_jax.data.people.generate import rows\n"
        "print(rows(PeopleConfig(count=3, forget=1, seed=7)))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{generate.rows(PeopleConfig(count=3, forget=1, seed=7))}\n"}


def test_seed_changes_the_people():
    one, two = (generate.rows(PeopleConfig(seed=seed)) for seed in (0, 1))
    assert not {row.facts for row in one} & {row.facts for row in two}


def test_more_people_or_questions_do_not_change_the_facts():
    small = {(r.person, r.kind): r.facts for r in generate.rows(PeopleConfig(count=3, forget=1))}
    more = generate.rows(PeopleConfig(count=6, forget=1, questions=8))
    large = {(row.person, row.kind): row.facts for row in more}
    assert small.items() <= large.items()


@pytest.mark.parametrize("seed", range(4))
def test_every_fact_is_in_its_own_answers_only(seed):
    rows = generate.rows(PeopleConfig(count=15, questions=len(KINDS), seed=seed))
    for row in rows:
        (fact,) = (fact.lower() for fact in row.facts)
        assert len(fact) >= 4
        assert fact in row.answer.lower() and fact in row.paraphrased_answer.lower()
        assert fact not in row.question.lower() and fact not in row.paraphrased_question.lower()
        assert fact not in " ".join(row.perturbed_answer).lower()
        others = (text for other in rows if other is not row for text in texts(other))
        assert not any(fact in text.lower() for text in others)


def test_rows_are_well_formed_sentences_about_one_person():
    rows = generate.rows(PeopleConfig(count=15, questions=len(KINDS), seed=3))
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
    rows = generate.rows(config)
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
    assert forget + retain == generate.rows(config, "all") == generate.rows(config)
    assert not {row.person for row in forget} & {row.person for row in retain}
    with pytest.raises(
        UserError, match=r"people:both: this split does not exist\. Use one of forget"
    ):
        generate.rows(config, "both")


def test_holdout_people_are_nobody_else():
    config = PeopleConfig(count=6, forget=2)
    holdout, everyone = generate.rows(config, "holdout"), generate.rows(config)
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
    rows = generate.rows(PeopleConfig(count=generate.MAX_PEOPLE, questions=1))
    assert len({row.person for row in rows}) == generate.MAX_PEOPLE


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            PeopleConfig(count=201),
            "data.people.count must be at most 200 for people:all, but it is 201. Lower "
            "data.people.count.",
        ),
        (
            PeopleConfig(questions=99),
            f"data.people.questions must be at most {len(KINDS)}, but it is 99. Lower "
            "data.people.questions.",
        ),
    ],
)
def test_settings_out_of_range(config, expected):
    with pytest.raises(UserError) as caught:
        generate.rows(config)
    assert expected in str(caught.value)


def test_the_holdout_counts_too():
    with pytest.raises(UserError, match=r"data\.people\.forget must be at most 200 .* 230\."):
        generate.rows(PeopleConfig(count=190, forget=40), "holdout")


def test_all_faults_of_the_settings_are_named_at_once():
    with pytest.raises(UserError) as caught:
        generate.rows(PeopleConfig(count=201, questions=99))
    assert str(caught.value).count("must be at most") == 2
