"""Scores of texts, on the host: ROUGE, chrF, embeddings, forbidden strings, weighted means.

What this module does not know: settings, tokenizers, penalties.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz, process

from pmc_jax.scoring import rouge
from pmc_jax.scoring.base import Score

_ORDERS, _BETA = 6, 2  # of chrF: n-grams up to this length, recall weighs beta² times precision
_FUZZY_CHARACTERS = 5  # shorter strings stand by chance in many words


def rougeL_recall(original: str, samples: Sequence[str]) -> np.ndarray:
    """ROUGE-L recall of each sample, the reference being the original answer. float64 [K]."""
    return rouge.rougeL_recall_many([original] * len(samples), samples)


def rouge1_recall(original: str, samples: Sequence[str]) -> np.ndarray:
    """ROUGE-1 recall: stricter, word order does not help a sample. float64 [K]."""
    return np.array([rouge.rouge1_recall(original, sample) for sample in samples], np.float64)


def chrf(original: str, samples: Sequence[str]) -> np.ndarray:
    """chrF2 of each sample, the reference being the original answer. float64 [K] in [0, 1].

    P and R are the precision and recall of character n-grams, averaged over those n = 1..6 that
    both texts have; the score is 5PR / (4P + R). White space is left out and case ignored, as in
    sacreBLEU's `CHRF(lowercase=True)`. It needs no words, so it serves any script. Two texts of one
    language share letters: it is hardly ever 0, so give it a target.

    Reference: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """
    reference = _characters(original)
    texts = [_characters(sample) for sample in samples]
    sizes = np.array([len(text) for text in texts], np.int64)
    if not len(reference) or not sizes.any():
        return np.zeros(len(samples))
    alphabet, reference_codes = np.unique(reference, return_inverse=True)
    base = len(alphabet) + 1  # the last code is that of all other characters
    # All samples in one row, each followed by a character that the reference lacks.
    joined = np.concatenate([np.append(text, 0) for text in texts])
    sample_of = np.repeat(np.arange(len(texts)), sizes + 1)
    nearest = np.searchsorted(alphabet, joined).clip(max=base - 2)
    codes = np.where(alphabet[nearest] == joined, nearest, base - 1)
    # Of the n-gram that starts at each character its number among the reference's, or `kinds`.
    reference_grams, grams, kinds = reference_codes, codes, base - 1
    precision, recall, orders = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
    for n in range(1, min(_ORDERS, len(reference)) + 1):
        if n > 1:
            longer = reference_grams[:-1] * base + reference_codes[n - 1 :]
            keys, reference_grams = np.unique(longer, return_inverse=True)
            table = np.full((kinds + 1) * base, len(keys))
            table[keys] = np.arange(len(keys))
            grams, kinds = table[grams[:-1] * base + codes[n - 1 :]], len(keys)
        pairs = sample_of[: len(grams)] * (kinds + 1) + grams  # (sample, n-gram) as one number
        counts = np.bincount(pairs, minlength=len(texts) * (kinds + 1)).reshape(len(texts), -1)
        common = np.minimum(counts[:, :kinds], np.bincount(reference_grams)).sum(1)
        has = sizes >= n
        precision += np.where(has, common / np.maximum(sizes - n + 1, 1), 0.0)
        recall += np.where(has, common / len(reference_grams), 0.0)
        orders += has
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    weighted = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)


def _characters(text: str) -> np.ndarray:
    """Code points without white space and case, uint32 [n]."""
    return np.frombuffer("".join(text.casefold().split()).encode("utf-32-le", "replace"), "<u4")


def embedding(function: Callable[[list[str]], np.ndarray]) -> Score:
    """max(0, cosine) of the vectors of original answer and sample.

    Args:
        function: n texts -> float [n, d]; any model of sentences. Called once a question with the
            original answer first. A vector of zeros is like nothing.

    Raises:
        ValueError: from the score, where the function returns anything else.
    """

    def embedding_similarity(original: str, samples: Sequence[str]) -> np.ndarray:
        wanted = f"pmc.score.embedding must return {len(samples) + 1} vectors of finite numbers"
        try:
            vectors = np.asarray(function([original, *samples]), np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{wanted} ({error})") from error
        if vectors.ndim != 2 or len(vectors) != len(samples) + 1:
            raise ValueError(f"{wanted}; it returned the shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{wanted}; some are not finite")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(lengths > 0, lengths, 1)
        return np.clip(units[1:] @ units[0], 0, 1)

    return embedding_similarity


def forbidden(strings: Sequence[str], *, similarity: float = 90.0) -> Score:
    """Whether a sample says one of some strings, whatever the original answer was.

    Args:
        strings: what must not be said. Case, white space and the width of characters are ignored.
        similarity: in percent. A string of at least five characters also counts where a part of
            the sample is so similar to it (rapidfuzz `partial_ratio`); 100 = exact matches only.

    Returns:
        A score: 1 for a sample that holds one of the strings between word boundaries, else the
        similarity of the most similar one as a share of 1, or 0 where that is below `similarity`.
    """
    plain = [_plain(text) for text in strings]
    assert plain and all(plain)
    exact = re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in plain))
    fuzzy = [text for text in plain if len(text) >= _FUZZY_CHARACTERS and similarity < 100]

    def forbidden_strings(original: str, samples: Sequence[str]) -> np.ndarray:
        texts = [_plain(sample) for sample in samples]
        scores = np.array([exact.search(text) is not None for text in texts], np.float64)
        if fuzzy and texts:
            scores = np.maximum(scores, _most_similar(fuzzy, texts, similarity) / 100)
        return scores

    return forbidden_strings


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _most_similar(strings: Sequence[str], texts: Sequence[str], cutoff: float) -> np.ndarray:
    """Percent [texts]: of the string most like a part of the text; 0 below the cutoff."""
    options = {"score_cutoff": cutoff, "dtype": np.float64}
    parts = process.cdist(strings, texts, scorer=fuzz.partial_ratio, **options)
    whole = process.cdist(strings, texts, scorer=fuzz.ratio, **options)
    # Of a text shorter than the string, partial_ratio looks for the text in the string.
    short = np.array([[len(text) < len(string) for text in texts] for string in strings])
    return np.where(short, whole, parts).max(0)


def combined(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    """The weighted mean of some scores: sum(w · score) / sum(w). Weights are above 0."""
    assert len(scores) == len(weights) and min(weights) > 0
    weight = np.array(weights, np.float64)

    def weighted_mean(original: str, samples: Sequence[str]) -> np.ndarray:
        parts = np.array([score(original, samples) for score in scores], np.float64)
        return (weight[:, None] * parts).sum(0) / weight.sum()

    return weighted_mean
