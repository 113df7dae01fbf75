"""Encodes text as token ids, and decodes them.

A prompt is the chat template with the question as the user's turn, or the tag format
(`Question: ...` / `Answer: ...`). It has one BOS token, from the template or the tokenizer. An
answer is its own tokens and one end token.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.run import ModelConfig
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Turns questions and answers into token ids for one model.

    Attributes:
        tokenizer: a tokenizer of transformers.
        settings: format, system prompt and tags.
        end_token: the last token of a training answer.
        end_tokens: the tokens that end a sampled answer.
    """

    tokenizer: Any
    settings: ModelConfig
    end_token: int
    end_tokens: tuple[int, ...]

    @property
    def is_chat(self) -> bool:
        return _is_chat(self.tokenizer, self.settings)

    def prompt(self, question: str) -> list[int]:
        """The tokens before the model's answer."""
        if self.is_chat:
            return _render(self.tokenizer, self.settings, question)
        ids = list(
            self.tokenizer(self.settings.question_tag.format(question=question))["input_ids"]
        )
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers append EOS to every text
        return ids

    def answer(self, text: str) -> list[int]:
        """The tokens with a loss: the answer (with its tag in the tag format) and the end token."""
        return [*self.answer_prefix(text), self.end_token]

    def answer_prefix(self, text: str) -> list[int]:
        """The tokens of an answer that starts with `text`, with its tag in the tag format."""
        text = text if self.is_chat else self.settings.answer_tag + text
        return self.plain(text)

    def plain(self, text: str) -> list[int]:
        """The tokens of a text without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a sampled answer, without special tokens, tag and outer white space."""
        text = self.tokenizer.decode([int(t) for t in tokens], skip_special_tokens=True).strip()
        if not self.is_chat:
            text = text.removeprefix(self.settings.answer_tag.strip()).strip()
        return text

    def sequence(self, question: str, answer: str, id: str = "") -> "TokenSequence":
        prompt = self.prompt(question)
        answer_ids = self.answer(answer)
        return TokenSequence(np.array(prompt + answer_ids, np.int32), len(prompt), id)


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """Prompt and answer as tokens i32[n]; the answer starts at index `begin`; `id` of the row."""

    tokens: np.ndarray
    begin: int
    id: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def make_encoder(
    tokenizer: Any, settings: ModelConfig, generation_config: Mapping[str, Any] | None = None
) -> Encoder:
    """Builds an encoder: finds the end tokens and checks the format.

    Raises:
        UserError: chat format without a chat template, a template that raises, no end token, or an
            end token that is not a token id.
    """
    if settings.format == "chat" and not tokenizer.chat_template:
        raise UserError(
            "model.format: chat, but the tokenizer has no chat template; use format: tags"
        )
    ends = (generation_config or {}).get("eos_token_id")
    ends = list(ends) if isinstance(ends, (list, tuple)) else [ends]
    ends = [e for e in (tokenizer.eos_token_id, *ends) if e is not None]
    if wrong := [e for e in ends if type(e) is not int or not 0 <= e < 2**31]:
        raise UserError(
            f"generation_config.json: eos_token_id must hold token ids, got {wrong[0]!r:.40}"
        )
    end = ends[0] if ends else None
    if _is_chat(tokenizer, settings):
        # The first special token that the template puts after an answer ends a turn. The flag
        # decides, because `all_special_ids` has only named tokens. Tokens of the answer itself are
        # excluded: a vocabulary without "!" encodes it as the unknown token.
        prompt = _render(tokenizer, settings, "?")
        turn = _render(tokenizer, settings, "?", answer="!")
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        special -= set(tokenizer("!", add_special_tokens=False)["input_ids"])
        after = [t for t in turn[len(prompt) :] if t in special]
        if turn[: len(prompt)] == prompt and after:
            end = after[0]
    if end is None:
        raise UserError(
            "the tokenizer has no end token; set eos_token in its tokenizer_config.json"
        )
    return Encoder(tokenizer, settings, end, tuple(sorted({end, *ends})))


def _is_chat(tokenizer: Any, settings: ModelConfig) -> bool:
    return settings.format == "chat" or (
        settings.format == "auto" and bool(tokenizer.chat_template)
    )


def _render(
    tokenizer: Any, settings: ModelConfig, question: str, answer: str | None = None
) -> list[int]:
    messages = [{"role": "user", "content": question}]
    if settings.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": settings.system_prompt})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    extra = {} if settings.date_string is None else {"date_string": settings.date_string}
    try:
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=answer is None, tokenize=True, return_dict=True, **extra
        )
    except Exception as error:  # a template in Jinja's sandbox may raise any type
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the model's chat template refuses the messages ({reason}); set model.format: tags or "
            "change model.system_prompt"
        ) from None
    return list(encoded["input_ids"])


def encode_pairs(
    encoder: Encoder,
    pairs: Sequence[tuple[str, str]],
    *,
    ids: Sequence[str],
    max_length: int,
    long_rows: str,
    window: int,
) -> list[TokenSequence]:
    """Encodes question-answer pairs as training sequences.

    Args:
        ids: ids of the rows, for messages.
        max_length: maximum tokens of prompt and answer together.
        long_rows: `error`, or `drop`, which logs the number of dropped rows.
        window: context window of the model, in tokens.

    Raises:
        UserError: rows longer than `max_length` or `window` under `error`, or no rows left under
            `drop`.
    """
    prompts = multihost.map_sharded(lambda i: encoder.prompt(pairs[i][0]), len(pairs))
    answers = multihost.map_sharded(lambda i: encoder.answer(pairs[i][1]), len(pairs))
    sequences = [
        TokenSequence(np.array(prompt + answer, np.int32), len(prompt), id_)
        for prompt, answer, id_ in zip(prompts, answers, ids, strict=True)
    ]
    limit = min(max_length, window)
    long = [(id_, len(s)) for id_, s in zip(ids, sequences, strict=True) if len(s) > limit]
    if not long:
        return sequences
    names = ", ".join(f"{id_} ({n} tokens)" for id_, n in long[:5])
    names += f" and {len(long) - 5} more" if len(long) > 5 else ""
    if long_rows == "error" or len(long) == len(sequences):
        drop = ", or set data.long_rows=drop" if len(long) < len(sequences) else ""
        fix = "raise it, shorten them" if limit < window else "shorten them"
        is_setting = max_length <= window
        name = f"data.max_length={limit}" if is_setting else f"the model's window of {limit}"
        raise UserError(f"rows longer than {name}: {names}; {fix}{drop}")
    dropped = f"{len(long)} of {len(sequences)} rows dropped"
    _log.warning("%s, longer than %d tokens: %s", dropped, limit, names)
    return [s for s in sequences if len(s) <= limit]


def shared_prefix(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """The longest common prefix i32[P] that leaves at least one token of each sequence."""
    first, last = min(map(list, sequences)), max(map(list, sequences))
    limit = min(map(len, sequences)) - 1
    size = next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))
    return np.array(first[:size], np.int32)
