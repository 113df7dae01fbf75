"""Text to token ids and back: the only place where strings meet arrays.

A prompt is the chat template with the question as the user's turn, or the tag format
(`Question: ...` / `Answer: ...`); one BOS, from the template or the tokenizer, never both. An
answer is its own tokens and one end token. Training rows are packed: several sequences a row,
apart by segment number.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax import hosts
from pmc_jax.config import ModelConfig
from pmc_jax.errors import UserError
from pmc_jax.sampling.shapes import round_up
from pmc_jax.train_batch import TrainBatch

_log = logging.getLogger(__name__)
_ROW_MULTIPLE = 32
_SEQUENCES_A_ROW = 4


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Turns questions and answers into token ids for one model.

    Attributes:
        tokenizer: of transformers.
        settings: format, system prompt, tags.
        end_token: closes a training answer.
        end_tokens: any of these ends a sampled answer.
    """

    tokenizer: Any
    settings: ModelConfig
    end_token: int
    end_tokens: tuple[int, ...]

    @property
    def is_chat(self) -> bool:
        return _is_chat(self.tokenizer, self.settings)

    def prompt(self, question: str) -> list[int]:
        """Everything before the model's answer."""
        if self.is_chat:
            return _render(self.tokenizer, self.settings, question)
        ids = list(
            self.tokenizer(self.settings.question_tag.format(question=question))["input_ids"]
        )
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers close every text
        return ids

    def answer(self, text: str) -> list[int]:
        """The tokens that are learned: the answer (with its tag, in the tag format) and the end
        token.
        """
        return [*self.opening(text), self.end_token]

    def opening(self, text: str) -> list[int]:
        """The tokens of an answer that begins with `text`, with its tag in the tag format."""
        text = text if self.is_chat else self.settings.answer_tag + text
        return self.plain(text)

    def plain(self, text: str) -> list[int]:
        """The tokens of a text and nothing else."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a sampled answer, without special tokens, tag and outer white space."""
        text = self.tokenizer.decode([int(t) for t in tokens], skip_special_tokens=True).strip()
        if not self.is_chat:
            text = text.removeprefix(self.settings.answer_tag.strip()).strip()
        return text

    def sequence(self, question: str, answer: str, id: str = "") -> "Sequence_":
        prompt = self.prompt(question)
        answer_ids = self.answer(answer)
        return Sequence_(np.array(prompt + answer_ids, np.int32), len(prompt), id)


