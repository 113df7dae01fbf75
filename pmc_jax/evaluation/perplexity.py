"""Measures the perplexity of a model on unrelated text.

N is the sum of the losses -ln p of all tokens. White space separates words. In scripts without
spaces, each character is a word.

    token          exp(N / tokens), which is comparable only between models with the same tokenizer.
    word           exp(N / words).
    bits_a_word    N / (words ln 2).
"""

from typing import Any

import numpy as np

from pmc_jax.evaluation.result import NO_TEXT, Description, Result
from pmc_jax.evaluation.rows import Rows

DESCRIPTIONS = {
    "token": Description("perplexity of unrelated text per token", "lower", ""),
    "word": Description("perplexity of unrelated text per word", "lower", ""),
    "bits_a_word": Description("bits per word of unrelated text", "lower", ""),
}


def summarise(own: Rows, *_: Any) -> Result:
    """Computes the numbers that the module docstring defines, over all chunks of the text."""
    chunks = own.get("text", {}).values()
    words, tokens = sum(c["words"] for c in chunks), sum(len(c["logp"]) for c in chunks)
    if not tokens or not words:
        return Result.nothing(DESCRIPTIONS, NO_TEXT)
    loss = -sum(float(np.sum(chunk["logp"])) for chunk in chunks)
    with np.errstate(over="ignore"):  # `Result.of` reports infinity as missing
        token, word = np.exp([loss / tokens, loss / words])
    numbers = {"token": token, "word": word, "bits_a_word": loss / (words * np.log(2))}
    return Result.of(numbers, DESCRIPTIONS)
