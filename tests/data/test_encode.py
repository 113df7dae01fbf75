"""Text to tokens and back, with small hand-made tokenizers."""

import logging

import numpy as np
import pytest
from golden_models import model_folder
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pmc_jax.config.run import ModelConfig
from pmc_jax.data.encode import Encoder, make_encoder
from pmc_jax.data.pairs import encode_pairs
from pmc_jax.errors import UserError
from pmc_jax.models.tokenizer import load_tokenizer

SPECIAL = ["<pad>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
WORDS = "Question: Answer: Answers: Who wrote it ? The poet no one Be brief today is on <unk>"
IDS = {word: i for i, word in enumerate([*SPECIAL, *WORDS.split(" ")])}
TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)
DATED = "{{ bos_token }}{{ 'today is ' + (date_string or 'no') + ' ' }}" + TURNS.removeprefix(
    "{{ bos_token }}"
)
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"


def tokenizer(template: str | None = None, *, bos: bool = True, eos: bool = False, **options):
    """Words apart by white space; puts BOS first, and EOS last if asked to."""
    backend = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    ends = [["<s>"] if bos else [], ["</s>"] if eos else []]
    backend.post_processor = processors.TemplateProcessing(
        single=[*ends[0], "$A", *ends[1]], special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | options
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **named)


def ids(text: str) -> list[int]:
    return [IDS[word] for word in text.split()]


def encoder(template: str | None = None, generation_config=None, **fields) -> Encoder:
    return make_encoder(tokenizer(template), ModelConfig(**fields), generation_config)


class TestTags:
    def test_prompt_and_answer(self):
        enc = encoder()
        assert not enc.is_chat
        assert enc.prompt("Who wrote it ?") == ids("<s> Question: Who wrote it ?")
        assert enc.answer("The poet") == ids("Answer: The poet </s>")
        assert enc.prompt("{0} {question}")[:2] == ids("<s> Question:")  # braces are text

    def test_a_tokenizer_that_closes_every_text(self):
        enc = make_encoder(tokenizer(eos=True), ModelConfig())
        assert enc.prompt("Who ?") == ids("<s> Question: Who ?")
        assert enc.answer("The poet") == ids("Answer: The poet </s>")

    def test_a_tokenizer_without_bos(self):
        enc = make_encoder(tokenizer(bos=False), ModelConfig())
        assert enc.prompt("Who ?") == ids("Question: Who ?")

    def test_own_tags(self):
        enc = encoder(question_tag="Who wrote {question} on", answer_tag="The ")
        assert enc.prompt("it") == ids("<s> Who wrote it on")
        assert enc.answer("poet") == ids("The poet </s>")
        assert enc.decode(ids("The poet")) == "poet"

    @pytest.mark.parametrize(
        ("sampled", "text"),
        [
            ("Answer: The poet", "The poet"),
            ("Answer: The poet </s>", "The poet"),
            ("The poet", "The poet"),  # no tag: nothing is cut
            ("The Answer: poet", "The Answer: poet"),
            ("Answers: The poet", "Answers: The poet"),
            ("Answer: Answer: no", "Answer: no"),  # one tag
            ("Answer:", ""),
            ("", ""),
        ],
    )
    def test_decoding_strips_the_tag_and_only_the_tag(self, sampled, text):
        assert encoder().decode(np.array(ids(sampled), np.int32)) == text

    @pytest.mark.parametrize(
        ("sampled", "text"),
        [("The poet wrote", "The poet"), ("The", ""), ("Answer:", ""), ("Answer: The poet", "The")],
    )
    def test_a_beginning_lacks_the_last_word(self, sampled, text):
        assert encoder().decode(ids(sampled), is_whole=False) == text

    def test_a_beginning_lacks_the_words_that_a_clean_up_may_join(self):
        enc = encoder()
        enc.tokenizer.clean_up_tokenization_spaces = True
        assert enc.decode(ids("The poet wrote it no"), is_whole=False) == "The poet"
        assert enc.decode(ids("The poet wrote"), is_whole=False) == ""

    def test_answers_come_back(self):
        enc = encoder()
        assert enc.decode(enc.answer("The poet wrote it")) == "The poet wrote it"

    def test_format_tags_ignores_the_template(self):
        enc = encoder(TURNS, format="tags")
        assert not enc.is_chat and enc.prompt("Who ?") == ids("<s> Question: Who ?")
        assert enc.end_token == IDS["</s>"]


