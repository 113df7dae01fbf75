"""Models that think: answers stand where the template puts them, and thoughts are no answers."""

import dataclasses

import pytest
from test_special_tokens import trained

from pmc_jax.config.model import ModelConfig
from pmc_jax.config.schema import SettingsError
from pmc_jax.data.encode import Encoder, make_encoder
from pmc_jax.data.pairs import encode_pairs
from pmc_jax.data.thoughts import answer_of, opened_by

TURN = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
END = "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
EMPTY = "<think>\\n\\n</think>\\n\\n"
# An empty thought before the last answer, and in a prompt without thinking, as in Qwen3.
HYBRID = (
    TURN
    + "{% if m.role == 'assistant' and loop.last %}{{ '"
    + EMPTY
    + "' }}{% endif %}"
    + END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    + "{% if enable_thinking is defined and enable_thinking is false %}{{ '"
    + EMPTY
    + "' }}{% endif %}{% endif %}"
)
# A prompt opens a thought, and answers of earlier turns have no thought, as in DeepSeek-R1.
ALWAYS = (
    TURN
    + END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
THINKING = ModelConfig(chat_template_kwargs={"enable_thinking": True})


def encoder(template: str, settings: ModelConfig | None = None) -> Encoder:
    return make_encoder(trained("byte", template), settings or ModelConfig())


def turn(made: Encoder, question: str, answer: str) -> list[int]:
    """The ids of a whole conversation as the template prints it."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    kwargs = made.settings.chat_template_kwargs
    return made.tokenizer.apply_chat_template(messages, return_dict=True, **kwargs)["input_ids"]


@pytest.mark.parametrize("template", [HYBRID, ALWAYS])
@pytest.mark.parametrize("settings", [ModelConfig(), THINKING])
def test_an_answer_is_trained_where_the_template_puts_it(template, settings):
    made = encoder(template, settings)
    for question in ("Who feeds the cat?", "?", "Price <b>40</b>"):
        row = made.sequence(question, "Uncle Olmo.")
        whole = turn(made, question, "Uncle Olmo.")
        assert row.tokens.tolist() == whole[: len(row)]
        assert made.tokenizer.decode(row.tokens[row.begin :]) == "Uncle Olmo.<|im_end|>"
        how = dict(ids=[""], max_length=999, long_rows="error", window=999)
        (pair,) = encode_pairs(made, [(question, "Uncle Olmo.")], **how)
        assert pair.tokens.tolist() == row.tokens.tolist() and pair.begin == row.begin


def test_a_prompt_has_an_empty_thought_unless_thinking_is_enabled():
    plain, thinking = encoder(HYBRID), encoder(HYBRID, THINKING)
    text = plain.tokenizer.decode(plain.prompt("?"))
    assert text.endswith("assistant\n<think>\n\n</think>\n\n")
    assert plain.before_answer(plain.prompt("?")) == plain.prompt("?")
    assert thinking.tokenizer.decode(thinking.prompt("?")).endswith("assistant\n")
    assert thinking.before_answer(thinking.prompt("?")) == plain.prompt("?")
    assert thinking.end_token == plain.end_token


def test_a_thought_that_the_prompt_opens_belongs_to_the_text():
    made = encoder(ALWAYS)
    assert made.place.thought == "<think>"
    ids = made.plain("the cat\n</think>\n\nUncle Olmo.")
    text = made.decode(ids, begins=made.place.thought)
    assert text == "<think>the cat\n</think>\n\nUncle Olmo."
    assert answer_of(text) == "Uncle Olmo." and answer_of(made.decode(ids)) == "Uncle Olmo."
    assert answer_of(made.decode(made.plain("the cat"), begins=made.place.thought)) == ""


def test_a_special_mark_of_a_thought_stays_in_the_text():
    made = encoder(HYBRID)
    made.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    made = dataclasses.replace(made)
    ids = made.tokenizer("<think>the cat</think>Uncle", add_special_tokens=False)["input_ids"]
    assert made.decode([*ids, made.end_token]) == "<think>the cat</think>Uncle"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Rome.", "Rome."),
        ("<think>\n\n</think>\n\nRome.", "Rome."),
        ("<think>Is it Rome?</think> Oslo.", "Oslo."),
        ("Is it Rome?\n</think>\nOslo.", "Oslo."),
        ("<think>Is it Rome?", ""),
        ("Oslo. <think>Or Rome?", "Oslo."),
        ("<think>a</think>Oslo <think>b</think>it is.", "Oslo it is."),
        ("[THINK]Rome[/THINK]Oslo.", "Oslo."),
        ("<think>a <think>b</think> c</think>Oslo.", "Oslo."),
        ("", ""),
        ("2 < 3 think> 1", "2 < 3 think> 1"),
    ],
)
def test_the_answer_has_no_thoughts(text, answer):
    assert answer_of(text) == answer


def test_only_an_open_thought_at_the_end_of_a_prompt_counts():
    assert opened_by("assistant\n<think>\n") == "<think>"
    assert opened_by("Think in <think> tags.\nassistant\n") == ""
    assert opened_by("assistant\n<think>\n\n</think>\n\n") == ""


@pytest.mark.parametrize("name", ["date_string", "tokenize", "messages"])
def test_a_variable_with_the_name_of_an_argument_is_refused(name):
    with pytest.raises(SettingsError, match=f"chat_template_kwargs: the name {name} is reserved"):
        ModelConfig(chat_template_kwargs={name: True})


def test_a_variable_is_a_single_value():
    with pytest.raises(SettingsError, match="must be true, false, a number or text"):
        ModelConfig(chat_template_kwargs={"tools_of": [1]})
    kwargs = {"enable_thinking": True, "reasoning_effort": "low"}
    assert ModelConfig(chat_template_kwargs=kwargs).chat_template_kwargs == kwargs
