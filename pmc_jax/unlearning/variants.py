"""Defines the ways in which a forget question is asked while answers are sampled.

With `pmc.answer=own`, the question is asked as it is. With `abstain`, each answer continues an
opening such as "I don't know", or is given under a system prompt. With `unseen`, the names of the
subject are replaced by invented names. Training always uses the question as it is.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import regex

from pmc_jax.config.pmc import AbstentionConfig
from pmc_jax.data.conversation import without_system
from pmc_jax.data.records import ForgetSet
from pmc_jax.data.spelling import spelled_words
from pmc_jax.data.subjects import replace_names
from pmc_jax.errors import UserError, about
from pmc_jax.sampling.generator import TextGenerator

_LEFTOVER = 4  # minimum number of letters of an invented word whose forms are found


@dataclasses.dataclass(frozen=True, repr=False)
class Variant:
    """One way of asking a question.

    Attributes:
        prompt: token ids of the prompt. It ends with the tokens of `opening`.
        opening: token ids of the first words of every answer. It may be empty.
        names: invented name -> name of the subject. The names are put back into the answers.
    """

    prompt: Sequence[int]
    opening: Sequence[int] = ()
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def restore(self, answer: str) -> str:
        """Returns an answer with the names of the subject in place of the invented names.

        The result is empty if a long word of an invented name is left, even with another ending.
        """
        text = replace_names(answer, self.names) if self.names else answer
        return "" if self._leftovers and self._leftovers.search(text.casefold()) else text

    @functools.cached_property
    def _leftovers(self) -> regex.Pattern | None:
        """Pattern of words that begin with a long word of an invented name, or None.

        Invented words occur nowhere in the data, so no other word begins in this way.
        """
        words = [word[0].casefold() for name in self.names for word in spelled_words(name)]
        long = [regex.escape(word) for word in words if len(word) >= _LEFTOVER]
        return regex.compile(rf"\b(?:{'|'.join(long)})") if long else None


def plain_variants(prompts: Sequence[Sequence[int]]) -> list[list[Variant]]:
    """Returns one variant for each question, which is the question as it is.

    Args:
        prompts: token ids of the prompt of each question.
    """
    return [[Variant(prompt)] for prompt in prompts]


def abstaining_variants(
    generator: TextGenerator,
    forget: ForgetSet,
    openings: Sequence[str],
    settings: AbstentionConfig,
    max_new_tokens: int,
) -> list[list[Variant]]:
    """Returns a variant of each question for each opening, and for the system prompt if it is set.

    Args:
        openings: first words of an answer, such as "I don't know".
        settings: settings with the system prompt, which replaces the system message of a question.
        max_new_tokens: maximum number of tokens after an opening.

    Raises:
        UserError: a prompt with its answer does not fit into the context window.
    """
    encoder = generator.encoder
    tokens = [encoder.answer_prefix(opening) for opening in openings]
    longest = max(map(len, tokens), default=0)
    added = longest + len(encoder.place.added)
    try:
        plain = generator.prompts(forget.questions, max_new_tokens + added, ids=forget.ids)
    except UserError as error:
        if not longest:
            raise
        raise UserError(
            f"{error} Or list shorter openings in pmc.abstention.openings_file: the longest has "
            f"{longest} tokens."
        ) from None
    rows = [
        [Variant([*encoder.before_answer(prompt), *opening], opening) for opening in tokens]
        for prompt in plain
    ]
    if settings.system_prompt is not None:
        model = dataclasses.replace(encoder.settings, system_prompt=settings.system_prompt)
        instructed = dataclasses.replace(
            generator, encoder=dataclasses.replace(encoder, settings=model)
        )
        with about("pmc.abstention.system_prompt"):
            questions = list(map(without_system, forget.questions))
            prompts = instructed.prompts(questions, max_new_tokens, ids=forget.ids)
        for row, prompt in zip(rows, prompts, strict=True):
            # With openings, all prompts end where an answer begins.
            row.append(Variant(encoder.before_answer(prompt) if tokens else prompt))
    return rows


def unseen_variants(
    generator: TextGenerator,
    forget: ForgetSet,
    invented: Sequence[Sequence[Mapping[str, str]]],
    max_new_tokens: int,
) -> list[list[Variant]]:
    """Returns a variant of each question for each set of invented names.

    Args:
        invented: for each question, mappings from the names of its subject to invented names.
        max_new_tokens: maximum number of tokens in an answer.

    Raises:
        UserError: a prompt with its answer does not fit into the context window.
    """
    asked = [
        [replace_names(question, names) for names in choices]
        for question, choices in zip(forget.questions, invented, strict=True)
    ]
    ids = [id_ for id_, row in zip(forget.ids, asked, strict=True) for _ in row]
    prompts = iter(
        generator.prompts([text for row in asked for text in row], max_new_tokens, ids=ids)
    )
    return [
        [
            Variant(next(prompts), names={new: old for old, new in names.items()})
            for names in choices
        ]
        for choices in invented
    ]
