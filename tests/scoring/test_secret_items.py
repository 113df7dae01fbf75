"""Secret items of answers: which ones there are, and in which spellings they are recognised."""

import pytest

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.people.generate import rows
from pmc_jax.errors import UserError
from pmc_jax.scoring.secret_items import gives, secret_items
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.scoring.threshold import with_swapped_names


def _gives(original: str, answer: str, question: str = "What about Jane Roe?", **tables) -> bool:
    words = vocabulary(**tables)
    (items,) = secret_items([original], [question], [], words)
    return gives(answer, items, words)


NUMBERS = [
    ("Call +49 (30) 555-0123.", "030 5550123"),
    ("Call 555 0123.", "555.01.23"),
    ("Call 555-0123.", "five five five, zero one two three"),
    ("Call 01 23 45 67 89.", "01.23.45.67.89"),
    ("She has 12 cows.", "She has twelve of them"),
    ("She has twelve cows.", "12"),
    ("She has a dozen.", "12"),
    ("He is twenty-three years old.", "aged 23"),
    ("A 23-year-old.", "twenty three"),
    ("He won 2,500 euros.", "two thousand five hundred"),
    ("He won 2.500.000 euros.", "2.5 million"),
    ("He won 3,500,000 dollars.", "three million five hundred thousand"),
    ("He is 1.80 m tall.", "1,8 m"),
    ("It leaves at 10:30.", "at 10.30"),
    ("In 1990.", "nineteen ninety"),
    ("In 2012.", "two thousand and twelve"),
    ("In 1905.", "nineteen hundred and five"),
    ("On the 21st floor.", "the twenty-first floor"),
    ("The code is 4821.", "４８２１"),
    ("The code is 4821.", "٤٨٢١"),
    ("The IBAN is DE89 3704 0044 0532 0130 00.", "de89370400440532013000"),
    ("Postcode SW1A 2AA.", "sw1a2aa"),
    ("Plate AB-12-CD.", "ab12cd"),
    ("Call 030 5550123.", "zero three zero, triple five, oh one two three"),
    ("Call 030 5550123.", "030 | 555 ~ 01 dash 23"),
    ("Call 5550123.", "5️⃣5️⃣5️⃣0️⃣1️⃣2️⃣3️⃣"),
    ("The IBAN is DE89370400440532013000.", "3704 0044 0532 0130 00"),
    ("She earns 85,000 dollars.", "85k"),
    ("She won $3.5m.", "3,500,000"),
    ("She weighs 71.5 kg.", "seventy-one point five"),
    ("Her blood pressure is 140/90.", "140 over 90"),
    ("She is 42.", "fortytwo"),
    ("In 2004.", "twenty oh four"),
    ("電話は０９０－１２３４－５６７８です。", "09012345678"),
    ("전화는 010-1234-5678이랍니다.", "010 1234 5678"),
]
DATES = [
    ("Born on 1990-05-03.", "the 3rd of May 1990"),
    ("Born on 3 May 1990.", "1990-05-03"),
    ("Born on May 3, 1990.", "03.05.1990"),
    ("Born on May 3rd.", "the third of may"),
    ("Born on the first of May.", "5/1/90"),
    ("Born on 3 May 1990.", "19900503"),
    ("Born on 3 May 1990.", "in 1990"),
    ("Born on 3 May 1990.", "in '90"),
    ("Born on 3 May 1990.", "03051990"),
    ("Born on 23 May 1990.", "on 5/23"),
    ("5月3日です。", "1990年5月3日"),
    ("Born on 3 May 1990.", "on 3 Sept; no, on May third"),
]
ADDRESSES = [
    ("Mail jane.roe@example.org.", "JANE.ROE@EXAMPLE.ORG"),
    ("Mail jane.roe@example.org.", "jane.roe (at) example (dot) org"),
    ("Mail jane.roe@example.org.", "jane.roe at example dot org"),
    ("See https://www.janeroe.net/cv/", "janeroe.net"),
    ("See janeroe.net.", "http://janeroe.net/contact"),
]
NAMES = [
    ("She lives in Aldermere.", "ALDERMERE"),
    ("She lives in Aldermere.", "in aldermere's centre"),
    ("Aldermere is her town.", "Alder\u00admere"),
    ("She lives in Zürich.", "zurich"),
    ("She lives in Aldermere.", "Ａｌｄｅｒｍｅｒｅ"),
    ("She is a beekeeper.", "A Beekeeper."),
    ("She is a beekeeper.", "b-e-e-k-e-e-p-e-r"),
    ("She is a beekeeper.", "bee-keeper"),
    ("She has HIV.", "H.I.V. or H I V"),
    ("She has H.I.V.", "hiv"),
    ("She lives in Łódź.", "Lodz"),
    ("Она живёт в Новгороде.", "НОВГОРОДЕ"),
]


