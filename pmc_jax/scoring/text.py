"""Scores of texts: ROUGE, chrF, embeddings, forbidden strings, weighted means.

These scores run on the host. This module handles no settings, tokenizers or penalties.
"""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz import fuzz, process

from pmc_jax.data.spelling import any_of
from pmc_jax.errors import UserError
from pmc_jax.scoring import rouge
from pmc_jax.scoring.base import Score, lower_bound, never_falling, raised
from pmc_jax.scoring.words import Words, ascii_words

# chrF uses n-grams of up to 6 characters, and recall has beta² times the weight of precision.
_ORDERS, _BETA = 6, 2
# Shorter strings occur by chance in many words.
_FUZZY_CHARACTERS = 5


def rougeL_recall(
    original: str, samples: Sequence[str], *, words: Words = ascii_words
) -> np.ndarray:
    """Computes the ROUGE-L recall of the original answer in each of K samples, float64 [K]."""
    return rouge.rougeL_recall_many([original] * len(samples), samples, words)


def rouge1_recall(
    original: str, samples: Sequence[str], *, words: Words = ascii_words
) -> np.ndarray:
    """Computes the ROUGE-1 recall of the original answer in each of K samples, float64 [K].

    ROUGE-1 is stricter than ROUGE-L, because a different word order does not lower the score.
    """
    recalls = [rouge.rouge1_recall(original, sample, words) for sample in samples]
    return np.array(recalls, np.float64)


def chrf(original: str, samples: Sequence[str]) -> np.ndarray:
    """Computes chrF2 of each of K samples against the original answer, float64 [K] from 0 to 1.

    The score is 5PR / (4P + R), where P and R are the precision and recall of character n-grams.
    Both are averaged over those n from 1 to 6 for which both texts have n-grams. White space and
    case are ignored, as in sacreBLEU's `CHRF(lowercase=True)`. chrF needs no word boundaries, so it
    works in any script. Two texts in one language share letters, so the score is rarely 0 and needs
    a threshold.

    Reference: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """
    reference = _characters(original)
    texts = [_characters(sample) for sample in samples]
    sizes = np.array([len(text) for text in texts], np.int64)
    if not len(reference) or not sizes.any():
        return np.zeros(len(samples))
    alphabet, reference_codes = np.unique(reference, return_inverse=True)
    base = len(alphabet) + 1  # All characters that the reference lacks share the last code.
    # All samples are joined, each followed by a character that the reference lacks.
    joined = np.concatenate([np.append(text, 0) for text in texts])
    sample_of = np.repeat(np.arange(len(texts)), sizes + 1)
    nearest = np.searchsorted(alphabet, joined).clip(max=base - 2)
    codes = np.where(alphabet[nearest] == joined, nearest, base - 1)
    # `grams` has the index of the n-gram at each character, or `kinds` if the reference lacks it.
    reference_grams, grams, kinds = reference_codes, codes, base - 1
    precision, recall, orders = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
    for n in range(1, min(_ORDERS, len(reference)) + 1):
        if n > 1:
            longer = reference_grams[:-1] * base + reference_codes[n - 1 :]
            keys, reference_grams = np.unique(longer, return_inverse=True)
            table = np.full((kinds + 1) * base, len(keys))
            table[keys] = np.arange(len(keys))
            grams, kinds = table[grams[:-1] * base + codes[n - 1 :]], len(keys)
        # Each pair (sample, n-gram) becomes one number, which bincount counts.
        pairs = sample_of[: len(grams)] * (kinds + 1) + grams
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
    """Returns the code points of a case-folded text without white space, uint32 [n]."""
    return np.frombuffer("".join(text.casefold().split()).encode("utf-32-le", "replace"), "<u4")


