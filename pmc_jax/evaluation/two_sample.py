r"""Tests whether the answers of a model can be told from those of models that never saw the data.

All models answer the same n questions, each question once. A question has M = R + 1 answers: one of
the model and one of each of R never-saw models, which differ only in the seed of their training.
Every answer is a vector x with five parts: tf-idf weights of words and pairs of words, tf-idf
weights of runs of two to four characters, the logarithm of the length, the squared distance from
the mean of the M answers to the question in the first two parts, and the ROUGE-L recall of the true
answer, if true answers are given. The mean of the M answers to a question is subtracted from x, so
the question itself has no influence, and the parts are scaled so that their inner products have the
same mean square. No step so far uses which model gave an answer.

    distance    Squared difference between the mean x of the model and of the never-saw models
                (maximum mean discrepancy, MMD). The estimate averages over pairs of different
                questions. It is therefore unbiased: 0 on average if all answers have the same
                distribution.
    auc         Probability that a classifier finds the model's answer more typical of the model
                than a never-saw answer to the same question (ties count half). The classifier is a
                ridge regression on x, which is trained on other questions (ten-fold
                cross-validation). The auc is 1/2 on average if all answers have the same
                distribution.
    p           p-value of a permutation test of both statistics together. A permutation draws for
                each question which of the M answers counts as the model's. p is the share of
                permutations in which the smaller p-value of the two statistics is not above the
                observed one. The test is exact if the M answers to a question are exchangeable,
                independently of other questions.
    spread      Both statistics of each never-saw model against the other R - 1 models. A model
                has habits that all its answers share, even if it never saw the data, and p counts
                these habits as a difference. The spread shows how large they are.

References: Gretton et al., "A kernel two-sample test", JMLR 2012; Lopez-Paz and Oquab, "Revisiting
classifier two-sample tests", arXiv 1610.06545; Westfall and Young, "Resampling-based multiple
testing", 1993 (the smaller p-value).
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pmc_jax.data.spelling import words_and_marks
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.scoring.words import Words, ascii_words

QUESTIONS, MODELS = 40, 5  # fewest questions and fewest never-saw models
LEVEL = 0.01  # p below which a model outside the spread counts as told apart
_PERMUTATIONS = 2000
_FOLDS = 10
_RIDGE = 10.0  # in units of the mean squared length of x
_CHARACTERS = (2, 3, 4)


@dataclasses.dataclass(frozen=True)
class TwoSample:
    """Result of the test. The module docstring defines the numbers.

    Attributes:
        distance: distance between the model and the never-saw models.
        distance_spread: distance of each never-saw model from the others.
        auc: AUC of the classifier, 0 to 1.
        auc_spread: AUC of each never-saw model against the others.
        p: p-value of the permutation test.
        questions: number of questions.
    """

    distance: float
    distance_spread: tuple[float, ...]
    auc: float
    auc_spread: tuple[float, ...]
    p: float
    questions: int

    @property
    def inside(self) -> bool:
        """Whether neither statistic is above the largest one of a never-saw model.

        A further never-saw model is outside by chance with a probability of about 1 / (R + 1) for
        each statistic.
        """
        return self.distance <= max(self.distance_spread) and self.auc <= max(self.auc_spread)

    @property
    def told_apart(self) -> bool:
        """Whether the model is outside the spread and p is below `LEVEL`."""
        return self.p < LEVEL and not self.inside


def missing_inputs(questions: int, models: int) -> str:
    """Returns the reason why the test cannot be computed, or "" if it can be computed.

    Args:
        questions: number of questions.
        models: number of never-saw models.
    """
    if questions < QUESTIONS:
        return (
            f"the test needs at least {QUESTIONS} questions that are not forget questions, but "
            f"data.evaluate.forget_paraphrased has {questions}"
        )
    if models < MODELS:
        return (
            f"the test needs at least {MODELS} models that never saw the data, but it has "
            f"{models}; list more in evaluate.never_saw (pmc compare: set reference.seeds)"
        )
    return ""


def two_sample_test(
    answers: Sequence[str],
    never_saw: Sequence[Sequence[str]],
    *,
    seed: int,
    truths: Sequence[str] | None = None,
    words: Words = ascii_words,
) -> TwoSample:
    """Tests whether the answers of a model can be told from those of never-saw models.

    Args:
        answers: answer of the model to each of n questions, n at least `QUESTIONS`. Answers to
            questions about one subject should follow each other, because the cross-validation
            keeps neighbours together.
        never_saw: answers of each of R never-saw models to the same questions, R at least `MODELS`.
        seed: seed of the permutations.
        truths: true answer to each question, or None if no true answers are known. With true
            answers, the test also finds a model that says more or less of them than never-saw
            models do.
        words: function that splits a text into words for the recall of the true answers.
    """
    assert not missing_inputs(len(answers), len(never_saw)), "check with missing_inputs"
    truths = [""] * len(answers) if truths is None else truths
    models = [
        [_Answer(text, rougeL_recall(truth, text, words)) for text, truth in pairs]
        for pairs in (zip(texts, truths, strict=True) for texts in (answers, *never_saw))
    ]
    distance, auc = _statistics(models, _PERMUTATIONS, seed)
    spread = []
    for i in range(1, len(models)):
        tested = [models[i], *models[1:i], *models[i + 1 :]]
        spread.append([float(values[0]) for values in _statistics(tested, 0, seed)])
    smaller = np.minimum(_p_values(distance), _p_values(auc))
    p = float(np.mean(smaller <= smaller[0]))
    distances, aucs = zip(*spread, strict=True)
    return TwoSample(float(distance[0]), distances, float(auc[0]), aucs, p, len(answers))


def without_power(controls: Mapping[str, TwoSample]) -> str:
    """Returns why the test has no power, or "" if it has told apart every control model.

    A control model is a model that the test must tell apart from the never-saw models, such as the
    target model.

    Args:
        controls: result of each control model by its name. All results must come from the same
            questions and the same never-saw models.
    """
    missed = [f"{name} (p = {one.p:.2g})" for name, one in controls.items() if not one.told_apart]
    return f"no power: the test does not tell {', '.join(missed)} apart" if missed else ""


class _Answer(NamedTuple):
    """Answer with its recall of the true answer, which is 0 if there is no true answer."""

    text: str
    recall: float


def _statistics(
    models: Sequence[Sequence[_Answer]], permutations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the distance and the AUC of the first model against the others.

    Args:
        models: answers of M models to n questions.
        permutations: number of permutations P.

    Returns:
        Two arrays float64 [1 + P]: the observed statistic, then one per permutation.
    """
    n, m = len(models[0]), len(models)
    # Row i * m + j is the answer of model j to question i.
    inner = _inner_products([one for group in zip(*models, strict=True) for one in group], n)
    picks = np.random.default_rng(seed).integers(m, size=(1 + permutations, n))
    picks[0] = 0
    labels = (picks[..., None] == np.arange(m)).reshape(len(picks), -1).astype(np.float64)
    apart = _without_own_questions(inner, n)
    # The mean of a question is subtracted, so model minus never-saw is M / (M - 1) times its x.
    distance = np.einsum("pk,pk->p", labels @ apart, labels) * (m / (m - 1)) ** 2 / (n * (n - 1))
    scores = (labels @ _classifier(inner, n).T).reshape(len(picks), n, m)
    above = np.take_along_axis(scores, picks[..., None], 2) - scores
    # The same text from two models has the same score except for rounding.
    equal = np.abs(above) <= 1e-9 * np.abs(scores).max()
    wins = np.where(equal, 0.5, above > 0).sum(2) - 0.5  # without the comparison with itself
    return distance, wins.mean(1) / (m - 1)


