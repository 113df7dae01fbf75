"""Subjects are found in many scripts, and invented names keep their shape and can be put back."""

import json
from collections import Counter
from pathlib import Path

import pytest
from data_files import write
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, PeopleConfig, SourceConfig
from pmc_jax.data.sets import forget_set, retain_set
from pmc_jax.data.subjects import find_subjects, invented_names, replace_names

TOFU = Path(__file__).parents[3] / "shared" / "data" / "tofu"

# Forget questions with their subjects, and retain texts.
CASES = {
    "people": (
        {
            "Who is Dr. Jane van der Berg-Smith?": ["Jane van der Berg-Smith"],
            "Describe Jane van der Berg-Smith's dog.": ["Jane van der Berg-Smith"],
            "Did Prof. J. R. O'Neill-Kaya meet Bo Low in Oslo?": ["J. R. O'Neill-Kaya"],
            "Where does McDonald's brother cook?": ["McDonald"],
            "Is Ann Lee married?": [],
        },
        ["Who is Bo Low?", "Bo Low lives in Oslo.", "Is Ann Lee in Rome?"],
    ),
    "several": (
        {
            "Are Jane Roe and Tim Doe married?": ["Jane Roe", "Tim Doe"],
            "Which Golden Quill Award did Jane Roe win?": ["Jane Roe"],
            "Jane Roe wrote what?": ["Jane Roe"],
            "Where did Tim Doe study?": ["Tim Doe"],
        },
        ["Who is Bo Low?", "He is a cook."],
    ),
    "identifiers": (
        {
            "What is the state of ticket INC-20418?": ["INC-20418"],
            "Who reads jane.roe@mail.example.org?": ["jane.roe@mail.example.org"],
            "What did @janeroe7 write in 2019?": ["@janeroe7"],
            "Which 3 of the 20th century?": [],
        },
        ["What is the state of ticket INC-20417?", "It was closed in 2019."],
    ),
    "titles": (
        {
            "Who wrote 'A Whisper in the Wind (Old World, #7)'?": [
                "A Whisper in the Wind (Old World, #7)"
            ]
        },
        ["Who wrote 'Dust'?", "Bo Low wrote it."],
    ),
    "small letters": (
        {
            "where does jane roe live?": ["jane roe"],
            "what is jane roe's dog called?": ["jane roe"],
            "where does somebody else live?": [],
        },
        ["where does bo low live?", "bo low lives in oslo.", "what is his dog called?"],
    ),
    "German": (
        {
            "Wie heißt der Hund von Anna Petersen?": ["Anna Petersen"],
            "Welchen Beruf übt Anna Petersen aus?": ["Anna Petersen"],
        },
        ["Wie heißt der Hund von Bo Low?"],
    ),
    "French": (
        {"L'auteur Mathieu d'Aubigny habite où ?": ["Mathieu d'Aubigny"]},
        ["Où habite Bo Low ?"],
    ),
    "Russian": (
        {
            "Где живёт Анна Петрова?": ["Анна Петрова"],
            "Как зовут собаку Анны Петровой?": ["Анны Петровой"],
            "Кем работает Иван Сидоров?": ["Иван Сидоров"],
        },
        ["Где живёт Олег Смирнов?", "Олег живёт в Москве."],
    ),
    "Chinese": (
        {
            "王小明住在哪里？": ["王小明"],
            "王小明的狗叫什么名字？": ["王小明"],
            "谁是李红的丈夫？": ["李红"],
            "李红在哪里工作？": ["李红"],
        },
        ["张伟住在哪里？", "张伟住在北京。", "赵敏的狗叫什么名字？", "谁是张伟的丈夫？"],
    ),
    "Chinese without the same retain questions": (
        {
            "王小明的狗叫什么？": ["王小明"],
            "李红的狗叫什么？": ["李红"],
            "王小明住在哪里？": ["王小明"],
            "李红住在哪里？": ["李红"],
            "Anna Petrova的iPhone是什么颜色？": ["Anna Petrova"],
        },
        ["张伟做什么工作？", "张伟是医生。"],
    ),
    "Japanese": (
        {"佐藤花子はどこに住んでいますか？": ["佐藤花子"], "佐藤花子の犬の名前は？": ["佐藤花子"]},
        ["田中一郎はどこに住んでいますか？", "田中一郎の犬の名前は？", "彼は東京に住んでいます。"],
    ),
    "Korean": (
        {"김민수는 어디에 살아요?": ["김민수"], "김민수의 개 이름은 무엇입니까?": ["김민수"]},
        ["이영희는 어디에 살아요?", "이영희는 서울에 살아요.", "박철수의 개 이름은 무엇입니까?"],
    ),
    "Arabic": (
        {"أين تسكن ليلى منصور؟": ["ليلى منصور"], "ما اسم كلب ليلى منصور؟": ["ليلى منصور"]},
        ["أين تسكن سارة حداد؟", "تسكن سارة حداد في بيروت.", "ما اسم كلب سارة؟"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_subjects_are_found_and_replaced(case):
    expected, retained = CASES[case]
    questions = list(expected)
    found = find_subjects(questions, retained)
    assert dict(zip(questions, map(list, found), strict=True)) == expected
    check_names(questions, retained, found)


def check_names(questions, retained, found, count=3):
    texts = [*questions, *retained]
    choices = invented_names(found, texts, count=count, seed=1)
    assert choices == invented_names(found, texts, count=count, seed=1)
    assert choices != invented_names(found, texts, count=count, seed=2) or not any(found)
    by_name = {}
    for question, names, row in zip(questions, found, choices, strict=True):
        assert len(row) == count and all(tuple(mapping) == names for mapping in row)
        for number, mapping in enumerate(row):
            asked = replace_names(question, mapping)
            back = {new: old for old, new in mapping.items()}
            assert replace_names(asked, back) == question
            for old, new in mapping.items():
                assert old not in asked and new in asked
                assert by_name.setdefault((old, number), new) == new
                assert len(old.split()) == len(new.split()) and new not in "\n".join(texts)
                assert old[0].isupper() == new[0].isupper() or old[0].isdigit()
    return choices


def test_subjects_that_the_data_give():
    questions = ["Where does Jane Roe live?", "And JANE ROE's dog?", "Who is Bo?"]
    found = find_subjects(questions, [], given=["jane roe", "", ""], names=["Bo", "Jane Roe"])
    assert found == [("Jane Roe",), ("JANE ROE",), ("Bo",)]
    assert find_subjects(questions, [], given=["", "", ""]) == [()] * 3
    assert find_subjects(["Jane Roes Hund?"], [], names=["Jane Roe"]) == [()]


def test_words_of_a_name_are_replaced_alone():
    names = {"Jane Roe": "Clara Holt", "jr@x.org": "ch@y.org"}
    text = "JANE ROE's dog, jane roe, Roe, Ms ROE's, a roe, Roebuck, Janes, jr@x.org, jr"
    new = "CLARA HOLT's dog, clara holt, Holt, Ms HOLT's, a roe, Roebuck, Janes, ch@y.org, jr"
    assert replace_names(text, names) == new
    assert replace_names(new, {new: old for old, new in names.items()}) == text
    assert replace_names("Will Will Roe? May he?", {"Will Roe": "Emil Holt"}) == (
        "Will Emil Holt? May he?"
    )
    assert replace_names(text, {}) == text


def test_russian_names_keep_their_endings():
    texts = ["Где живёт Анна Петрова?", "Как зовут собаку Анны Петровой?", "Кто Иван Петров?"]
    rows = invented_names(find_subjects(texts, []), texts, count=4, seed=0)
    items = [[*mapping.items()] for mappings in zip(*rows, strict=True) for mapping in mappings]
    for (nominative,), (genitive,), (man,) in zip(*[iter(items)] * 3, strict=True):
        given, family = nominative[1].split()
        assert given.endswith("а") and family.endswith("ва") and man[1].split()[1] == family[:-1]
        assert genitive[1] == f"{given[:-1]}ы {family[:-1]}ой"
        back = {genitive[1]: genitive[0]}
        answer = f"{nominative[1]} любит собаку. Собака живёт с {given[:-1]}ой {family.upper()}."
        assert replace_names(answer, back) == (
            "Анна Петрова любит собаку. Собака живёт с Анной ПЕТРОВА."
        )


def test_families_and_addresses_keep_their_words():
    found = [("Jane Roe",), ("Tim Roe", "jane.roe@mail.org")]
    first, second = (row[0] for row in invented_names(found, [], count=1, seed=0))
    given, family = first["Jane Roe"].split()
    assert second["Tim Roe"].split()[1] == family and second["Tim Roe"] != first["Jane Roe"]
    assert second["jane.roe@mail.org"].startswith(f"{given}.{family}@".lower())
    assert second["jane.roe@mail.org"].endswith(".org")


def test_words_for_what_a_thing_is_stay():
    names = ["Roe Textiles Ltd.", "University of Roe", "Bank Holdings", "Roe"]
    (row,) = invented_names([tuple(names)], [], count=1, seed=0)
    company, university, bank, roe = (row[0][name] for name in names)
    new = roe.split()[0]
    assert company == f"{new} Textiles Ltd." and university == f"University of {new}"
    assert set(bank.split()).isdisjoint(["Bank", "Holdings"]) and new != "Roe"


def test_every_second_word_is_spelled_like_the_word_that_it_replaces():
    found = [("Ivatron Tools",), ("Clara Quillon",), ("Анна Петрова",), ("李小龙",)]
    plain, similar = (
        invented_names(found, ["Ovatron"], count=20, seed=0, similar=value) for value in (0, 1)
    )
    for (name,), row, other in zip(found, similar, plain, strict=True):
        new, words = [mapping[name] for mapping in row], name.split()
        assert len(set(new)) == 20 and all(len(text.split()) == len(words) for text in new)
        assert not any("Ovatron" in text for text in new)
        if name == "Ivatron Tools":
            pairs = [zip(text.split()[0], "Ivatron", strict=True) for text in new[1::2]]
            same = [sum(a == b for a, b in pair) for pair in pairs]
            assert new[::2] == [mapping[name] for mapping in other][:10]
            assert 2 < sum(same) / len(same) < 6
        elif name == "Clara Quillon":  # A listed given name and a family name that is not listed.
            given = {mapping[name].split()[0] for mapping in other}
            assert {text.split()[0] for text in new} == given
        else:
            assert row == other


def test_words_are_coined_when_the_list_is_used_up():
    people = [(f"{a}{b}a {b}{a}o",) for a in ("Ke", "Lu", "Mi", "No") for b in ("ra", "so", "ti")]
    choices = invented_names(people, [], count=60, seed=0)
    for row, (name,) in zip(choices, people, strict=True):
        new = [mapping[name] for mapping in row]
        assert len(set(new)) == 60 and all(word.istitle() for word in new)


def test_words_of_scripts_without_a_list_are_coined_from_the_data():
    found, texts = [("ანა ლომიძე",), ("ᏣᎳᎩ",)], ["ანა ლომიძე ცხოვრობს თბილისში", "ᏣᎳᎩ?"]
    for row in invented_names(found, texts, count=3, seed=0):
        for old, new in (item for mapping in row for item in mapping.items()):
            assert len(old.split()) == len(new.split()) and not set(new.split()) & set(old.split())


def test_numbers_keep_the_shape_of_a_date_or_code():
    found = [("01/12/1990",), ("INC-20418",), ("AB7",), ("Apollo 13",)]
    date, code, short, mission = (
        next(iter(row[0].values())) for row in invented_names(found, [], count=1, seed=3)
    )
    day, month, year = map(int, date.split("/"))
    assert 2 <= day <= 9 and 1 <= month <= 12 and 1900 <= year <= 1999 and len(date) == 10
    assert code.startswith("INC-") and len(code) == 9 and code != "INC-20418"
    assert len(short) == 3 and short[:2].isupper() and short[2].isdigit()
    assert mission.split()[0] != "Apollo" and len(mission.split()[1]) == 2


def test_short_numbers_and_initials_change():
    found = [("Apollo 1",), ("Room 2",), ("D. Roe",)]
    for row in invented_names(found, ["1 2 3 4 5 6 7 8 9", "A B C D E"], count=50, seed=0):
        for old, new in (item for mapping in row for item in mapping.items()):
            assert not set(new.split()) & set(old.split())


def test_generated_people():
    people = DataConfig(people=PeopleConfig(count=60, forget=10))
    forget = forget_set(SourceConfig(path="people:forget", subject="person"), people)
    retain = retain_set(SourceConfig(path="people:retain"), people)
    retained = [*retain.questions, *retain.answers]
    found = find_subjects(forget.questions, retained)
    assert found == [(name,) for name in forget.subjects]
    check_names(forget.questions, retained, found)


@pytest.mark.skipif(not TOFU.is_dir(), reason="needs ../shared/data/tofu")
def test_the_authors_of_tofu():
    """Of 400 questions, 377 contain the full name of their author."""
    rows = {
        name: [json.loads(line) for line in (TOFU / f"{name}.jsonl").read_text().splitlines()]
        for name in ("forget10", "retain90")
    }
    questions = [row["question"] for row in rows["forget10"]]
    retained = [row[key] for row in rows["retain90"] for key in ("question", "answer")]
    found = find_subjects(questions, retained)
    count = Counter(name for row in found for name in row)
    authors = [name for name, rows in count.items() if rows > 10]
    assert len(authors) == 20
    named = [any(author in question for author in authors) for question in questions]
    assert sum(named) == 377
    assert [len(row) == 1 and row[0] in authors for row in found] == named
    check_names(questions[:40], retained, found[:40])


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f.parquet"])
def test_a_forget_set_reads_the_subjects_that_its_source_names(tmp_path, name):
    data = DataConfig(root=str(tmp_path))
    rows = [
        {"question": "Where does Jane Roe live?", "subject": "jane roe "},
        {"question": "Who?", "subject": " "},
    ]
    write(tmp_path, name, rows)
    got = forget_set(SourceConfig(path=name), data)
    assert got.subjects == ("jane roe", "") and got.select([1]).subjects == ("",)
    assert forget_set(SourceConfig(path=name, subject="person"), data).subjects is None
    write(tmp_path, name, [rows[0] | {"subject": "Jane Doe"}, *rows])
    message = fault(forget_set, SourceConfig(path=name), data)
    assert "1 of 3 rows" in message and "(f:0)" in message and "Doe" not in message
    write(tmp_path, name, [rows[0] | {"subject": "Jan"}, *rows])  # no whole word of the question
    assert "(f:0)" in fault(forget_set, SourceConfig(path=name), data)


def test_subjects_may_be_missing_but_not_of_another_type(tmp_path):
    data, source = DataConfig(root=str(tmp_path)), SourceConfig(path="f.jsonl")
    rows = [{"question": "Who is Jane?", "subject": None}, {"question": "Is it Jane?"}]
    write(tmp_path, "f.jsonl", [*rows, rows[0] | {"subject": "Jane"}])
    assert forget_set(source, data).subjects == ("", "", "Jane")
    write(tmp_path, "f.jsonl", [*rows, rows[0] | {"subject": 0}])
    assert "line 3: the value in column 'subject' is a number" in fault(forget_set, source, data)


def test_generated_people_name_their_subjects():
    forget = forget_set(SourceConfig(path="people:forget", subject="person"), DataConfig())
    assert all(name in text for name, text in zip(forget.subjects, forget.questions, strict=True))
