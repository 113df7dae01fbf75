"""Chat messages become one question with all its turns, from the file to the prompt."""

import dataclasses
import logging
from pathlib import Path

import pytest
from data_files import write
from test_encode import REFUSES, TURNS, encoder, ids
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.pmc import AbstentionConfig
from pmc_jax.data import conversation, sets
from pmc_jax.data.encode import Encoder
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.subjects import find_subjects, replace_names
from pmc_jax.data.twins import check_twins
from pmc_jax.data.visible import appearance
from pmc_jax.evaluation.prompt_attacks import ATTACKS, attack_prompt
from pmc_jax.unlearning.extensions import question_word_dropout
from pmc_jax.unlearning.variants import abstaining_variants

CASES = Path(__file__).parents[3] / "shared" / "cases"
TALK = [("system", "Be brief"), ("user", "Who wrote it ?"), ("assistant", "The poet")]
ASKED = conversation.join([*TALK, ("user", "Who ?")])


def messages(*turns: tuple[str, object]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


def read(folder: Path, *rows: object, name: str = "c.jsonl", **columns: str) -> RetainSet:
    path = write(folder, name, [{"messages": row} for row in rows])
    return sets.retain_set(SourceConfig(path=str(path), **columns), DataConfig())


def read_forget(folder: Path, *rows: object) -> ForgetSet:
    path = write(folder, "c.jsonl", [{"messages": row} for row in rows])
    return sets.forget_set(SourceConfig(path=str(path)), DataConfig())


def test_a_question_comes_back_in_its_messages():
    assert conversation.split(ASKED) == [*TALK, ("user", "Who ?")]
    assert conversation.split("Who ?") == [("user", "Who ?")]
    assert conversation.join([("user", "Who ?")]) == "Who ?"
    assert conversation.last_message(ASKED) == "Who ?"
    assert conversation.without_system(ASKED) != ASKED
    assert conversation.split(conversation.without_system(ASKED)) == [*TALK[1:], ("user", "Who ?")]
    assert conversation.transcript("Who ?") == "Who ?"
    lines = ["system: Be brief", "user: Who wrote it ?", "assistant: The poet", "user: Who ?"]
    assert conversation.transcript(ASKED).split("\n") == lines
    for broken in ("\ufdd1", "a\ufdd1b", "\ufdd1a\ufdd2b"):  # no conversation: a plain text
        assert conversation.split(broken)[-1][0] == "user"
        assert conversation.last_message(broken) in (broken, "")


@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c.parquet"])
def test_messages_are_read_from_every_format(name, tmp_path):
    talk = messages(*TALK, ("user", "Who ?"), ("assistant", "Ann"))
    got = read(tmp_path, talk, messages(("user", "When?"), ("assistant", "At four.")), name=name)
    assert got == RetainSet(("c:0", "c:1"), (ASKED, "When?"), ("Ann", "At four."))
    forget = sets.forget_set(SourceConfig(path=str(tmp_path / name)), DataConfig())
    assert forget == ForgetSet(("c:0", "c:1"), (ASKED, "When?"))
    one = sets.eval_set("forget", SourceConfig(path=str(tmp_path / name), rows="1:2"), DataConfig())
    assert (one.questions, one.answers) == (("When?",), ("At four.",))


def test_a_forget_question_needs_no_answer(tmp_path):
    rows = [messages(*TALK, ("user", "Who ?")), messages(("user", "When?"), ("assistant", "Now."))]
    assert read_forget(tmp_path, *rows).questions == (ASKED, "When?")


def test_parts_of_a_content_are_joined(tmp_path):
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "?"}]
    got = read(tmp_path, messages(*TALK, ("user", parts), ("assistant", parts[:1])))
    assert (got.questions, got.answers) == ((ASKED,), ("Who ",))