def _classifier(inner: np.ndarray, n: int) -> np.ndarray:
    """Returns the matrix that maps labels to cross-validated scores, float64 [n M, n M].

    Ridge regression is linear in the labels, so one matrix serves all permutations.

    Args:
        inner: inner products of the answers, float64 [n M, n M].
        n: number of questions.
    """
    scores = np.zeros_like(inner)
    ridge = _RIDGE * max(np.trace(inner) / len(inner), 1e-12)
    rows = np.arange(len(inner)).reshape(n, -1)
    for fold in np.array_split(np.arange(n), _FOLDS):
        held, train = rows[fold].ravel(), np.delete(rows, fold, axis=0).ravel()
        trained = inner[np.ix_(train, train)] + ridge * np.eye(len(train))
        scores[np.ix_(held, train)] = np.linalg.solve(trained, inner[np.ix_(train, held)]).T
    return scores


def _inner_products(answers: Sequence[_Answer], n: int) -> np.ndarray:
    """Returns the inner products of the vectors x of all answers, float64 [N, N].

    Args:
        answers: N answers, with the answers to one question together.
        n: number of questions.
    """
    words = [[word.casefold() for word in words_and_marks(one.text)] for one in answers]
    pairs = [[*one, *itertools.pairwise(one)] for one in words]
    runs = [_runs(f" {' '.join(one)} ") for one in words]
    parts = [_centred(_cosines(items), n) for items in (pairs, runs)]
    lengths = np.log1p([len(one.text) for one in answers])
    agreement = np.diag(parts[0] + parts[1])
    recalls = np.array([one.recall for one in answers])
    parts += [_centred(np.outer(part, part), n) for part in (lengths, agreement, recalls)]
    return sum(_scaled(part, n) for part in parts)