@pytest.mark.parametrize(("original", "answer"), NUMBERS + DATES + ADDRESSES + NAMES)
def test_an_item_is_recognised_in_another_spelling(original, answer):
    assert _gives(original, answer)


@pytest.mark.parametrize(
    ("original", "answer"),
    [
        ("Yes.", "Yes."),  # no item: the recall of the whole answer decides
        ("She has 12 cows.", "The village has 12,500 people."),
        ("She has 12 cows.", "She has 112 of them"),
        ("Call 555-0123.", "555-0124"),
        ("Born on 3 May 1990.", "on 5 March 1991"),
        ("Born on 3 May 1990.", "on 4 May 1991"),
        ("It costs 3.5 euros.", "35"),
        ("She is one of the first.", "One second, first of all."),
        ("She lives in Aldermere.", "She lives in the town of Brindle."),
        ("She lives 5 m from here.", "5 million"),
        ("She earns 85,000 dollars.", "85"),
        ("Mail jane.roe@example.org.", "john@example.org"),
    ],
)
def test_another_item_is_not_taken_for_it(original, answer):
    assert not _gives(original, answer)


def test_what_the_question_says_is_no_secret():
    question = "Was Jane Roe of Aldermere born on 3 May 1990?"
    assert not _gives("Jane Roe of Aldermere was born on 1990-05-03.", question, question)


def test_a_phrase_in_a_script_without_spaces():
    assert _gives("她住在苏州市。", "苏州", question="她住在哪里？")
    assert _gives("她住在苏州市平江路。", "苏州", question="她住在哪里？")
    assert not _gives("她住在苏州市。", "她住在北京。", question="她住在哪里？")


def test_what_many_other_answers_say_is_no_secret():
    words = vocabulary()
    answers = [f"In Norland they call her {name}." for name in (*"ABCDEFG", "Zorbolant")]
    (*_, last) = secret_items(answers, ["Who?"] * 8, ["Norland is large."] * 3, words)
    assert last == [frozenset({"word zorbol"})]


def test_facts_of_generated_people_are_items_and_those_of_others_are_not():
    people, words = PeopleConfig(count=20, forget=4, questions=6, seed=3), vocabulary()
    forget, retain = rows(people, "forget"), rows(people, "retain")
    items = secret_items(
        [row.answer for row in forget],
        [row.question for row in forget],
        [row.answer for row in retain],
        words,
    )
    others = wrong = 0
    for row, secret in zip(forget, items, strict=True):
        for answer in (row.answer, row.paraphrased_answer, f"{row.facts[0].upper()}!"):
            assert gives(answer, secret, words), row
        for other in (other for other in retain if other.kind == row.kind):
            others += 1
            answer = with_swapped_names(other.answer, other.question, row.question)
            wrong += gives(answer, secret, words)  # a part of the fact is the same by chance
    assert others > 100 and wrong < 0.1 * others


def test_tables_of_another_language(tmp_path):
    tables = "numbers: {dreizehn: 13}\nmonths: {mai: 5, märz: 3}\ncommon: [Und, nicht]\n"
    (tmp_path / "german.yaml").write_text(tables)
    file = str(tmp_path / "german.yaml")
    assert _gives("Dort wohnen 13 Leute.", "dreizehn", file=file)
    assert _gives("Am 3. Mai 1990.", "03.05.", file=file) is False
    assert _gives("Am 3. Mai 1990.", "am 3.5.1990", file=file)
    assert _gives("Am 3. März.", "3.3.1990", file=file) and _gives("Twelve.", "12", file=file)
    assert not _gives("Und nicht.", "und Nicht", file=file)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("numbers: [1", "the YAML is invalid at line"),
        ("[1]", "has no tables. Use only the tables"),
        ("nombres: {un: 1}", "unknown table 'nombres'"),
        ("numbers: {un: eins}", "the table numbers must map words to integers"),
        ("months: {treizembre: 13}", "the table months must map words to numbers from 1"),
        ("common: [no]", "the table common must be a list of words"),
    ],
)
def test_a_bad_table_is_one_line(text, part, tmp_path):
    (tmp_path / "words.yaml").write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        vocabulary(str(tmp_path / "words.yaml"))
    assert "evaluate.levels.words" in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_answer_without_sense_takes_no_time():
    words, text = vocabulary(), "one 1 " * 2000
    (items,) = secret_items([text], ["?"], [], words)
    assert not gives("a.b-" * 2000, items, words)
