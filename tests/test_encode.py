"""Text to tokens and back, and packed rows, with small hand-made tokenizers."""

import logging

import numpy as np
import pytest
from golden_models import model_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pmc_jax.config import ModelConfig
from pmc_jax.data.encode import (
    Encoder,
    Packer,
    Sequence_,
    encode_pairs,
    make_encoder,
    shared_prefix,
)
from pmc_jax.errors import UserError
from pmc_jax.models.tokenizer import load_tokenizer
from pmc_jax.unlearning.train import TrainBatch

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
        with pytest.raises(UserError, match=r"refuses the messages \(no system here\)") as error:
            encoder(REFUSES + TURNS, system_prompt="Be brief")
        assert "\n" not in str(error.value) and "format: tags" in str(error.value)

    def test_chat_needs_a_template(self):
        with pytest.raises(UserError, match="no chat template; use format: tags"):
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

    def encode(self, max_length: int, long_rows: str):
        return encode_pairs(
            encoder(), self.PAIRS, ids=["a", "b", "c"], max_length=max_length, long_rows=long_rows
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

    def test_drop_says_how_many(self, caplog):
        with caplog.at_level(logging.WARNING):
            kept = self.encode(11, "drop")
        assert [len(s) for s in kept] == [7, 6]
        assert "1 of 3 rows dropped" in caplog.text and "b (12 tokens)" in caplog.text

    def test_nothing_left(self):
        with pytest.raises(UserError, match="a \\(7 tokens\\), b"):
            self.encode(3, "drop")

    def test_many_are_counted(self):
        pairs = [("Who ?", "poet")] * 9
        with pytest.raises(UserError, match="and 4 more"):
            encode_pairs(encoder(), pairs, ids=range(9), max_length=2, long_rows="error")


class TestSharedPrefix:
    @pytest.mark.parametrize(
        ("sequences", "prefix"),
        [
            ([[1, 2, 3], [1, 2, 4, 5]], [1, 2]),
            ([[1, 2, 3], [1, 2, 3]], [1, 2]),  # a token of each is left over
            ([[1, 2], [1, 2, 3, 4]], [1]),
            ([[7, 8, 9]], [7, 8]),
            ([[1, 2], [2, 2]], []),
            ([[1], [1]], []),
        ],
    )
    def test_cases(self, sequences, prefix):
        found = shared_prefix(sequences)
        assert found.tolist() == prefix and found.dtype == np.int32

    @given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
    def test_it_is_the_longest(self, sequences):
        size = len(shared_prefix(sequences))
        assert all(s[:size] == sequences[0][:size] and len(s) > size for s in sequences)
        more = {tuple(s[: size + 1]) for s in sequences}
        assert len(more) > 1 or min(map(len, sequences)) == size + 1


def unpack(batch: TrainBatch) -> list[list[tuple[tuple[int, ...], int, int]]]:
    """By micro-batch: (tokens with the prefix, where the answer begins, term) of each sequence."""
    out = []
    for m in range(batch.tokens.shape[0]):
        found = []
        for row in range(batch.tokens.shape[1]):
            segments = batch.segments[m, row]
            for segment in range(1, segments.max(initial=0) + 1):
                where = np.flatnonzero(segments == segment)
                assert (np.diff(where) == 1).all()  # in one piece
                skip = len(batch.prefix)
                positions = batch.positions[m, row, where]
                np.testing.assert_array_equal(positions, skip + np.arange(len(where)))
                tokens = (*batch.prefix.tolist(), *batch.tokens[m, row, where].tolist())
                shares = batch.shares[:, m, row]
                at = batch.at[m, row]
                used = shares.any(0) & (at >= where[0]) & (at <= where[-1])
                # `at` stands one before its target, which is the next token of the sequence.
                begin = skip + at[used].min() - where[0] + 1
                before = np.arange(begin - 1, len(tokens) - 1)
                np.testing.assert_array_equal(at[used], where[0] - skip + before)
                assert tuple(batch.targets[m, row, used]) == tokens[begin:]
                (term,) = np.flatnonzero(shares[:, used].any(1))
                assert shares[term, used].all()
                found.append((tokens, int(begin), int(term)))
        out.append(found)
    return out


@st.composite
def steps(draw):
    """A packer and the arguments of `pack`."""
    prefix = draw(st.lists(st.integers(1, 9), max_size=4))
    micro_batches = draw(st.integers(1, 3))
    terms, weights = [], []
    for _ in range(draw(st.integers(1, 3))):
        count = micro_batches * draw(st.integers(0, 4))
        rows = []
        for _ in range(count):
            question = draw(st.lists(st.integers(1, 99), min_size=1, max_size=9))
            answer = draw(st.lists(st.integers(1, 99), min_size=1, max_size=9))
            tokens = np.array(prefix + question + answer, np.int32)
            rows.append(Sequence_(tokens, len(prefix) + len(question)))
        terms.append(rows)
        weights.append(
            draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count))
        )
    packer = Packer(
        np.array(prefix, np.int32),
        row_size=32,
        row_multiple=draw(st.sampled_from([1, 2, 8])),
        fewest_rows=draw(st.integers(1, 3)),
    )
    return packer, terms, draw(st.sampled_from([None, weights])), micro_batches


