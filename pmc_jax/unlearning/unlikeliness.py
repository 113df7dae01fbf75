"""How unlikely answers are to the model that gave them: what `scores.coherent` weighs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pmc_jax.answers import Speaker
from pmc_jax.data.encode import Sequence_
from pmc_jax.evaluation.likelihood import token_scores
from pmc_jax.models.decoder import Decoder

# Row -> mean nats a token of its samples, and of the original answer.
Nats = Mapping[int, tuple[list[float], float]]


def unlikeliness(
    speaker: Speaker,
    model: Decoder,
    questions: Mapping[int, tuple[Sequence[int], str]],
    sampled: Sequence[tuple],
) -> Nats:
    """Mean nats a token at temperature 1, end tokens left out; nan where an answer has no token.

    Args:
        model: weights that the answers were sampled from.
        questions: row -> tokens of its prompt, and its original answer.
        sampled: (row, texts, `Samples`, number of the row among these) of every question.
    """
    encoder, lm, sequences = speaker.encoder, speaker.lm, []
    for row, _, samples, i in sampled:
        prompt, original = questions[row]
        answers = [
            t[:n].tolist() for t, n in zip(samples.tokens[i], samples.length[i], strict=True)
        ]
        spoken = [[t for t in answer if t not in encoder.end_tokens] for answer in answers]
        for answer in (*spoken, encoder.opening(original)):
            sequences.append(Sequence_(np.array([*prompt, *answer], np.int32), len(prompt)))
    found = token_scores(model, lm.config, lm.layout, sequences, dtype=speaker.dtype)
    means = iter([-float(one.logp.mean()) if len(one.logp) else math.nan for one in found])
    counts = [(row, len(samples.length[i])) for row, _, samples, i in sampled]
    return {row: ([next(means) for _ in range(k)], next(means)) for row, k in counts}
