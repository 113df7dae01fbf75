"""Perplexity of a model on unrelated text.

With N the sum of the losses of all tokens (natural logarithm):

    token          exp(N / tokens), comparable only between models with the same tokenizer
    word           exp(N / words), words separated by white space
    bits_a_word    N / (words ln 2)
"""

from typing import Any

import numpy as np

from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows

DESCRIPTIONS = {
    "token": Description("perplexity of unrelated text per token", "lower", ""),
    "word": Description("perplexity of unrelated text per word", "lower", ""),
    "bits_a_word": Description("bits per word of unrelated text", "lower", ""),
}


def summarise(own: Rows, *_: Any) -> Result:
    """All numbers, over all chunks of the text."""
    chunks = own.get("text", {}).values()
    words, tokens = sum(c["words"] for c in chunks), sum(len(c["logp"]) for c in chunks)
    if not tokens or not words:
        return Result.nothing(DESCRIPTIONS, "no text to read: evaluate.corpus.path")
    loss = -sum(float(np.sum(chunk["logp"])) for chunk in chunks)
    with np.errstate(over="ignore"):  # `Result.of` reports infinity as not finite
        token, word = np.exp([loss / tokens, loss / words])
    numbers = {"token": token, "word": word, "bits_a_word": loss / (words * np.log(2))}
    return Result.of(numbers, DESCRIPTIONS)