def embedding(function: Callable[[list[str]], np.ndarray]) -> Score:
    """Returns the score max(0, cosine), with the cosine between the vectors of two texts.

    The texts are the original answer and a sample. The score raises a UserError if the function
    does not return one finite vector per text.

    Args:
        function: function that maps n texts to n vectors of any size d, float [n, d], such as a
            sentence embedding model. Each call gets the original answer and all samples of a
            question together. A zero vector has cosine 0 with every vector.
    """

    def embedding_similarity(original: str, samples: Sequence[str]) -> np.ndarray:
        count = len(samples) + 1
        expected = f"pmc.score.embedding: the function must return {count} vectors"
        try:
            vectors = np.asarray(function([original, *samples]), np.float64)
        except Exception as error:  # A user's function may raise any type.
            raise UserError(
                f"{expected}, but the call, or the conversion of its result to an array of "
                f"numbers, {raised(error)}. Correct the function."
            ) from None
        if vectors.ndim != 2 or len(vectors) != count:
            raise UserError(
                f"{expected}, but it returned shape {vectors.shape}. Return one vector per text."
            )
        if not np.isfinite(vectors).all():
            raise UserError(
                f"{expected} of finite numbers, but some numbers are not finite. "
                "Correct the function."
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.where(lengths > 0, lengths, 1)
        return np.clip(units[1:] @ units[0], 0, 1)

    return embedding_similarity


def forbidden(strings: Sequence[str], *, similarity: float = 90.0) -> Score:
    """Returns a score that is 1 for samples with a forbidden string. Original answers are not read.

    Args:
        strings: the forbidden strings. Differences of case, of the width of characters and of the
            kind and amount of white space are ignored.
        similarity: minimum similarity of approximate matches in percent. A part of a sample matches
            a string of at least five characters if their similarity (rapidfuzz `partial_ratio`) is
            not lower. With 100, only exact matches count.

    Returns:
        The score, which is 1 if the sample contains a string between word boundaries. Otherwise,
        the score is the highest similarity of an approximate match / 100, or 0 if nothing matches.
        If only exact matches count, the score declares that it never falls.
    """
    plain = [_plain(text) for text in strings]
    assert plain and all(plain)
    exact = any_of(plain)
    fuzzy = [text for text in plain if len(text) >= _FUZZY_CHARACTERS and similarity < 100]

    def forbidden_strings(original: str, samples: Sequence[str]) -> np.ndarray:
        texts = [_plain(sample) for sample in samples]
        scores = np.array([exact.search(text) is not None for text in texts], np.float64)
        if fuzzy and texts:
            scores = np.maximum(scores, _most_similar(fuzzy, texts, similarity) / 100)
        return scores

    return forbidden_strings if fuzzy else never_falling(forbidden_strings)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _most_similar(strings: Sequence[str], texts: Sequence[str], cutoff: float) -> np.ndarray:
    """Computes for each text the highest similarity of any string to a part of the text.

    The result has one value in percent per text. The value is 0 if the similarity is below the
    cutoff.
    """
    options = {"score_cutoff": cutoff, "dtype": np.float64}
    parts = process.cdist(strings, texts, scorer=fuzz.partial_ratio, **options)
    whole = process.cdist(strings, texts, scorer=fuzz.ratio, **options)
    # If the text is shorter than the string, partial_ratio searches the string for the text.
    short = np.array([[len(text) < len(string) for text in texts] for string in strings])
    return np.where(short, whole, parts).max(0)


def combined(scores: Sequence[Score], weights: Sequence[float]) -> Score:
    """Returns the weighted mean of scores, sum(w · score) / sum(w), with weights w above 0.

    If all scores have a lower bound, the mean of the bounds is the lower bound of the mean.
    """
    assert len(scores) == len(weights) and min(weights) > 0
    weight = np.array(weights, np.float64)

    def weighted_mean(original: str, samples: Sequence[str]) -> np.ndarray:
        parts = np.array([score(original, samples) for score in scores], np.float64)
        return (weight[:, None] * parts).sum(0) / weight.sum()

    bounds = [lower_bound(score) for score in scores]
    if all(bounds):
        weighted_mean.lower_bound = combined(bounds, weights)
    return weighted_mean
