"""The longest common subsequence on the device, beside the textbook's table in Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pmc_jax.sampling.lcs import lcs_lengths
from pmc_jax.scoring import rouge
from pmc_jax.scoring.token_lcs import token_lcs
from pmc_jax.scoring.words import ascii_words

B, K, T, R = 3, 4, 12, 9


def plain_lcs(one, other):
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = (
                table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
            )
    return table[-1, -1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_lengths_are_those_of_the_table(seed, alphabet):
    rng = np.random.default_rng(seed)
    samples = rng.integers(alphabet, size=(B, K, T), dtype=np.int32)
    references = rng.integers(alphabet, size=(B, R), dtype=np.int32)
    lengths = rng.integers(T + 1, size=(B, K), dtype=np.int32)
    reference_lengths = rng.integers(R + 1, size=B, dtype=np.int32)
    found = lcs_lengths(samples, lengths, references, reference_lengths)
    assert found.dtype == np.int32
    expected = [
        [
            plain_lcs(samples[b, k, : lengths[b, k]], references[b, : reference_lengths[b]])
            for k in range(K)
        ]
        for b in range(B)
    ]
    np.testing.assert_array_equal(found, expected)


def test_what_stands_behind_the_length_does_not_count(strict_dtypes):
    tokens = np.arange(1, 6, dtype=np.int32)
    samples = np.stack([tokens, tokens[::-1], tokens + 5, np.zeros_like(tokens)])[None]
    full, part = np.full((1, 4), 5, np.int32), np.full((1, 4), 3, np.int32)
    five, none = np.array([5], np.int32), np.array([0], np.int32)
    reference = tokens[None]
    np.testing.assert_array_equal(lcs_lengths(samples, full, reference, five), [[5, 1, 0, 0]])
    np.testing.assert_array_equal(lcs_lengths(samples, part, reference, five), [[3, 1, 0, 0]])
    np.testing.assert_array_equal(lcs_lengths(samples, full, reference, none), [[0, 0, 0, 0]])
    # Padding with zeros on both sides is no common token.
    np.testing.assert_array_equal(
        lcs_lengths(np.zeros((1, 4, 5), np.int32), part * 0, reference * 0, none), [[0, 0, 0, 0]]
    )


def test_as_a_score_of_texts():
    words: dict[str, int] = {}

    def encode(text):
        return [words.setdefault(token, len(words)) for token in ascii_words(text)]

    score = token_lcs(encode)
    original = "Jane Roe was born in the quiet town of Brenholm."
    samples = [
        original,
        "Brenholm of town quiet",
        "She was born in Brenholm, a town by a river",
        "nothing",
        "",
        " ".join(["word"] * 100 + ["town"]),
    ]
    expected = rouge.rougeL_recall_many([original] * len(samples), samples)
    np.testing.assert_array_equal(score(original, samples), expected)
    assert score(original, samples)[0] == 1 and score(original, []).shape == (0,)
    np.testing.assert_array_equal(score("", ["a"]), [0])


def test_few_programs_are_compiled():
    score = token_lcs(lambda text: [1] * int(text))
    before = lcs_lengths._cache_size()
    for longest in range(1, 100, 3):
        score("5", [str(longest), "2"])
    assert lcs_lengths._cache_size() - before <= 3  # 32, 64 and 128 tokens