class TestChat:
    def test_prompt_is_the_template_with_one_bos(self):
        enc = encoder(TURNS)
        assert enc.is_chat
        assert enc.prompt("Who wrote it ?") == ids(
            "<s> <|user|> Who wrote it ? <|end|> <|assistant|>"
        )

    def test_a_template_without_bos_gets_none(self):
        enc = encoder(TURNS.removeprefix("{{ bos_token }}"))
        assert IDS["<s>"] not in enc.prompt("Who ?")

    def test_sequence_is_the_turn_as_the_template_writes_it(self):
        enc = encoder(TURNS)
        sequence = enc.sequence("Who ?", "The poet")
        assert sequence.tokens.tolist() == ids(
            "<s> <|user|> Who ? <|end|> <|assistant|> The poet <|end|>"
        )
        assert sequence.tokens[sequence.begin :].tolist() == ids("The poet <|end|>")
        assert sequence.tokens.dtype == np.int32

    def test_system_prompt_and_date_reach_the_template(self):
        enc = encoder(DATED, system_prompt="Be brief", date_string="today")
        assert enc.prompt("Who ?") == ids(
            "<s> today is today <|system|> Be brief <|end|> <|user|> Who ? <|end|> <|assistant|>"
        )
        assert encoder(DATED).prompt("Who ?")[:5] == ids("<s> today is no <|user|>")

    def test_tag_words_in_an_answer_stay(self):
        enc = encoder(TURNS)
        assert enc.answer("Answer: no") == ids("Answer: no <|end|>")
        assert enc.decode(ids("Answer: no <|end|>")) == "Answer: no"

    def test_a_template_that_raises(self):
        assert encoder(REFUSES + TURNS).is_chat
        with pytest.raises(UserError, match=r"not accept the messages \(no system here\)") as error:
            encoder(REFUSES + TURNS, system_prompt="Be brief")
        assert "\n" not in str(error.value) and "model.format=tags" in str(error.value)

    def test_chat_needs_a_template(self):
        with pytest.raises(UserError, match="has no chat template"):
            encoder(format="chat")

    def test_tokenizer_of_a_folder(self, tmp_path):
        """A template without end of turn: the tokenizer's own end token closes the answer."""
        folder = model_folder(tmp_path / "model", "default")
        enc = make_encoder(load_tokenizer(folder), ModelConfig())
        assert enc.prompt("w0 w5") == [3, 8]
        assert enc.answer("w1 w2") == [4, 5, 2] and enc.end_tokens == (2,)
        assert enc.decode([4, 5, 2]) == "w1 w2"


class TestEndTokens:
    def test_end_of_turn_of_the_template_closes_answers(self):
        enc = encoder(TURNS)
        assert enc.end_token == IDS["<|end|>"]
        assert enc.end_tokens == (IDS["</s>"], IDS["<|end|>"])

    def test_end_of_turn_that_the_tokenizer_names(self):
        enc = make_encoder(tokenizer(TURNS, eos_token="<|end|>"), ModelConfig())
        assert enc.end_token == IDS["<|end|>"] and enc.end_tokens == (IDS["<|end|>"],)

    @pytest.mark.parametrize(
        ("generation", "more"), [({"eos_token_id": 5}, {5}), ({"eos_token_id": [5, 6, 2]}, {5, 6})]
    )
    def test_generation_config_adds_to_them(self, generation, more):
        enc = encoder(None, generation)
        assert enc.end_token == 2 and set(enc.end_tokens) == {2} | more
        assert encoder(TURNS, generation).end_token == IDS["<|end|>"]

    def test_generation_config_alone(self):
        enc = make_encoder(tokenizer(eos_token=None), ModelConfig(), {"eos_token_id": [3]})
        assert enc.end_token == 3 and enc.end_tokens == (3,)

    @pytest.mark.parametrize("generation", [None, {}, {"eos_token_id": None}])
    def test_none_at_all(self, generation):
        with pytest.raises(UserError, match="no end token"):
            make_encoder(tokenizer(eos_token=None), ModelConfig(), generation)


class TestLongRows:
    PAIRS = (("Who ?", "poet"), ("Who wrote it ?", "The poet wrote it"), ("it", "no"))

    def encode(self, max_length: int, long_rows: str, window: int = 64):
        return encode_pairs(
            encoder(),
            self.PAIRS,
            ids=["a", "b", "c"],
            max_length=max_length,
            long_rows=long_rows,
            window=window,
        )

    def test_all_fit(self):
        # BOS, tag, question; tag, answer, end.
        assert [len(s) for s in self.encode(12, "error")] == [7, 12, 6]

    def test_error_names_the_rows_and_the_fix(self):
        with pytest.raises(UserError) as error:
            self.encode(11, "error")
        message = str(error.value)
        assert "b (12 tokens)" in message and "a (" not in message and "max_length=11" in message
        assert "data.long_rows=drop" in message and "\n" not in message

    def test_no_row_is_longer_than_the_window(self):
        with pytest.raises(UserError) as error:
            self.encode(64, "error", window=11)
        message = str(error.value)
        assert "b (12 tokens)" in message and "window of 11" in message
        assert "Shorten" in message and "Increase" not in message
        assert [len(s) for s in self.encode(64, "drop", window=11)] == [7, 6]

    def test_drop_says_how_many(self, caplog):
        with caplog.at_level(logging.WARNING):
            short = self.encode(11, "drop")
        assert [len(s) for s in short] == [7, 6]
        assert "1 of 3 rows is dropped" in caplog.text and "b (12 tokens)" in caplog.text

    def test_nothing_left(self):
        with pytest.raises(UserError, match="a \\(7 tokens\\), b"):
            self.encode(3, "drop")

    def test_many_are_counted(self):
        pairs = [("Who ?", "poet")] * 9
        with pytest.raises(UserError, match="and 4 more"):
            encode_pairs(encoder(), pairs, ids=range(9), max_length=2, long_rows="error", window=9)