USER, ANSWER = ("user", "Canary?"), ("assistant", "Canary.")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([], "has no user message"),
        (messages(("system", "Canary"), ANSWER), "has no user message"),
        (messages(ANSWER, USER, ANSWER), "begins with an assistant message"),
        (messages(("system", "a"), ANSWER, USER, ANSWER), "begins with an assistant message"),
        (messages(USER, ("system", "a"), USER, ANSWER), "a system message that is not the first"),
        (messages(USER), "does not end with an assistant message, so it has no answer"),
        (
            messages(USER, ANSWER, USER),
            "does not end with an assistant message, so it has no answer",
        ),
        (messages(USER, ANSWER, ANSWER), "no user message directly before the last assistant"),
        (messages(("human", "Canary?"), ANSWER), "a role other than system, user, assistant in me"),
        (messages((["user"], "Canary?"), ANSWER), "a role other than system, user, assistant in m"),
        (messages(USER, ("assistant", None)), "a content that is null, not a string in message 2"),
        (messages(USER, ("assistant", " ")), "a content that is empty in message 2 of 2"),
        (messages(("user", 5), ANSWER), "a content that is a number, not a string in message 1"),
        (messages(("user", "a\ufdd1Canary"), ANSWER), "a character from U+FDD0 to U+FDD2"),
        (messages(("user", ["Canary"]), ANSWER), "a part that is not text in message 1 of 2"),
        (messages(("user", [{"type": "image_url"}]), ANSWER), "a part that is not text"),
        (messages(("user", [{"type": "text", "text": 1}]), ANSWER), "a part that is not text"),
        (messages(("user", []), ANSWER), "a content that is empty in message 1"),
        ([{"from": "human", "value": "Canary"}], "has no key 'role' in message 1 of 1"),
        ([{"role": "user", "text": "Canary"}], "has no key 'content' in message 1 of 1"),
        (["Canary"], "has a string as message 1 of 1, not an object"),
        ("Canary", "is a string, not an array of messages"),
        ({"role": "user", "content": "Canary"}, "is an object, not an array of messages"),
        (None, "is null, not an array of messages"),
    ],
)
def test_wrong_messages_are_named_by_row(row, expected, tmp_path):
    good = messages(("user", "When?"), ("assistant", "Now."))
    message = fault(read, tmp_path, good, row)
    assert "c.jsonl, line 2: the value in column 'messages' " in message and expected in message
    assert "Canary" not in message and "line 1" not in message


def test_the_answer_may_be_in_a_column_of_its_own(tmp_path):
    row = {"talk": messages(USER), "reply": "Ann"}
    path = write(tmp_path, "c.jsonl", [row])
    named = SourceConfig(path=str(path), question="talk", answer="reply")
    assert sets.retain_set(named, DataConfig()).answers == ("Ann",)
    write(tmp_path, "c.jsonl", [{"talk": messages(USER, ANSWER), "reply": "Ann"}])
    assert "but its answer is given separately" in fault(sets.retain_set, named, DataConfig())
    # The answer may itself be in messages.
    rows = [{"talk": messages(USER), "reply": messages(ANSWER)}]
    write(tmp_path, "c.jsonl", rows)
    assert sets.retain_set(named, DataConfig()).answers == ("Canary.",)
    rows[0]["reply"] = messages(USER)
    write(tmp_path, "c.jsonl", rows)
    message = fault(sets.retain_set, named, DataConfig())
    assert "the value in column 'reply' does not end with an assistant message" in message
    paraphrase = SourceConfig(path=str(path), question="again")
    write(tmp_path, "c.jsonl", [{"messages": messages(USER, ANSWER), "again": "And Canary?"}])
    got = sets.retain_set(paraphrase, DataConfig())
    assert (got.questions, got.answers) == (("And Canary?",), ("Canary.",))
    write(tmp_path, "c.jsonl", [{"talk": messages(USER, ANSWER)}])
    # A column of messages may have any name. It then holds the answers too.
    for source in ({"question": "talk"}, {"question": "talk", "answer": "talk"}):
        got = sets.retain_set(SourceConfig(path=str(path), **source), DataConfig())
        assert (got.questions, got.answers) == (("Canary?",), ("Canary.",))


def test_a_text_cannot_pass_for_a_conversation(tmp_path):
    path = write(tmp_path, "r.jsonl", [{"question": ASKED, "answer": "Ann"}])
    source = SourceConfig(path=str(path))
    message = fault(sets.retain_set, source, DataConfig())
    assert "line 1: the value in column 'question' contains a character from U+FDD0" in message


def test_questions_of_records_are_questions_of_the_library():
    forget = sets.questions_to_forget([ASKED, "When?"])
    assert forget.questions == (ASKED, "When?")
    assert sets.pairs_to_retain([(ASKED, "Ann")]).questions == (ASKED,)
    blank = conversation.join([("system", " "), ("user", "Who?")])
    assert "row 1 (counted from 0): the value in column 'question' is empty" in fault(
        sets.questions_to_forget, ["Who?", blank]
    )
    for text in ("a\ufdd1b", "\ufdd1a\ufdd2b"):
        assert "U+FDD0" in fault(sets.questions_to_forget, [text])
        assert "U+FDD0" in fault(sets.pairs_to_retain, [("Who?", text)])