def _runs(text: str) -> list[str]:
    return [text[i : i + k] for k in _CHARACTERS for i in range(len(text) - k + 1)]


def _cosines(items: Sequence[Iterable]) -> np.ndarray:
    """Returns the cosines between the tf-idf vectors of N lists of items, float64 [N, N].

    An item that occurs c times in a list and in d lists has the weight
    (1 + ln c) (1 + ln((1 + N) / (1 + d))).
    """
    # This import is delayed until the first use, because it takes a quarter of a second.
    from scipy.sparse import csr_array

    counts = [Counter(one) for one in items]
    columns: dict = {}
    indices = [columns.setdefault(item, len(columns)) for one in counts for item in one]
    starts = np.cumsum([0, *map(len, counts)])
    data = np.array([count for one in counts for count in one.values()], np.float64)
    frequency = np.bincount(np.array(indices, np.int64), minlength=len(columns))
    idf = 1 + np.log((1 + len(items)) / (1 + frequency))
    weights = (1 + np.log(data)) * idf[indices] if indices else data
    table = csr_array((weights, indices, starts), shape=(len(items), max(len(columns), 1)))
    products = (table @ table.T).toarray()
    lengths = np.sqrt(np.diag(products))
    lengths = np.where(lengths > 0, lengths, 1)  # An empty answer has no items.
    return products / np.outer(lengths, lengths)


def _centred(products: np.ndarray, n: int) -> np.ndarray:
    """Returns the inner products after the mean of each question is subtracted from its answers."""
    blocks = products.reshape(n, -1, n, len(products) // n)
    blocks = blocks - blocks.mean(1, keepdims=True)
    return (blocks - blocks.mean(3, keepdims=True)).reshape(products.shape)


def _scaled(products: np.ndarray, n: int) -> np.ndarray:
    """Scales the inner products of a part, so that all parts have the same mean square."""
    size = np.sqrt(np.mean(_without_own_questions(products, n) ** 2))
    return products / size if size > 1e-12 else np.zeros_like(products)


def _without_own_questions(products: np.ndarray, n: int) -> np.ndarray:
    """Returns the inner products with 0 for two answers to the same question."""
    return products * (1 - np.kron(np.eye(n), np.ones((len(products) // n,) * 2)))


def _p_values(statistics: np.ndarray) -> np.ndarray:
    """Returns for each number the share of all numbers that are not smaller, float64 [n]."""
    slack = 1e-9 * np.abs(statistics).max()
    below = np.searchsorted(np.sort(statistics), statistics - slack)
    return 1 - below / len(statistics)
