"""Encodes question-answer pairs as training sequences, and finds pairs that are too long."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from pmc_jax.data.encode import Encoder, TokenSequence
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, about

_log = logging.getLogger(__name__)


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
        encoder: encoder of the model.
        pairs: (question, answer) of each row.
        ids: ids of the rows, for messages.
        max_length: maximum number of tokens of prompt and answer together.
        long_rows: "error" to raise a UserError if a row is too long, or "drop" to leave such rows
            out and log their number.
        window: context window of the model, in tokens.

    Raises:
        UserError: a row is longer than `max_length` or `window` and `long_rows` is "error", every
            row is too long, or the chat template or the tokenizer does not accept a row.
    """

    def ids_of(encode: Callable[[str], list[int]], column: int) -> list[list[int]]:
        def of(index: int) -> list[int]:
            with about(ids[index]):
                return encode(pairs[index][column])

        return multihost.map_sharded(of, len(pairs))

    encoder.encode_ahead([q for i, (q, _) in enumerate(pairs) if multihost.owns(i)])
    prompts, answers = ids_of(encoder.prompt, 0), ids_of(encoder.answer, 1)
    prompts = map(encoder.before_answer, prompts)
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
    count = f"{len(long)} of {len(sequences)} rows {'is' if len(long) == 1 else 'are'}"
    if long_rows == "error" or len(long) == len(sequences):
        name, fix, drop = f"the model's window of {limit} tokens", "Shorten", ""
        if max_length < window:
            name, fix = f"data.max_length={limit}", "Increase data.max_length or shorten"
            if len(long) < len(sequences):
                drop = ", or set data.long_rows=drop (not for rows of forget questions)"
        raise UserError(f"{count} longer than {name}: {names}. {fix} the texts{drop}.")
    message = "%s dropped: %s. Shorten a row to at most %d tokens to keep it."
    _log.warning(message, count, names, limit)
    return [s for s in sequences if len(s) <= limit]
