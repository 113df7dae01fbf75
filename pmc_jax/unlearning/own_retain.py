"""Makes retain data from the target model's own answers, for the source `own`.

Before the first step, the target model answers the questions of `own_questions` greedily. Training
on these answers keeps what the model says. Facts that no question asks for are kept only by chance.

The model may answer a question about an invented name with a fact about a real one. An answer is
left out if its question or the answer names a subject of the forget questions, or if it gives one
of these secrets of an original answer (see `scoring.secret_items`):

- a name, a number, a date, an address, a code or a phrase
- at least half of all secret items of the original answer, counting rare words

Words that occur in given retain pairs are secret only together: an answer is also left out if it
gives all secret items of an original answer. No true answer is read.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import regex

from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet, OwnQuestions, RetainSet
from pmc_jax.data.spelling import spelled_words
from pmc_jax.data.subjects import find_subjects
from pmc_jax.data.thoughts import answer_of
from pmc_jax.data.visible import is_visible
from pmc_jax.errors import UserError
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.secret_items import items_of, secret_items
from pmc_jax.scoring.secret_readings import keys
from pmc_jax.scoring.secret_vocabulary import Vocabulary, vocabulary
from pmc_jax.scoring.words import unicode_words
from pmc_jax.unlearning.asking import subjects_of
from pmc_jax.unlearning.own_questions import is_near

# Shares of the kinds of pairs in the retain rows of a step.
_SHARES = {"given": 1 / 3, "near": 1 / 2, "general": 1 / 6}
_SENTENCES = regex.compile(r".*(?:[.!?…](?=[\s\p{P}]|$)|[。！？؟।])\p{P}*", regex.DOTALL)


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
    kinds = [("near" if is_near(i) else "general") if i in own else "given" for i in pairs.ids]
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
    near = sum(map(is_near, kept))
    asked = {id_.rpartition(":")[0] for id_ in questions.ids if is_near(id_)}
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
