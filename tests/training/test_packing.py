"""Packed rows hold every sequence once, with positions, segments and weights that say so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.packing import Packer


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
                token_weights = batch.loss_weights[:, m, row]
                positions_before = batch.answer_positions[m, row]
                in_row = (positions_before >= where[0]) & (positions_before <= where[-1])
                used = token_weights.any(0) & in_row
                # It stands one before its target, which is the next token of the sequence.
                begin = skip + positions_before[used].min() - where[0] + 1
                before = np.arange(begin - 1, len(tokens) - 1)
                np.testing.assert_array_equal(positions_before[used], where[0] - skip + before)
                assert tuple(batch.targets[m, row, used]) == tokens[begin:]
                (term,) = np.flatnonzero(token_weights[:, used].any(1))
                assert token_weights[term, used].all()
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
            rows.append(TokenSequence(tokens, len(prefix) + len(question)))
        terms.append(rows)
        weights.append(
            draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count))
        )
    packer = Packer(
        np.array(prefix, np.int32),
        rows=draw(st.sampled_from([1, 2, 8])),
        shortest_row=draw(st.sampled_from([32, 64])),
        loss_mean=draw(st.sampled_from(["tokens", "answers"])),
        accumulation_mean=draw(st.sampled_from(["step", "micro_batches"])),
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
        total = batch.loss_weights.sum((2, 3))
        if packer.accumulation_mean == "step":  # each term is a mean over the step
            np.testing.assert_allclose(total.sum(1), tokens_of.sum(1) > 0, rtol=1e-5)
        else:  # each term is a mean in each micro-batch, and the mean of those
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
        assert m == micro_batches and rows == packer.rows
        assert size % 32 == 0 and size >= packer.shortest_row
        slots = batch.answer_positions.shape[2]
        assert batch.positions.shape == batch.segments.shape == (m, rows, size)
        assert batch.targets.shape == (m, rows, slots) and slots <= size
        assert batch.loss_weights.shape == (len(terms), m, rows, slots)
        floats = {"loss_weights", "coefficients"}
        assert batch.sequence_index is None and batch.reference is None
        for name, x in zip(batch._fields, batch[:-2], strict=False):
            assert x.dtype == (np.float32 if name in floats else np.int32), name

    def rows(self, *sizes: tuple[int, int]) -> list[TokenSequence]:
        return [TokenSequence(np.arange(1, q + a + 1, dtype=np.int32), q) for q, a in sizes]

    def test_weights_are_relative_in_a_term(self):
        terms = [self.rows((2, 3), (3, 1))]
        batch = Packer(np.zeros(0, np.int32), 2, 32).pack(terms, [1.0], weights=[[1.0, 0.5]])
        token_weights = batch.loss_weights[batch.loss_weights > 0]
        np.testing.assert_allclose(np.sort(token_weights), [0.5 / 3.5, *[1 / 3.5] * 3], rtol=1e-6)

    def test_a_mean_over_answers_counts_short_ones_as_much(self):
        terms = [self.rows((2, 3), (3, 1), (2, 2))]
        packer = Packer(np.zeros(0, np.int32), 2, 32, loss_mean="answers")
        token_weights = packer.pack(terms, [1.0], weights=[[1.0, 0.5, 0.0]]).loss_weights
        expected = [*[1 / 4.5] * 3, 0.5 / 1.5]  # weights 1 and 0.5, over 3 tokens and over 1
        np.testing.assert_allclose(np.sort(token_weights[token_weights > 0]), expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("loss_mean", "accumulation_mean", "expected"),
        [  # answers of 3 and 1 tokens in one micro-batch, 2 and 6 in the other
            ("tokens", "step", [[1 / 12, 1 / 12], [1 / 12, 1 / 12]]),
            ("tokens", "micro_batches", [[1 / 8, 1 / 8], [1 / 16, 1 / 16]]),
            ("answers", "step", [[1 / 12, 1 / 4], [1 / 8, 1 / 24]]),
            ("answers", "micro_batches", [[1 / 12, 1 / 4], [1 / 8, 1 / 24]]),
        ],
    )
    def test_the_weight_of_a_token_in_two_micro_batches(
        self, loss_mean, accumulation_mean, expected
    ):
        terms = [self.rows((2, 3), (2, 1), (2, 2), (2, 6))]
        packer = Packer(np.zeros(0, np.int32), 2, 32, loss_mean, accumulation_mean)
        (weights,) = packer.pack(terms, [1.0], micro_batches=2).loss_weights
        for found, (one, other), counts in zip(weights, expected, ((3, 1), (2, 6)), strict=True):
            each = sorted([*[one] * counts[0], *[other] * counts[1]])
            np.testing.assert_allclose(np.sort(found[found > 0]), each, rtol=1e-6)

    def test_rows_are_of_like_length(self):
        terms = [self.rows((10, 6), (4, 4), (4, 4), (12, 4), (6, 2))]
        batch = Packer(np.zeros(0, np.int32), 2, 32).pack(terms, [1.0])
        assert batch.tokens.shape == (1, 2, 32)
        assert sorted((batch.segments[0] > 0).sum(1)) == [24, 32]
        assert sorted(batch.segments[0].max(1)) == [2, 3]

    def test_real_tokens_and_few_shapes(self):
        """Lengths as TOFU has them (questions 12 to 40, answers 10 to 80 tokens): nine tenths of
        what is computed is real, and a run compiles few programs.
        """
        rng = np.random.default_rng(0)
        prefix = np.zeros(0, np.int32)
        packer = Packer.fit(prefix, [53], batch=16, row_multiple=1)
        shapes, fill = set(), []
        for _ in range(75):
            sizes = zip(rng.integers(12, 30, 16), rng.integers(10, 55, 16), strict=True)
            batch = packer.pack([self.rows(*sizes)], [1.0])
            shapes.add((batch.tokens.shape, batch.answer_positions.shape))
            fill.append((batch.segments > 0).mean())
        assert np.mean(fill) > 0.9 and len(shapes) <= 6

    def test_fit(self):
        prefix = np.arange(5, dtype=np.int32)
        packer = Packer.fit(prefix, [60, 70, 65], batch=16, row_multiple=1)
        # 16 sequences of 60 without the prefix, four a row.
        assert (packer.rows, packer.shortest_row) == (4, 256)
        packer = Packer.fit(prefix, [60, 70, 65], batch=16, row_multiple=8)
        assert (packer.rows, packer.shortest_row) == (8, 128)
        packer = Packer.fit(prefix, [6], batch=1, row_multiple=1)
        assert (packer.rows, packer.shortest_row) == (1, 32)