class TestPacker:
    @settings(max_examples=200, deadline=None)
    @given(steps())
    def test_unpacking_gives_the_sequences_back(self, step):
        packer, terms, weights, micro_batches = step
        coefficients = [1.0 + t for t in range(len(terms))]
        batch = packer.pack(terms, coefficients, weights=weights, micro_batches=micro_batches)
        expected = [[] for _ in range(micro_batches)]
        tokens_of = np.zeros((len(terms), micro_batches))
        for t, rows in enumerate(terms):
            for i, s in enumerate(rows):
                weight = 1.0 if weights is None else weights[t][i]
                m = i // (len(rows) // micro_batches)
                tokens_of[t, m] += weight * (len(s) - s.begin)
                if weight:
                    expected[m].append((tuple(s.tokens.tolist()), s.begin, t))
        assert [sorted(found) for found in unpack(batch)] == [sorted(e) for e in expected]
        # Each term is a mean in each micro-batch, and the mean of those.
        total = batch.shares.sum((2, 3))
        np.testing.assert_allclose(total, (tokens_of > 0) / micro_batches, rtol=1e-5)
        np.testing.assert_array_equal(batch.coefficients, np.float32(coefficients))
        # Padding is zero everywhere.
        assert not batch.tokens[batch.segments == 0].any()
        assert not batch.positions[batch.segments == 0].any()

    @settings(max_examples=50, deadline=None)
    @given(steps())
    def test_shapes_and_dtypes(self, step):
        packer, terms, weights, micro_batches = step
        batch = packer.pack(terms, [1.0] * len(terms), weights=weights, micro_batches=micro_batches)
        m, rows, size = batch.tokens.shape
        assert m == micro_batches and size == packer.row_size
        assert rows % packer.row_multiple == 0 and rows >= packer.fewest_rows
        slots = batch.at.shape[2]
        assert batch.positions.shape == batch.segments.shape == (m, rows, size)
        assert batch.targets.shape == (m, rows, slots) and slots <= size
        assert batch.shares.shape == (len(terms), m, rows, slots)
        floats = {"shares", "coefficients"}
        for name, x in batch._asdict().items():
            assert x.dtype == (np.float32 if name in floats else np.int32), name

    def rows(self, *sizes: tuple[int, int]) -> list[Sequence_]:
        return [Sequence_(np.arange(1, q + a + 1, dtype=np.int32), q) for q, a in sizes]

    def test_weights_are_relative_in_a_term(self):
        terms = [self.rows((2, 3), (3, 1))]
        batch = Packer(np.zeros(0, np.int32), 32).pack(terms, [1.0], weights=[[1.0, 0.5]])
        shares = batch.shares[batch.shares > 0]
        np.testing.assert_allclose(np.sort(shares), [0.5 / 3.5, *[1 / 3.5] * 3], rtol=1e-6)

    def test_rows_hold_several_sequences(self):
        terms = [self.rows((10, 6), (4, 4), (4, 4), (12, 4), (6, 2))]
        batch = Packer(np.zeros(0, np.int32), 32).pack(terms, [1.0])
        assert batch.tokens.shape == (1, 2, 32)
        assert sorted(batch.segments[0].max(1)) == [2, 3]

    def test_few_shapes(self):
        """Rows grow in steps of a quarter at most, so a run compiles few programs."""
        packer = Packer(np.zeros(0, np.int32), 32)
        counts = {
            packer.pack([self.rows(*[(20, 8)] * n)], [1.0]).tokens.shape[1] for n in range(1, 65)
        }
        assert counts == {*range(1, 9), 10, 12, 14, 16, *range(20, 33, 4), *range(40, 65, 8)}

    def test_fit_has_room_for_the_longest_and_two_typical(self):
        prefix = np.arange(5, dtype=np.int32)
        packer = Packer.fit(prefix, [60, 70, 65], longest=100, batch=16, row_multiple=4)
        assert packer.row_size == 128 and packer.row_multiple == 4
        assert packer.fewest_rows == 8  # 16 sequences of 60 without the prefix, in rows of 128
        assert Packer.fit(prefix, [60], longest=305, batch=1, row_multiple=1).row_size == 320
        assert Packer.fit(prefix, [105], longest=110, batch=1, row_multiple=1).row_size == 224
        assert Packer.fit(prefix, [5], longest=6, batch=4, row_multiple=1).row_size == 128
