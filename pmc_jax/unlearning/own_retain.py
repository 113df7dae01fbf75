"""Makes retain data from the target model's own answers, for the source `own`.

The questions are the general questions of the package and questions near the forget questions. A
near question is a forget question with another name in place of each name of its subject: first
with the names in the given retain questions, of which those come first that share a word with the
subject, then with invented names. The target model answers all of them greedily before the first
step, and training on these answers keeps what the model says. Facts that no question asks for are
kept only by chance.

The model may answer a question about an invented name with a fact about a real one. An answer is
left out if its question or the answer names a subject of the forget questions, or if it gives one
of these secrets of an original answer (see `scoring.secret_items`):

- a name, a number, a date, an address, a code or a phrase
- at least half of all secret items of the original answer, counting rare words

Words that occur in given retain pairs are secret only together: an answer is also left out if it
gives all secret items of an original answer. No true answer is read.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import regex

from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet, OwnQuestions, RetainSet
from pmc_jax.data.spelling import spelled_words
from pmc_jax.data.subjects import find_subjects, invented_names, replace_names
from pmc_jax.data.thoughts import answer_of
from pmc_jax.data.visible import appearance, is_visible
from pmc_jax.errors import UserError
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.secret_items import items_of, secret_items
from pmc_jax.scoring.secret_readings import keys
from pmc_jax.scoring.secret_vocabulary import Vocabulary, vocabulary
from pmc_jax.scoring.words import unicode_words
from pmc_jax.unlearning.asking import subjects_of

_NEAR = "own:near:"  # prefix of the ids of near questions
_MOST_NAMES = 16  # maximum number of near questions for a forget question
_MOST_NEAR = 400  # maximum number of near questions
_MOST_SEARCHED = 2000  # maximum number of given questions in which names are searched for
# Shares of the kinds of pairs in the retain rows of a step.
_SHARES = {"given": 1 / 3, "near": 1 / 2, "general": 1 / 6}
_SENTENCES = regex.compile(r".*(?:[.!?…](?=[\s\p{P}]|$)|[。！？؟।])\p{P}*", regex.DOTALL)


def own_questions(
    forget: ForgetSet, given: RetainSet, general: RetainSet, config: Config
) -> OwnQuestions:
    """Returns the questions that the target model answers for the retain data.

    A forget question has at most 16 near questions, and all together have at most 400. Without
    names in the given pairs, there are about as many near questions as general questions. A forget
    question without a subject has none. No question of the given pairs is returned.

    Args:
        forget: the forget questions.
        given: retain pairs that are given in addition, such as those of `data.retain`.
        general: the general questions of the package (see `sets.general_set`). The model does not
            learn their answers.
        config: settings of the run. Only `pmc.subject.names_file` and `seed` are read.

    Raises:
        UserError: the file of names cannot be read.
    """
    seen = {*map(appearance, (*forget.questions, *given.questions))}
    rows = [i for i, q in enumerate(general.questions) if appearance(q) not in seen]
    texts = [*given.questions, *given.answers]
    subjects = subjects_of(forget, texts, config.pmc)
    named = _spread([i for i, names in enumerate(subjects) if names], _MOST_NEAR)
    kept = _kept_names(forget, given, config.seed)
    wanted = _MOST_NEAR if kept else len(rows)
    count = min(max(1, round(wanted / max(1, len(named)))), _MOST_NAMES)
    texts += [*forget.questions, *general.questions, *general.answers]
    found = [subjects[i] for i in named]
    invented = invented_names(found, texts, count=count, seed=config.seed, similar=True)
    ids = [f"own:{general.ids[i]}" for i in rows]
    questions = [general.questions[i] for i in rows]
    for place, (i, choices) in enumerate(zip(named, invented, strict=True)):
        for number, names in enumerate(choices):
            names = _with_kept_names(names, kept, place * count, number)
            question = replace_names(forget.questions[i], names)
            if appearance(question) not in seen:
                seen.add(appearance(question))
                ids.append(f"{_NEAR}{forget.ids[i]}:{number}")
                questions.append(question)
    return OwnQuestions(tuple(ids), tuple(questions))


def _spread(rows: list[int], most: int) -> list[int]:
    """Returns at most `most` of the rows, at even distances."""
    if len(rows) <= most:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).astype(int)]


def _kept_names(forget: ForgetSet, given: RetainSet, seed: int) -> dict[int, list[str]]:
    """Returns the subjects of the given questions in random order, by their number of words."""
    rows = _spread(list(range(len(given))), _MOST_SEARCHED)
    subjects = find_subjects([given.questions[i] for i in rows], forget.questions)
    names = sorted({name for row in subjects for name in row})
    np.random.default_rng(seed).shuffle(names)
    kept: dict[int, list[str]] = defaultdict(list)
    for name in names:
        kept[len(name.split())].append(name)
    return kept


def _with_kept_names(
    names: Mapping[str, str], kept: Mapping[int, Sequence[str]], first: int, number: int
) -> dict[str, str]:
    """Returns the mapping with kept names of as many words in place of the invented names.

    Args:
        names: subject -> invented name, which stays if no further kept name is left.
        kept: names by their number of words.
        first: number of the kept name from which on names are taken, in a circle. Names that share
            a word with the subject come before the others.
        number: how many near questions of the same forget question there are before this one.
    """
    chosen = {}
    for place, (subject, invented) in enumerate(names.items()):
        words = subject.split()
        others = kept.get(len(words), ())
        if number < len(others):
            start, shared = (first + place) % len(others), frozenset(words)
            turned = [*others[start:], *others[:start]]
            turned.sort(key=lambda name, shared=shared: shared.isdisjoint(name.split()))
            invented = turned[number]
        chosen[subject] = invented
    return chosen


def own_pairs(
    questions: OwnQuestions,
    forget: ForgetSet,
    given: RetainSet,
    originals: Sequence[str],
    answer_greedily: Callable[[Sequence[str]], Mapping[str, str]],
    generator: TextGenerator,
    config: Config,
) -> RetainSet:
    """Returns the given retain pairs and the pairs of the target model's own answers.

    An answer that the model has not ended within `pmc.sampling.max_new_tokens` is cut after its
    last sentence. A pair is left out if it tells a secret (see the module), if its answer is empty
    or has no full sentence, or if it is longer than `data.max_length`.

    Args:
        questions: questions that `own_questions` returns.
        forget: the forget questions.
        given: retain pairs that are given in addition.
        originals: original answers to the forget questions, in their order.
        answer_greedily: function that maps questions to the target model's greedy answers.
        generator: the target model with its prompts.
        config: settings of the run.

    Raises:
        UserError: no pair is left.
    """
    greedy, limit = answer_greedily(questions.questions), config.pmc.sampling.max_new_tokens
    encode, window = generator.encoder, generator.lm.config.max_positions
    subjects = subjects_of(forget, [*given.questions, *given.answers], config.pmc)
    words = vocabulary(config.evaluate.levels.words)
    public = [*given.questions, *given.answers]
    secrets = _Secrets(originals, forget, public, subjects, words)
    rows = list(zip(given.ids, given.questions, given.answers, strict=True))
    for id_, question in zip(questions.ids, questions.questions, strict=True):
        answer = answer_of(greedy[question])
        if len(encode.plain(answer)) >= limit:
            sentences = _SENTENCES.match(answer)
            answer = sentences[0] if sentences else ""
        if not is_visible(answer) or secrets.are_told(question, answer):
            continue
        if len(encode.sequence(question, answer)) <= min(config.data.max_length, window):
            rows.append((id_, question, answer))
    if not rows:
        raise UserError(
            f"data.retain: the model has no usable answer to any of its {len(questions)} own "
            "retain questions. Set data.retain to a file with questions and answers."
        )
    return RetainSet(*zip(*rows, strict=True))


def retain_shares(pairs: RetainSet, questions: OwnQuestions) -> dict[str, float]:
    """Returns the share of each retain pair in the retain rows of a step, by the id of the pair.

    A third of the rows are given pairs, a half are near questions, and a sixth are general
    questions. If a kind has no pairs, the shares of the others sum to less than 1.

    Args:
        pairs: pairs that `own_pairs` returned.
        questions: questions that `own_questions` returned.
    """
    own = questions.index_of
    kinds = [("near" if _is_near(i) else "general") if i in own else "given" for i in pairs.ids]
    count = Counter(kinds)
    return {id_: _SHARES[kind] / count[kind] for id_, kind in zip(pairs.ids, kinds, strict=True)}


def describe(questions: OwnQuestions, pairs: RetainSet, forget: ForgetSet) -> str:
    """Returns a line that says which of the model's own answers are retain data.

    Args:
        questions: questions that `own_questions` returned.
        pairs: pairs that `own_pairs` returned.
        forget: the forget questions.
    """
    own = set(questions.ids)
    kept = [id_ for id_ in pairs.ids if id_ in own]
    near = sum(map(_is_near, kept))
    asked = {id_.rpartition(":")[0] for id_ in questions.ids if _is_near(id_)}
    parts = [
        f"data.retain: the model's own answers to {len(kept) - near} general questions and to "
        f"{near} forget questions with other names are retain data"
    ]
    if left := len(own) - len(kept):
        parts.append(
            f"{left} other answers tell a secret, do not end or are too long, and are left out"
        )
    if missing := len(forget) - len(asked):
        parts.append(f"{missing} of {len(forget)} forget questions get no other names")
    return "; ".join(parts) + ". Facts for which no question asks are not protected."


def _is_near(id_: str) -> bool:
    return id_.startswith(_NEAR)


class _Secrets:
    """Secrets of the original answers.

    Args:
        originals: original answer to each forget question.
        forget: the forget questions.
        public: texts whose words may be told, but not all secret items of an answer.
        subjects: names of the subject of each question.
        words: tables of number words, month names and common words.
    """

    def __init__(
        self,
        originals: Sequence[str],
        forget: ForgetSet,
        public: Sequence[str],
        subjects: Sequence[Sequence[str]],
        words: Vocabulary,
    ):
        self._words = words
        known = frozenset().union(*(keys(text, words) for text in public))
        self._items = secret_items(originals, forget.questions, (), words)
        self._hidden = [[item for item in row if not item <= known] for row in self._items]
        self._names = list(dict.fromkeys(name for names in subjects for name in names))
        identifying: set[str] = set()
        for original, secret in zip(originals, self._hidden, strict=True):
            for item in items_of(original, words, lambda _, is_rare_word: not is_rare_word):
                if item in secret:
                    identifying |= item
            # Names in scripts without capital letters count as rare words.
            identifying |= {key for item in secret for key in item if _has_no_case(key)}
        parts = (word[0] for name in self._names for word in spelled_words(name))
        stems = {stem for part in parts if part[0].isupper() for stem in unicode_words(part)}
        identifying |= {f"word {stem}" for stem in stems - words.never_secret} - known
        self._identifying = frozenset(identifying)

    def are_told(self, question: str, answer: str) -> bool:
        """Returns whether a pair names a subject, or gives secrets of an original answer."""
        if self._names and find_subjects([f"{question}\n{answer}"], [], names=self._names)[0]:
            return True
        given = keys(answer, self._words) - keys(question, self._words)
        if not given.isdisjoint(self._identifying):
            return True
        for items, hidden in zip(self._items, self._hidden, strict=True):
            told = sum(not item.isdisjoint(given) for item in items)
            told_hidden = sum(not item.isdisjoint(given) for item in hidden)
            if items and (told == len(items) or 2 * told_hidden >= len(items)):
                return True
        return False


def _has_no_case(key: str) -> bool:
    word = key.removeprefix("word ")
    return word != key and word.lower() == word.upper()
