"""Encodes text as token ids and decodes token ids as text.

In the chat format, a prompt is the chat template with the messages of the question. In the tags
format, a prompt is `Question: ...` and the answer begins with `Answer: `; the tags are also around
the earlier turns of a conversation. If the model has a BOS
token, the template or the tokenizer adds it to a prompt. One end token follows the tokens of an
answer.
"""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.model import ModelConfig
from pmc_jax.data import thoughts
from pmc_jax.data.chat import AnswerPlace, chat_prompts, check_chat, find_place
from pmc_jax.data.conversation import split
from pmc_jax.data.template import encode_texts, interleaved, special_texts
from pmc_jax.errors import UserError, reason
from pmc_jax.models.tokenizer_calls import panics_as_errors, token_ids

_TOGETHER = 64  # number of prompts that are encoded in one call
_REMEMBERED = 1 << 18  # number of prompts that an encoder remembers at most


@dataclasses.dataclass(frozen=True, repr=False)
class Encoder:
    """Encoder of questions and answers as token ids for one model.

    Attributes:
        tokenizer: a tokenizer of transformers.
        settings: settings with the prompt format, the system prompt and the tags.
        end_token: id of the token that ends every answer in training.
        end_tokens: ids of the tokens that end a sampled answer.
        place: difference between a prompt and the token ids before an answer in training.
        rows: number of rows in the embedding. None allows every token id.
    """

    tokenizer: Any
    settings: ModelConfig
    end_token: int
    end_tokens: tuple[int, ...]
    place: AnswerPlace = dataclasses.field(default_factory=AnswerPlace)
    rows: int | None = None

    def __repr__(self) -> str:
        """Returns a text with the prompt format and the end tokens, without the tokenizer."""
        return f"Encoder({'chat' if self.is_chat else 'tags'}, end_tokens={self.end_tokens})"

    @property
    def is_chat(self) -> bool:
        return _is_chat(self.tokenizer, self.settings)

    def prompt(self, question: str) -> list[int]:
        """Returns the token ids of the prompt for a question.

        A special token that the question spells out, such as "</s>", is encoded as text. The
        encoder remembers the prompt.

        Raises:
            UserError: the chat template or the tokenizer does not accept the question, or the
                embedding has no row for a token.
        """
        if question not in self._prompts:
            self._encode([question])
        return self._checked(self._prompts[question].tolist())

    def encode_ahead(self, questions: Sequence[str]) -> None:
        """Encodes the prompts of questions together, which is faster than one by one.

        The method `prompt` then returns these prompts without encoding them again. It still encodes
        a question that spells out a special token, and each question of a batch with an error.
        """
        spells_token = self._in_prompts.search
        new = [q for q in dict.fromkeys(questions) if q not in self._prompts]
        new = [question for question in new if not spells_token(question)]
        for start in range(0, len(new), _TOGETHER):
            with contextlib.suppress(UserError):
                self._encode(new[start : start + _TOGETHER])

    def _encode(self, questions: Sequence[str]) -> None:
        """Encodes and remembers prompts. A question with a special token must be the only one."""
        as_text = self._in_prompts.search(questions[0]) is not None
        if self.is_chat:
            prompts = chat_prompts(self.tokenizer, self.settings, questions, as_text=as_text)
        elif as_text:
            prompts = [[*self.lead, *encode_texts(self.tokenizer, *self._tagged(questions[0]))]]
        else:
            tagged = map(self._tagged, questions)
            prompts = token_ids(self.tokenizer, [interleaved(*parts) for parts in tagged])
            for ids in prompts:
                while ids and ids[-1] == self.tokenizer.eos_token_id:
                    ids.pop()  # Some tokenizers append EOS to every text.
        if len(self._prompts) > _REMEMBERED:
            self._prompts.clear()
        for question, ids in zip(questions, prompts, strict=True):
            self._prompts[question] = np.array(ids, np.int32)

    def _tagged(self, question: str) -> tuple[list[str], list[str]]:
        """Returns the tags around the texts of a question, and the texts.

        A line break ends each earlier answer.
        """
        before, after = self.settings.question_tag.format(question="\0").split("\0")
        fixed, texts = [""], []
        for role, text in split(question):
            if role == "system":
                raise UserError(
                    "the question has a system message, which the tags format cannot express. Set "
                    "model.format=chat, or remove the message."
                )
            tag, end = (before, after) if role == "user" else (self.settings.answer_tag, "\n")
            fixed[-1] += tag
            fixed.append(end)
            texts.append(text)
        return fixed, texts

    @functools.cached_property
    def _prompts(self) -> dict[str, np.ndarray]:
        """Token ids of the prompts that were encoded, as int32 arrays."""
        return {}

    def _checked(self, ids: list[int]) -> list[int]:
        if self.rows is not None and max(ids, default=0) >= self.rows:
            raise UserError(
                f"the text contains the token id {max(ids)}, but the embedding has only "
                f"{self.rows} rows. Remove the text of this token (see tokenizer.json)."
            )
        return ids

    def before_answer(self, prompt: list[int]) -> list[int]:
        """Returns the token ids before an answer in training.

        The token ids differ from the prompt if the chat template puts an empty thought before an
        answer.

        Args:
            prompt: token ids that the method `prompt` has returned.
        """
        return [*prompt[: len(prompt) - self.place.dropped], *self.place.added]

    def answer(self, text: str) -> list[int]:
        """Returns the token ids of an answer and its end token.

        The loss is computed on these tokens. In the tags format, the answer tag comes first.
        """
        return [*self.answer_prefix(text), self.end_token]

    def answer_prefix(self, text: str) -> list[int]:
        """Returns the token ids of an answer without the end token.

        In the tags format, the answer tag comes first.
        """
        return self._after("" if self.is_chat else self.settings.answer_tag, text)

    def plain(self, text: str) -> list[int]:
        """Returns the token ids of a text without adding special tokens.

        A special token that the text spells out, such as "</s>", is encoded as text.

        Raises:
            UserError: the tokenizer cannot encode the text or the spelling of a special token as
                text, or the embedding has no row for a token.
        """
        return self._after("", text)

    def _after(self, tag: str, text: str) -> list[int]:
        if self._in_answers.search(text):
            return self._checked(encode_texts(self.tokenizer, [tag, ""], [text]))
        return self._checked(token_ids(self.tokenizer, tag + text, add_special_tokens=False))

    def spells_special_token(self, question: str, answer: str = "") -> bool:
        """Returns whether a question or an answer spells out a special token of the tokenizer."""
        return any((self._in_prompts.search(question), self._in_answers.search(answer)))

    @functools.cached_property
    def _in_prompts(self) -> re.Pattern:
        return special_texts(self.tokenizer, of_template=self.is_chat)

    @functools.cached_property
    def _in_answers(self) -> re.Pattern:
        # The model's own answer may contain tokens of the template, such as "<think>".
        return special_texts(self.tokenizer, of_template=False)

    @functools.cached_property
    def lead(self) -> list[int]:
        """Ids of the special tokens that the tokenizer adds before a text."""
        with_lead, text = token_ids(self.tokenizer, "?"), self.plain("?")
        starts = range(len(with_lead) - len(text) + 1)
        return with_lead[: next(i for i in starts if with_lead[i : i + len(text)] == text)]

    def decode(self, tokens: Sequence[int], *, begins: str = "", is_whole: bool = True) -> str:
        """Returns the text of a sampled answer, or the beginning of an unfinished answer.

        Special tokens, the answer tag, and leading and trailing white space are removed. Thoughts
        of the model are kept, and `thoughts.answer_of` removes them.

        Args:
            tokens: token ids of the answer.
            begins: mark with which the prompt has begun a thought, such as "<think>", or "".
            is_whole: whether no further tokens follow. Otherwise, the text has only the words that
                further tokens do not change. It lacks the last word, and two more if the tokenizer
                cleans up spaces, which joins "do n't" to "don't".

        Raises:
            UserError: the tokenizer cannot decode the tokens.
        """
        text, part = begins, []
        for token in map(int, tokens):
            if token in self._marks:
                text, part = text + self._decoded(part) + self._marks[token], []
            else:
                part.append(token)
        text = (text + self._decoded(part)).strip()
        if not self.is_chat:
            tag = self.settings.answer_tag.strip()
            if not is_whole and tag.startswith(text.rstrip("\ufffd")):
                return ""
            text = text.removeprefix(tag).strip()
        if is_whole:
            return text
        last = 3 if getattr(self.tokenizer, "clean_up_tokenization_spaces", False) else 1
        words = text.rsplit(None, last)
        return words[0] if len(words) > last else ""

    def _decoded(self, tokens: list[int]) -> str:
        try:
            with panics_as_errors():
                return self.tokenizer.decode(tokens, skip_special_tokens=True) if tokens else ""
        except Exception as error:  # The tokenizers library raises plain Exception.
            raise UserError(
                f"the tokenizer in model.path cannot decode an answer ({reason(error)}). Correct "
                "the decoder in tokenizer.json."
            ) from None

    @functools.cached_property
    def may_think(self) -> bool:
        """Whether the vocabulary has a mark of thoughts."""
        marks = {*thoughts.MARKS, *thoughts.MARKS.values()}
        return not marks.isdisjoint(self.tokenizer.get_added_vocab())

    @functools.cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that mark thoughts, as a dict from token id to text."""
        marks = {*thoughts.MARKS, *thoughts.MARKS.values()}
        added = self.tokenizer.added_tokens_decoder.items()
        return {i: t.content for i, t in added if t.special and t.content in marks}

    def sequence(self, question: str, answer: str, id: str = "") -> "TokenSequence":
        """Returns the token ids of a question and its answer as in training.

        Args:
            question: the question.
            answer: text of the answer.
            id: id of the row, for messages.

        Raises:
            UserError: the chat template or the tokenizer does not accept a text.
        """
        prompt = self.before_answer(self.prompt(question))
        answer_ids = self.answer(answer)
        return TokenSequence(np.array(prompt + answer_ids, np.int32), len(prompt), id)


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """Token ids of one prompt and its answer.

    Attributes:
        tokens: token ids i32[n] of the prompt, followed by the token ids of the answer.
        begin: index in `tokens` at which the answer starts.
        id: id of the row, for messages.
    """

    tokens: np.ndarray
    begin: int
    id: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def make_encoder(
    tokenizer: Any, settings: ModelConfig, generation_config: Mapping[str, Any] | None = None
) -> Encoder:
    """Builds the encoder of a model and checks the prompt format.

    Args:
        tokenizer: a tokenizer of transformers.
        settings: settings with the prompt format, the system prompt and the tags.
        generation_config: contents of generation_config.json, which may name more end tokens.

    Raises:
        UserError: the format is chat but there is no chat template, the template fails a check or
            raises an error, there is no end token, or an end token is not a token id.
    """
    if settings.format == "chat" and not tokenizer.chat_template:
        raise UserError(
            "model.format=chat needs a chat template, but the tokenizer has no chat template. Set "
            "model.format=tags."
        )
    ends = (generation_config or {}).get("eos_token_id")
    ends = list(ends) if isinstance(ends, (list, tuple)) else [ends]
    ends = [e for e in (tokenizer.eos_token_id, *ends) if e is not None]
    if wrong := [e for e in ends if type(e) is not int or not 0 <= e < 2**31]:
        raise UserError(
            f"generation_config.json: eos_token_id contains {wrong[0]!r:.40}, which is not a token "
            "id. Correct eos_token_id in that file."
        )
    _mark_special(tokenizer, ends)
    end, place = ends[0] if ends else None, AnswerPlace()
    if _is_chat(tokenizer, settings):
        check_chat(tokenizer, settings)
        place, after = find_place(tokenizer, settings)
        # The first special token that the template puts after an answer ends a turn. A token is
        # special if its flag says so, because `all_special_ids` lists only named tokens.
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        end = next((token for token in after if token in special), end)
    if end is None:
        raise UserError(
            "model.path: the tokenizer has no end token. Set eos_token in tokenizer_config.json, "
            "or use another model."
        )
    return Encoder(tokenizer, settings, end, tuple(sorted({end, *ends})), place)


def _mark_special(tokenizer: Any, ends: Sequence[int]) -> None:
    """Marks end tokens as special, so that their spelling in the data is encoded as text."""
    for end in ends:
        token = tokenizer.added_tokens_decoder.get(end)
        if token is not None and not token.special:
            token.special = True
            tokenizer.add_tokens([token], special_tokens=True)


def _is_chat(tokenizer: Any, settings: ModelConfig) -> bool:
    return settings.format == "chat" or (
        settings.format == "auto" and bool(tokenizer.chat_template)
    )


def shared_prefix(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the longest common prefix of token sequences, as an int32 array of token ids.

    The prefix is shorter than each sequence by at least one token.
    """
    first, last = min(map(list, sequences)), max(map(list, sequences))
    limit = min(map(len, sequences)) - 1
    size = next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))
    return np.array(first[:size], np.int32)
