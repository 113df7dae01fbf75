"""Token scores are those of a full forward pass, whatever is packed beside a sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import full_logits
from tiny_cases import TINY, sequences, tiny_model, train_layout

from pmc_jax.data.encode import Sequence_
from pmc_jax.evaluation.likelihood import TokenScores, token_scores


@pytest.fixture(scope="module")
def model():
    return tiny_model(train_layout())


def scores(model, rows: list[Sequence_], **options) -> list[TokenScores]:
    return token_scores(model, TINY, train_layout(), rows, dtype=jnp.float32, **options)


def expected(model, sequence: Sequence_) -> TokenScores:
    """By the definition, from the logits of the sequence alone."""
    tokens = sequence.tokens[None]
    logits = np.asarray(full_logits(model, TINY, train_layout(), tokens, np.array([len(sequence)])))
    first = max(sequence.begin, 1)
    logp = np.asarray(jax.nn.log_softmax(logits[0, first - 1 : -1].astype(np.float64)), np.float64)
    targets = sequence.tokens[first:]
    own, p = logp[np.arange(len(targets)), targets], np.exp(logp)
    mean = (p * logp).sum(-1)
    deviation = np.sqrt((p * logp**2).sum(-1) - mean**2)
    return TokenScores(own, logp.argmax(-1) == targets, (own - mean) / deviation)


def ending_in_the_most_likely_token(model, sequence: Sequence_) -> Sequence_:
    lengths = np.array([len(sequence)])
    logits = full_logits(model, TINY, train_layout(), sequence.tokens[None], lengths)
    tokens = np.append(sequence.tokens[:-1], np.asarray(logits)[0, -2].argmax())
    return Sequence_(tokens.astype(np.int32), sequence.begin)


@pytest.mark.parametrize("prefix", [0, 3])
def test_scores_by_the_definition(model, prefix):
    rows = sequences(40, seed=1, prefix=prefix)
    rows[0] = ending_in_the_most_likely_token(model, rows[0])
    found = scores(model, rows)
    assert len(found) == len(rows)
    for sequence, got in zip(rows, found, strict=True):
        want = expected(model, sequence)
        assert got.logp.shape == (len(sequence) - sequence.begin,)
        # float32 sums over 104 entries and two layers.
        np.testing.assert_allclose(got.logp, want.logp, atol=2e-5)
        np.testing.assert_allclose(got.z, want.z, atol=2e-4)
        np.testing.assert_array_equal(got.hit, want.hit)
    hits = np.concatenate([x.hit for x in found])
    assert found[0].hit[-1] and not hits.all()


def test_text_is_scored_from_its_second_token(model):
    rng = np.random.default_rng(0)
    rows = [Sequence_(rng.integers(0, 104, n).astype(np.int32), 0) for n in (2, 30, 300, 17)]
    for sequence, got in zip(rows, scores(model, rows), strict=True):
        assert len(got.logp) == len(sequence) - 1
        np.testing.assert_allclose(got.logp, expected(model, sequence).logp, atol=2e-5)


def test_progress_counts_every_sequence_and_nothing_to_score_is_nothing(model):
    counted = []
    many = sequences(700, seed=3)
    scores(model, many, progress=counted.append)
    assert sum(counted) == 700 and len(counted) > 1
    assert scores(model, []) == []
