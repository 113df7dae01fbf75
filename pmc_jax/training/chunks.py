"""Splits rows into chunks of positions, because the logits of a complete row need much memory.

Axis letters: R rows, A positions per row, K chunks of C positions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def split_positions(x: jax.Array, size: int) -> jax.Array:
    """Splits R rows of A positions, an array [R,A,...], into K chunks [K,R,C,...] of C positions.

    C is `size`. The last chunk is padded with zeros.
    """
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(len(x), -1, size, *x.shape[2:]), 1, 0)


def join_positions(x: jax.Array, positions: int) -> jax.Array:
    """Joins K chunks [K,R,C,...] of C positions to R rows [R,A,...], where A is `positions`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(len(x), -1, *x.shape[3:])[:, :positions]


def map_positions(
    function: Callable[..., tuple[jax.Array, ...]], size: int, *arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """Applies a function to chunks of positions, one chunk at a time.

    Args:
        function: function from chunks [R,C,...] to a tuple of arrays [R,C].
        size: number of positions C per chunk.
        arrays: arrays [R,A,...] to split.

    Returns:
        The joined results of the function, each [R,A].
    """
    parts = tuple(split_positions(x, size) for x in arrays)
    results = jax.lax.map(lambda part: function(*part), parts)
    return tuple(join_positions(x, arrays[0].shape[1]) for x in results)