class TestPrompts:
    def test_chat(self):
        enc = encoder(TURNS)
        expected = "<s> <|system|> Be brief <|end|> <|user|> Who wrote it ? <|end|> "
        expected += "<|assistant|> The poet <|end|> <|user|> Who ? <|end|> <|assistant|>"
        assert enc.prompt(ASKED) == ids(expected)
        enc.encode_ahead(["Who ?", conversation.without_system(ASKED), ASKED])
        assert len({tuple(enc.prompt(q)) for q in enc._prompts}) == 3
        sequence = enc.sequence(ASKED, "no one")
        assert sequence.tokens.tolist() == ids(f"{expected} no one <|end|>")
        assert sequence.tokens[sequence.begin :].tolist() == ids("no one <|end|>")

    def test_the_system_message_of_a_row_replaces_that_of_the_settings(self):
        enc = encoder(TURNS, system_prompt="today is")
        assert enc.prompt(ASKED) == encoder(TURNS).prompt(ASKED)
        assert ids("<|system|> today is <|end|>") == enc.prompt("Who ?")[1:5]
        assert enc.prompt(conversation.without_system(ASKED))[1:5] == enc.prompt("Who ?")[1:5]

    def test_a_template_that_refuses_the_messages(self):
        message = fault(encoder(REFUSES + TURNS).prompt, ASKED)
        assert "does not accept the messages (no system here)" in message

    def test_tags(self):
        talk = conversation.without_system(ASKED)
        enc = encoder()
        assert enc.prompt(talk) == ids(
            "<s> Question: Who wrote it ? Answer: The poet Question: Who ?"
        )
        own = encoder(question_tag="<|user|> {question} <|end|> ", answer_tag="The ")
        assert own.prompt(talk) == ids(
            "<s> <|user|> Who wrote it ? <|end|> The The poet <|user|> Who ? <|end|>"
        )
        message = fault(enc.prompt, ASKED)
        assert "has a system message, which the tags format cannot express" in message
        assert "Who" not in message


def test_other_earlier_turns_are_another_question(caplog):
    other = conversation.join([("user", "When?"), ("assistant", "Now."), ("user", "Who ?")])
    forget = ForgetSet(("f:0", "f:1", "f:2"), (ASKED, other, "Who ?"))
    with caplog.at_level(logging.WARNING):
        check_twins("error", forget, RetainSet(("r:0",), (f"{other}!",), ("Ann.",)))
    assert not caplog.records and len({*map(appearance, forget.questions)}) == 3
    same = RetainSet(("r:0",), (conversation.change_last(ASKED, str.upper),), ("Ann.",))
    assert "contain 1 of 3 forget questions (f:0)" in fault(check_twins, "error", forget, same)


def test_only_the_last_message_is_reworded():
    *earlier, last = conversation.split(question_word_dropout(ASKED, 0.5, 1, 0, 0))
    assert earlier == TALK and last[1] in ("Who", "?", "Who ?")
    assert {question_word_dropout(ASKED, 0.5, 1, step, 0) for step in range(30)} == {
        conversation.change_last(ASKED, lambda _, text=text: text) for text in ("Who", "?", "Who ?")
    }
    for attack in ATTACKS:
        *earlier, last = conversation.split(attack_prompt(attack, ASKED, [(ASKED, "Ann")]))
        assert earlier == TALK and "Who ?" in last[1]
        assert ("Question: Who ?\nAnswer: Ann\n" in last[1]) == (attack == "few_shot")


@dataclasses.dataclass
class _Generator:
    """The part of a `TextGenerator` that makes prompts."""

    encoder: Encoder

    def prompts(self, questions, max_new_tokens: int, ids=()) -> list[list[int]]:
        return list(map(self.encoder.prompt, questions))


def test_an_abstaining_system_prompt_replaces_that_of_the_row():
    forget = ForgetSet(("f:0",), (ASKED,))
    settings = AbstentionConfig(system_prompt="today is")
    ((opened, instructed),) = abstaining_variants(
        _Generator(encoder(TURNS)), forget, ["no"], settings, 4
    )
    assert opened.prompt == [*encoder(TURNS).prompt(ASKED), *ids("no")]
    plain = conversation.without_system(ASKED)
    assert instructed.prompt == encoder(TURNS, system_prompt="today is").prompt(plain)


def test_subjects_in_earlier_turns_are_found_and_replaced():
    rows = [("Jane Roe", "Where does she live?"), ("Ivo Lind", "What is his number?")]
    system = ("system", "You are Marvin. Answer for Acme Corp.")
    questions = tuple(
        conversation.join([system, ("user", f"Is {name} in?"), ("assistant", "Yes."), ("user", q)])
        for name, q in rows
    )
    assert find_subjects(questions, ()) == [("Jane Roe",), ("Ivo Lind",)]
    replaced = replace_names(questions[0], {"Jane Roe": "Ada Falk"})
    assert replaced == questions[0].replace("Jane Roe", "Ada Falk")
    assert ForgetSet(("f:0",), questions[:1], ("jane roe",)).subjects == ("jane roe",)
    quotes = [("user", "Who said 'Well met?"), ("assistant", "The poets' king"), ("user", "Who?")]
    (found,) = find_subjects([conversation.join(quotes)], ())
    assert not any(map(conversation.has_mark, found))


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")
def test_a_file_of_messages():
    got = sets.retain_set(SourceConfig(path=str(CASES / "messages.jsonl")), DataConfig())
    assert (got.questions, got.answers) == (("When is tea?",), ("At four.",))