@dataclasses.dataclass(frozen=True)
class Sequence_:
    """One training sequence: i32[n] tokens, the answer from index `begin` on; `id` of its row."""

    tokens: np.ndarray
    begin: int
    id: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def make_encoder(
    tokenizer: Any, settings: ModelConfig, generation_config: Mapping[str, Any] | None = None
) -> Encoder:
    """Finds the end tokens and checks the format.

    Raises:
        UserError: the chat format without a chat template, a template that raises, no end token or
            one that is no id.
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
            f"generation_config.json: eos_token_id must be ids of tokens, got {wrong[0]!r:.40}"
        )
    end = ends[0] if ends else None
    if _is_chat(tokenizer, settings):
        # The template itself says how a turn ends: the first special token after an answer. Special
        # by flag, as `all_special_ids` holds the named ones only; and not a token of the answer
        # itself, which is the unknown token where the vocabulary lacks it.
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
    except Exception as error:  # a template runs in Jinja's sandbox and may raise anything
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
) -> list[Sequence_]:
    """Training sequences of question-answer pairs.

    Args:
        ids: of the rows, for messages.
        max_length: tokens of prompt and answer together.
        long_rows: `error`, or `drop` (and say how many).
        window: tokens that the model is made for.

    Raises:
        UserError: rows over `max_length` or `window` under `error`, or nothing left under `drop`.
    """
    prompts = hosts.rows(lambda i: encoder.prompt(pairs[i][0]), len(pairs))
    answers = hosts.rows(lambda i: encoder.answer(pairs[i][1]), len(pairs))
    sequences = [
        Sequence_(np.array(prompt + answer, np.int32), len(prompt), id_)
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
        own = max_length <= window
        name = f"data.max_length={limit}" if own else f"the model's window of {limit}"
        raise UserError(f"rows longer than {name}: {names}; {fix}{drop}")
    _log.warning(
        "%d of %d rows dropped, longer than %d tokens: %s",
        len(long),
        len(sequences),
        limit,
        names,
    )
    return [s for s in sequences if len(s) <= limit]


def shared_prefix(sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """The tokens that all sequences start with, i32[P]; at least one token of each is left over."""
    first, last = min(map(list, sequences)), max(map(list, sequences))
    limit = min(map(len, sequences)) - 1
    size = next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))
    return np.array(first[:size], np.int32)


@dataclasses.dataclass(frozen=True)
class Packer:
    """Lays sequences out as packed rows, a fixed number of them, as long as a step needs.

    Attributes:
        prefix: i32[P], left out of the rows (`shared_prefix` of the run's prompts).
        rows: R.
        longest: tokens of a sequence at most, without the prefix.
        shortest_row: S is at least this: a step shorter than most is not worth a shape of its own.
        loss_mean: see `TrainConfig`.
    """

    prefix: np.ndarray
    rows: int
    longest: int
    shortest_row: int = _ROW_MULTIPLE
    loss_mean: str = "tokens"

    @staticmethod
    def fit(
        prefix: np.ndarray,
        typical: Sequence[int],
        longest: int,
        batch: int,
        row_multiple: int,
        loss_mean: str = "tokens",
    ) -> "Packer":
        """About four sequences a row: fewer leave rows of unequal length, more cost attention.

        Args:
            typical: lengths of whole sequences as expected, in tokens.
            longest: length that may come.
            batch: sequences in a micro-batch.
            row_multiple: R is a multiple of this.
        """
        mean = max(1.0, float(np.mean(typical)) - len(prefix))
        rows = round_up(-(-batch // _SEQUENCES_A_ROW), row_multiple)
        shortest = round_up(int(batch * mean / rows), _ROW_MULTIPLE)
        return Packer(prefix, rows, longest - len(prefix), max(shortest, 1), loss_mean)

    def pack(
        self,
        terms: Sequence[Sequence[Sequence_]],
        coefficients: Sequence[float],
        *,
        weights: Sequence[Sequence[float]] | None = None,
        micro_batches: int = 1,
        reference: Sequence[Sequence[float]] | None = None,
    ) -> TrainBatch:
        """Packs one gradient step, on the host.

        Every term of the loss is the mean over its answer tokens (or its answers, see `loss_mean`)
        in each micro-batch, averaged over the micro-batches; `terms[t][i]` goes to micro-batch
        `i * micro_batches // len(terms[t])`.

        Args:
            terms: the sequences of each term, a multiple of `micro_batches` of them.
            coefficients: factor of each term.
            weights: of each sequence, 0 leaves it out of its term; None = all 1.
            micro_batches: M.
            reference: cross-entropy of each sequence of the first terms, equally many in each,
                under the model before unlearning, for losses of single sequences; None = none is.
        """
        parts = [[] for _ in range(micro_batches)]
        for t, sequences in enumerate(terms):
            each = len(sequences) // micro_batches
            for i, sequence in enumerate(sequences):
                weight = 1.0 if weights is None else float(weights[t][i])
                if weight:
                    parts[i // each].append((t, weight, sequence, t * each + i % each))
        placed = [self._place([s for _, _, s, _ in part]) for part in parts]
        size, counts = self.shortest_row, np.zeros((micro_batches, self.rows), int)
        for m, (places, part) in enumerate(zip(placed, parts, strict=True)):
            for (row, begin), (_, _, s, _) in zip(places, part, strict=True):
                size = max(size, begin + len(s) - len(self.prefix))
                counts[m, row] += len(s) - s.begin
        size = round_up(size, _ROW_MULTIPLE)
        slots = max(_ROW_MULTIPLE * (size // (2 * _ROW_MULTIPLE)), counts.max())
        slots = round_up(max(slots, 1), _ROW_MULTIPLE)
        shape, answers = (micro_batches, self.rows, size), (micro_batches, self.rows, slots)
        tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
        at, targets = np.zeros(answers, np.int32), np.zeros(answers, np.int32)
        singles = 0 if reference is None else sum(map(len, reference)) // micro_batches
        owner = np.full(answers, singles, np.int32)
        shares = np.zeros((len(terms), *answers), np.float32)
        skip = len(self.prefix)
        for m, (part, places) in enumerate(zip(parts, placed, strict=True)):
            used, count = np.zeros(self.rows, int), np.zeros(self.rows, int)
            for (t, weight, sequence, own_number), (row, begin) in zip(part, places, strict=True):
                own = sequence.tokens[skip:]
                where = slice(begin, begin + len(own))
                tokens[m, row, where] = own
                positions[m, row, where] = skip + np.arange(len(own))
                count[row] += 1
                segments[m, row, where] = count[row]
                answer = len(sequence) - sequence.begin
                slot = slice(used[row], used[row] + answer)
                at[m, row, slot] = begin + sequence.begin - skip - 1 + np.arange(answer)
                targets[m, row, slot] = sequence.tokens[sequence.begin :]
                owner[m, row, slot] = min(own_number, singles)
                shares[t, m, row, slot] = weight / (answer if self.loss_mean == "answers" else 1)
                used[row] += answer
        total = shares.sum((2, 3), keepdims=True) * micro_batches
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        return TrainBatch(
            tokens,
            positions,
            segments,
            at,
            targets,
            shares,
            np.array(coefficients, np.float32),
            self.prefix,
            *(() if reference is None else (owner, _by_micro_batch(reference, micro_batches))),
        )

    def _place(self, sequences: Sequence[Sequence_]) -> list[tuple[int, int]]:
        """(row, first token) of each sequence: longest first, into the row that has least."""
        used = np.zeros(self.rows, int)
        places = [(0, 0)] * len(sequences)
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            row = int(used.argmin())
            places[i] = (row, int(used[row]))
            used[row] += len(sequences[i]) - len(self.prefix)
        return places


def _by_micro_batch(numbers: Sequence[Sequence[float]], micro_batches: int) -> np.ndarray:
    """[T, rows] -> f32[M,T,B]."""
    array = np.array(numbers, np.float32)
    return np.moveaxis(array.reshape(len(array), micro_batches, -1), 1, 0)
