"""Token scores are those of a full forward pass, whatever is packed beside a sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import full_logits
from tiny_cases import TINY, sequences, tiny_model, train_layout

from pmc_jax.data.encode import TokenSequence
from pmc_jax.training import likelihood
from pmc_jax.training.likelihood import TokenScores, token_scores


@pytest.fixture(scope="module")
def model():
    return tiny_model(train_layout())


def scores(model, rows: list[TokenSequence], **options) -> list[TokenScores]:
    return token_scores(model, TINY, train_layout(), rows, dtype=jnp.float32, **options)


def alone(model, rows: list[TokenSequence]) -> list[np.ndarray]:
    """f32[n,V] each: logits after every token of a sequence that has a row of its own."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, sequence in zip(padded, rows, strict=True):
        row[: len(sequence)] = sequence.tokens
    lengths = np.array([len(sequence) for sequence in rows])
    logits = full_logits(model, TINY, train_layout(), padded, lengths)
    return [x[:n] for x, n in zip(logits, lengths, strict=True)]


def expected(sequence: TokenSequence, logits: np.ndarray) -> TokenScores:
    """By the definition."""
    first = max(sequence.begin, 1)
    logp = np.asarray(jax.nn.log_softmax(logits[first - 1 : -1]), np.float64)
    targets = sequence.tokens[first:]
    own, p = logp[np.arange(len(targets)), targets], np.exp(logp)
    mean = (p * logp).sum(-1)
    deviation = np.sqrt((p * logp**2).sum(-1) - mean**2)
    return TokenScores(own, logp.argmax(-1) == targets, (own - mean) / deviation)


@pytest.mark.parametrize("prefix", [0, 3])
def test_scores_by_the_definition(model, prefix):
    rows = sequences(40, seed=1, prefix=prefix)
    logits = alone(model, rows)
    likely = np.append(rows[0].tokens[:-1], logits[0][-2].argmax()).astype(np.int32)
    rows[0] = TokenSequence(likely, rows[0].begin)  # ends in the token that the model would say
    found = scores(model, rows)
    assert len(found) == len(rows)
    for sequence, logit, got in zip(rows, logits, found, strict=True):
        want = expected(sequence, logit)
        assert got.logp.shape == (len(sequence) - sequence.begin,)
        # float32 sums over 104 entries and two layers.
        np.testing.assert_allclose(got.logp, want.logp, atol=2e-5)
        np.testing.assert_allclose(got.min_k_plus_z, want.min_k_plus_z, atol=2e-4)
        np.testing.assert_array_equal(got.is_argmax, want.is_argmax)
    hits = np.concatenate([x.is_argmax for x in found])
    assert found[0].is_argmax[-1] and not hits.all()


def test_text_is_scored_from_its_second_token(model):
    rng = np.random.default_rng(0)
    rows = [TokenSequence(rng.integers(0, 104, n).astype(np.int32), 0) for n in (2, 30, 300, 17)]
    for sequence, logit, got in zip(rows, alone(model, rows), scores(model, rows), strict=True):
        assert len(got.logp) == len(sequence) - 1
        np.testing.assert_allclose(got.logp, expected(sequence, logit).logp, atol=2e-5)


def test_every_sequence_is_scored_and_nothing_to_score_is_nothing(model):
    many = scores(model, sequences(700, seed=3))
    assert len(many) == 700 and all(one is not None for one in many)
    assert scores(model, []) == []


def test_no_batch_is_much_emptier_than_another(model, monkeypatch):
    """Eleven sequences, two a row: two batches of three rows, not one of four and one of two."""
    monkeypatch.setattr(likelihood, "_BATCH_TOKENS", 4 * likelihood._ROW_TOKENS)
    shapes, counted, score = set(), [], likelihood._score

    def noted(model, prefix, tokens, positions, segments, *rest, **static):
        shapes.add(tokens.shape)
        counted.append(int(np.asarray(segments).max(1).sum()))
        return score(model, prefix, tokens, positions, segments, *rest, **static)

    monkeypatch.setattr(likelihood, "_score", noted)
    rng = np.random.default_rng(0)
    rows = [TokenSequence(rng.integers(0, 104, 128).astype(np.int32), 100) for _ in range(11)]
    scores(model, rows)
    assert shapes == {(3, likelihood._ROW_TOKENS)} and counted == [6, 5]
