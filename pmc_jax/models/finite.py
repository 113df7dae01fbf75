"""Checks of a loaded model, which catch broken weights and a tokenizer of another model.

Weights and logits must be finite, the logits must differ between tokens, and the embedding must
have a row for each token id that ordinary text can contain. Without these checks, a broken model
that generates token 0 for every question could be mistaken for a model that has forgotten.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from pmc_jax.distributed import multihost
from pmc_jax.distributed.mesh import Layout
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, hidden_states, logits
from pmc_jax.models.hf import TensorSource
from pmc_jax.models.tensors import Naming
from pmc_jax.models.tokenizer_calls import token_ids

_TOKENS = 64  # The test row has this many tokens, or fewer if the model allows fewer.


def check_weights(model: Decoder, source: TensorSource, naming: Naming) -> None:
    """Checks that every weight is finite in the dtype of the loaded model.

    Raises:
        UserError: a tensor has values that are not finite; the message names the tensor.
    """
    for name, faults in _not_finite(model.arrays()).items():
        faults = multihost.host_array(faults)
        if not faults.any():
            continue
        layer = int(np.argmax(faults)) if faults.ndim else None
        tensor = naming.find(name)[0].pattern.format(i=layer)
        raise UserError(
            f"{source.where(tensor)}: the tensor {tensor} has values that are NaN, infinite or too "
            "large for the dtype of the loaded model. Download the model again, or export it again."
        )


@jax.jit
def _not_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns whether each parameter has values that are not finite.

    A result is bool[L] for a parameter that is stacked over L layers, and otherwise bool[].
    """
    return {
        name: jnp.any(~jnp.isfinite(x), axis=tuple(range(name.startswith("layers."), x.ndim)))
        for name, x in arrays.items()
    }


def check_logits(model: Decoder, config: DecoderConfig, layout: Layout, where: str) -> None:
    """Checks the logits of a test row, whose tokens come from all parts of the vocabulary.

    Args:
        where: file or folder of the model, for the message.

    Raises:
        UserError: some logits are not finite, or all tokens get the same logit at every position.
    """
    size = min(_TOKENS, config.longest(1))
    tokens = np.linspace(0, config.vocab_size - 1, size).astype(np.int32)
    row = layout.put(np.tile(tokens, (layout.row_multiple, 1)), "rows", None)
    static = dict(config=config, layout=layout, dtype=model.arrays()["embed"].dtype)
    finite, differ = map(multihost.host_array, _check_logits(model, row, **static))
    if not finite:
        raise UserError(
            f"{where}: the weights of the model are finite, but its logits are not. Download the "
            "model again. In a model folder, config.json must belong to the weights."
        )
    if not differ:
        raise UserError(
            f"{where}: the model gives every token the same logit, as a model of zeros does. "
            "Download the model again, or export it again."
        )


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype"))
def _check_logits(model, tokens, *, config, layout, dtype) -> tuple[jax.Array, jax.Array]:
    """Returns whether all logits are finite, and whether they differ at any position.

    Both results are bool[].
    """
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    segments = jnp.ones_like(tokens)  # No token attends to segment 0, which is padding.
    hidden = hidden_states(model, config, layout, tokens, positions, segments, dtype=dtype)
    values = logits(model, config, hidden, layout)
    return jnp.isfinite(values).all(), (values != values[..., :1]).any()


def check_token_ids(tokenizer: PreTrainedTokenizerBase, rows: int, where: str) -> None:
    """Checks that the embedding has a row for every token id that ordinary text can contain.

    The start, end and unknown token and the tokens that the tokenizer adds to every text also need
    a row. Other added tokens, such as the image token of Gemma 3, need no row, because `Encoder`
    refuses a text that contains a token without a row.

    Args:
        tokenizer: tokenizer of the model.
        rows: number of rows of the embedding.
        where: file or folder of the model, for the message.

    Raises:
        UserError: an id has no row in the embedding, or the tokenizer cannot encode "?".
    """
    ids = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)
    is_gguf = where.endswith(".gguf")
    fix = "Use another GGUF file." if is_gguf else "Use the tokenizer of this model."
    try:
        text = token_ids(tokenizer, "?")
    except UserError:
        raise UserError(f'{where}: the tokenizer cannot encode "?". {fix}') from None
    named = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    largest = max([*ids, *text, *(i for i in named if i is not None)], default=0)
    if largest >= rows:
        raise UserError(
            f"{where}: the tokenizer has the token id {largest}, but the embedding has only "
            f"{rows} rows, for the ids from 0 to {rows - 1}. {fix}"
        )
