"""Scores: how like the model's own original answer a sample still is. Lower is better.

The default is the paper's: ROUGE-L recall of the sample against the original model's greedy
answer (the paper's reward is 1 - score). A score may be any function of (original answer,
samples); PMC never shows it a true forget answer. The scale that the rest of the method assumes:
0 (or less) means "nothing left of the original", and such a question is never sampled again; 1 is
as bad as it gets, and it is what an empty or incoherent answer is given.

    base.py       the protocol, its checks, the penalties of short and empty answers
    text.py       ROUGE, chrF, embeddings, forbidden strings, weighted means
    tokens.py     longest common subsequence of token ids, on the device
    coherence.py  which samples are no answers at all
    preference.py which of equal scores is kept
    target.py     the score of somebody who does not know, in place of 0
    names.py      from settings to a score

An empty original answer has nothing to recall: ROUGE gives 0 to every sample.

Reference: Scholten et al., arXiv 2507.04219.
"""

from pmc_jax.sampling.lcs import lcs_lengths
from pmc_jax.scoring.base import (
    Score,
    is_empty,
    score_batch,
    with_empty_guard,
    with_min_len,
    worst_where,
)
from pmc_jax.scoring.coherence import coherent, repetition
from pmc_jax.scoring.preference import preference, secret_words, told
from pmc_jax.scoring.registry import NAMES, SCORES, base_score, resolve_score, run_score
from pmc_jax.scoring.text import chrf, combined, embedding, forbidden, rouge1_recall, rougeL_recall
from pmc_jax.scoring.threshold import ignorance, with_target
from pmc_jax.scoring.token_lcs import token_lcs

__all__ = [
    "NAMES",
    "SCORES",
    "Score",
    "base_score",
    "chrf",
    "coherent",
    "combined",
    "embedding",
    "forbidden",
    "ignorance",
    "is_empty",
    "lcs_lengths",
    "preference",
    "repetition",
    "resolve_score",
    "rouge1_recall",
    "rougeL_recall",
    "run_score",
    "score_batch",
    "secret_words",
    "token_lcs",
    "told",
    "with_empty_guard",
    "with_min_len",
    "with_target",
    "worst_where",
]
