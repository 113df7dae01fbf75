"""What travels between devices in a training step: tokens to the embedding, weights to the tokens.

Left to itself the compiler sends the whole embedding and its whole gradient, and cuts the products
with weights that are sharded over `fsdp` into as many small ones as there are shards.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pmc_jax.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.parameters import parameters


def look_up(table: jax.Array, tokens: jax.Array, dtype: jnp.dtype, layout: Layout) -> jax.Array:
    """[V,D], i32[B,S] -> [B,S,D] in `dtype`.

    Every device looks the tokens of all its `embed` group up in its own part of the table and sends
    each its rows; gradients come back the same way.
    """
    rows, _ = layout.parted(("rows", None), tokens.shape)
    vocab_axes, embed_axes = layout.parted(("vocab", "embed"), table.shape)
    shared = set(embed_axes) & set(rows)
    if shared != set(embed_axes) and shared:
        table, embed_axes = layout.constrain(table, "vocab", None), ()

    def own(table, tokens):
        if shared:
            tokens = jax.lax.all_gather(tokens, embed_axes, axis=0, tiled=True)
        local = tokens - jax.lax.axis_index(vocab_axes) * len(table)
        here = (local >= 0) & (local < len(table))
        x = jnp.where(here[..., None], table[jnp.where(here, local, 0)], 0).astype(dtype)
        x = jax.lax.psum(x, vocab_axes)
        if shared:
            return jax.lax.all_to_all(x, embed_axes, split_axis=0, concat_axis=2, tiled=True)
        # All have the same tokens.
        shards = jax.lax.axis_size(embed_axes)
        parts = jnp.zeros((*tokens.shape, shards, table.shape[1]), dtype)
        parts = parts.at[..., jax.lax.axis_index(embed_axes), :].set(x)
        return jax.lax.psum(parts, embed_axes).reshape(*tokens.shape, -1)

    return jax.shard_map(
        own,
        mesh=layout.mesh,
        in_specs=(PartitionSpec(vocab_axes, embed_axes), PartitionSpec(rows)),
        out_specs=PartitionSpec(rows),
    )(table, tokens)


def gathered(
    weights: dict[str, jax.Array], config: DecoderConfig, layout: Layout, dtype: jnp.dtype
) -> dict[str, jax.Array]:
    """The weights of one layer whole along `embed`, in `dtype`; their gradients go back to the
    shards. Adapters and norms stay as they are.
    """
    table = parameters(config)
    axes = {name: table[f"layers.{name}"].axes[1:] for name in weights if f"layers.{name}" in table}
    return {
        name: _whole(x, layout, dtype, axes[name]) if "embed" in axes.get(name, ()) else x
        for name, x in weights.items()
    }


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _whole(x: jax.Array, layout: Layout, dtype: jnp.dtype, axes: tuple[str, ...]) -> jax.Array:
    return layout.constrain(x.astype(dtype), *(None if a == "embed" else a for a in axes))


def _forward(x, layout, dtype, axes):
    return _whole(x, layout, dtype, axes), jnp.zeros((0,), x.dtype)


def _backward(layout, dtype, axes, kept, slope):
    return (layout.constrain(slope, *axes).astype(kept.dtype),)


_whole.defvjp(_forward, _backward)
