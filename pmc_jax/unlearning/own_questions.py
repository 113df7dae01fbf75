"""Makes the questions that the target model answers for the retain source `own`.

The questions are the general questions of the package and questions near the forget questions. A
near question is a forget question with another name in place of each name of its subject: first
with the names in the given retain questions, of which those come first that share a word with the
subject, then with invented names, of which every third shares a word with the subject.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pmc_jax.config.run import Config, PMCConfig
from pmc_jax.data.records import ForgetSet, OwnQuestions, RetainSet
from pmc_jax.data.subjects import find_subjects, invented_names, replace_names
from pmc_jax.data.visible import appearance
from pmc_jax.scoring.words import unicode_words
from pmc_jax.unlearning.asking import subjects_of

_NEAR = "own:near:"  # prefix of the ids of near questions
_MOST_NAMES = 16  # maximum number of near questions for a forget question
_MOST_NEAR = 400  # maximum number of near questions
_MOST_SEARCHED = 2000  # maximum number of given questions in which names are searched for


def own_questions(
    forget: ForgetSet, given: RetainSet, general: RetainSet, config: Config
) -> OwnQuestions:
    """Returns the questions that the target model answers for the retain data.

    A forget question has at most 16 near questions, and all together have at most 400. A forget
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
    count = min(round(_MOST_NEAR / max(1, len(named))), _MOST_NAMES)
    texts += [*forget.questions, *general.questions, *general.answers]
    found = [subjects[i] for i in named]
    invented = invented_names(found, texts, count=count, seed=config.seed, similar=True)
    ids = [f"own:{general.ids[i]}" for i in rows]
    questions = [general.questions[i] for i in rows]
    for place, (i, choices) in enumerate(zip(named, invented, strict=True)):
        for number, names in enumerate(choices):
            names = _with_shared_words(names, number)
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


def _with_shared_words(names: Mapping[str, str], number: int) -> dict[str, str]:
    """Returns the mapping in which every third invented name shares a word with its subject.

    The model would otherwise learn that everybody with a given name like the subject's is unknown.

    Args:
        names: subject -> invented name.
        number: how many near questions of the same forget question there are before this one.
    """
    if number % 3:
        return dict(names)
    chosen = {}
    for subject, invented in names.items():
        old, new = subject.split(), invented.split()
        changed = [i for i, (one, other) in enumerate(zip(old, new, strict=False)) if one != other]
        if len(old) == len(new) and len(changed) > 1:
            place = changed[0 if number % 2 == 0 else -1]
            new[place] = old[place]
            invented = " ".join(new)
        chosen[subject] = invented
    return chosen


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


def names_only_near(forget: ForgetSet, pairs: RetainSet, pmc: PMCConfig) -> frozenset[str]:
    """Returns the words of the subjects' names that only near pairs have (see `unicode_words`).

    Near questions share words with the subjects, which a replacement answer must not tell.

    Args:
        forget: the forget questions.
        pairs: retain pairs.
        pmc: settings of PMC. Only `subject.names_file` is read.
    """
    others = pairs.select([i for i, id_ in enumerate(pairs.ids) if not is_near(id_)])
    if len(others) == len(pairs):
        return frozenset()
    texts = [*others.questions, *others.answers]
    names = [name for row in subjects_of(forget, texts, pmc) for name in row]
    return frozenset(unicode_words(" ".join(names))).difference(*map(unicode_words, texts))


def is_near(id_: str) -> bool:
    """Returns whether the question with this id is a near question."""
    return id_.startswith(_NEAR)
