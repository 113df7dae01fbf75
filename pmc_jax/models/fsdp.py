"""FSDP collectives of the training step: embedding lookup, all-gather and reduce-scatter.

Without these collectives, the compiler transfers the complete embedding and its complete gradient.
It also splits each product with a weight that is sharded over `fsdp` into one small product per
shard.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout as MemoryLayout
from jax.experimental.layout import with_layout_constraint
from jax.sharding import Mesh, PartitionSpec

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.parameters import stacked

# Each stage of a scatter has its `axis_index_groups`; None = one group of all devices.
Stages = tuple[tuple[tuple[int, ...], ...] | None, ...]
# Arrays of up to this many bytes (unsharded) are gathered in stages, and larger arrays only if
# there are three or more stages.
_SMALL = 2**24


def sharded_embedding_lookup(
    table: jax.Array, tokens: jax.Array, dtype: jnp.dtype, layout: Layout
) -> jax.Array:
    """Looks up token ids i32[B,S] in a sharded table [V,D]. Returns [B,S,D] in `dtype`.

    Axis letters: B rows, S tokens, V vocabulary, D hidden. The devices between which D is sharded
    form a group. Every device looks up the tokens of its group in its own part of the table. It
    then sends each device of the group the results for that device's tokens. Gradients take the
    same path in reverse.
    """
    rows, _ = layout.sharded_axes(("rows", None), tokens.shape)
    vocab_axes, embed_axes = layout.sharded_axes(("vocab", "embed"), table.shape)
    shared = set(embed_axes) & set(rows)
    if shared != set(embed_axes) and shared:
        table, embed_axes = layout.constrain(table, "vocab", None), ()

    def own(table, tokens):
        if shared:
            tokens = jax.lax.all_gather(tokens, embed_axes, axis=0, tiled=True)
        local = tokens - jax.lax.axis_index(vocab_axes) * len(table)
        in_shard = (local >= 0) & (local < len(table))
        x = jnp.where(in_shard[..., None], table[jnp.where(in_shard, local, 0)], 0).astype(dtype)
        x = jax.lax.psum(x, vocab_axes)
        if shared:
            return jax.lax.all_to_all(x, embed_axes, split_axis=0, concat_axis=2, tiled=True)
        # All devices of the group have the same tokens.
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


def map_over_row_shards(
    function: Callable[..., jax.Array],
    layout: Layout,
    config: DecoderConfig,
    dtype: jnp.dtype,
    rows: Any,
    common: Any,
    weights: dict[str, jax.Array],
) -> jax.Array:
    """Calls `function(layout, gathered, rows, common, weights)` on every device for its own rows.

    If the rows are not sharded or the compiler chooses the collectives (see `_scatters`), one call
    computes all rows.

    Args:
        function: function of five arguments. Its `layout` shards arrays inside the function. Its
            `gathered` takes the weights of one layer. It casts those with the logical axis `embed`
            to `dtype` and all-gathers them along this axis. The backward pass returns the gradients
            to the shards.
        layout: mesh and sharding rules of training.
        rows: arrays [B,S,...] for B rows of S tokens. The rows are split between the devices.
        common: arrays that all rows share.
        weights: weights that are stacked over layers, by name without the prefix "layers.".

    Returns:
        The results [B,...] of the function.
    """
    table, shape = stacked(config, weights), jax.tree.leaves(rows)[0].shape
    (own,) = layout.sharded_axes(("rows",), shape[:1])
    if own and _scatters(layout, math.prod(shape[:2])):
        return _map_by_hand(function, layout, table, dtype, own, rows, common, weights)

    def gathered(layer):
        return {
            name: _constrained(x, layout, dtype, axes) if "embed" in axes else x
            for name, x, axes in ((name, x, table[name].axes[1:]) for name, x in layer.items())
        }

    return function(layout, gathered, rows, common, weights)


def _map_by_hand(
    function, layout: Layout, table, dtype, own: tuple[str, ...], rows, common, weights
):
    """Implements `map_over_row_shards` with `jax.shard_map` and explicit collectives.

    Args:
        table: dict from the name of a weight to its `Parameter`.
        own: mesh axes that shard the rows.
    """
    mesh = layout.mesh
    shards = {
        name: [tuple(a for a in axes if a in own) for axes in layout.sharded_axes(p.axes, p.shape)]
        for name, p in table.items()
    }
    # Axes of size 1 are manual too, so the partitioner handles only larger axes outside `own`.
    by_hand = {*own, *(a for a, size in mesh.shape.items() if size == 1)}
    rules = tuple((name, tuple(a for a in axes if a not in by_hand)) for name, axes in layout.rules)

    def each(rows, common, weights):
        common = jax.tree.map(lambda x: jax.lax.pcast(x, own, to="varying"), common)
        inner = Layout(jax.sharding.get_abstract_mesh(), rules)

        def whole(name: str, x: jax.Array) -> jax.Array:
            axes = table[name].axes[1:]
            if "embed" not in axes:
                return x
            x = x.astype(dtype)
            if others := tuple(a for a in own if not any(a in part for part in shards[name])):
                x = jax.lax.pcast(x, others, to="varying")
            gather_axes = functools.partial(_gather_axes, mesh, shards[name][1:])
            x = _by_hand(gather_axes, inner, axes, x)
            return inner.constrain(x, *(None if a == "embed" else a for a in axes))

        def gathered(layer):
            return {name: whole(name, x) for name, x in layer.items()}

        return function(inner, gathered, rows, common, weights)

    in_specs = {name: PartitionSpec(*shards[name]) for name in weights}
    return jax.shard_map(
        each,
        mesh=mesh,
        in_specs=(PartitionSpec(own), PartitionSpec(), in_specs),
        out_specs=PartitionSpec(own),
        axis_names=by_hand,
    )(rows, common, weights)


def _gather_axes(mesh: Mesh, shards: list[tuple[str, ...]], x: jax.Array) -> jax.Array:
    """Gathers a weight along its sharded dimensions, which must be the first or the last.

    `shards` has the mesh axes that shard each dimension.
    """
    for i, axes in enumerate(shards):
        if axes:
            assert i in (0, x.ndim - 1), shards
            # The weight becomes a matrix: with a heads axis, the TPU compiler copies the result.
            first, *inner = x.shape
            *outer, last = x.shape
            flat = x.reshape((-1, last) if i else (first, -1))
            flat = gather(flat, axes, min(i, 1), collective_stages(mesh, axes))
            x = flat.reshape((*outer, -1) if i else (-1, *inner))
    return x


def _scatters(layout: Layout, tokens: int) -> bool:
    """Returns whether explicit collectives gather the weights and scatter the gradients.

    Otherwise, the compiler chooses the collectives. The result is True on CPU and False on GPU. On
    TPU, it is True if the weights have more than 32 shards. It is also True if they have one shard
    for each of 16 or more devices and a row shard has fewer than 1024 tokens. In these cases, the
    compiler would emit an all-reduce of the gradients. `tokens` counts the tokens of the batch.
    """
    if layout.platform != "tpu":
        return layout.platform == "cpu"
    shards = math.prod(layout.mesh.shape[a] for a in dict(layout.rules)["embed"])
    short = tokens // layout.row_multiple < 1024
    return shards > 32 or (short and 16 <= shards == layout.mesh.size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _constrained(x: jax.Array, layout: Layout, dtype: jnp.dtype, axes: tuple[str, ...]):
    return layout.constrain(x.astype(dtype), *(None if a == "embed" else a for a in axes))


def _constrained_forward(x, layout, dtype, axes):
    return _constrained(x, layout, dtype, axes), jnp.zeros((0,), x.dtype)


def _constrained_backward(layout, dtype, axes, empty, slope):
    return (layout.constrain(slope, *axes).astype(empty.dtype),)


_constrained.defvjp(_constrained_forward, _constrained_backward)


def _by_hand(function, layout: Layout, axes, x: jax.Array) -> jax.Array:
    """Applies `function` to the part of `x` on each device, with `jax.shard_map`.

    `axes` are the logical axes of `x`. Without `jax.shard_map`, the partitioner would gather `x`.
    """
    if not (rest := {a for axes in dict(layout.rules).values() for a in axes}):
        return function(x)
    spec = layout.spec(axes, x.shape)
    return jax.shard_map(
        function, mesh=layout.mesh, in_specs=spec, out_specs=spec, axis_names=rest
    )(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gather(x: jax.Array, axes: tuple[str, ...], dimension: int, stages: Stages) -> jax.Array:
    """Gathers `x` from the devices along the mesh axes `axes`, inside `jax.shard_map`.

    The backward pass reduce-scatters the gradients.

    Args:
        dimension: dimension of `x` to gather.
        stages: groups of devices for each stage, which `collective_stages` returns for `axes`.
    """
    if len(stages) < 3 and x.size * jax.lax.axis_size(axes) * x.dtype.itemsize > _SMALL:
        return jax.lax.all_gather(x, axes, axis=dimension, tiled=True)
    for groups in reversed(stages):
        x = jax.lax.all_gather(x, axes, axis_index_groups=groups, axis=dimension, tiled=True)
    return x


def _gather_forward(x, axes, dimension, stages):
    return gather(x, axes, dimension, stages), None


def _gather_backward(axes, dimension, stages, _, slope):
    return (scatter(slope, axes, dimension, stages),)


gather.defvjp(_gather_forward, _gather_backward)


def scatter(x: jax.Array, axes: tuple[str, ...], dimension: int, stages: Stages) -> jax.Array:
    """Reduce-scatters `x` along the mesh axes `axes`, inside `jax.shard_map`.

    The result on each device is that device's part of the sum over the devices.

    Args:
        dimension: dimension of `x` to scatter.
        stages: groups of devices for each stage, which `collective_stages` returns for `axes`.
    """
    x = jnp.moveaxis(x, dimension, 0)
    if stages != (None,):  # As the last dimension, a shard would be smaller than a tile.
        x = with_layout_constraint(x, MemoryLayout(tuple(range(x.ndim))))
    for groups in stages:
        x = jax.lax.psum_scatter(x, axes, axis_index_groups=groups, tiled=True)
    return jnp.moveaxis(x, 0, dimension)


def collective_stages(mesh: Mesh, axes: tuple[str, ...]) -> Stages:
    """Returns the groups of devices for each stage of a scatter along `axes` of a mesh.

    On TPU, a scatter has one stage per dimension of the network. For a scatter over two dimensions
    at once, the TPU compiler would emit an all-reduce. It would do the same for a gather of a small
    array or over three dimensions.

    The result is (None,), a single stage with all devices, if `axes` are several axes, or if the
    devices along the axis are no TPUs, are at most 32 and not the complete mesh, or are not in the
    order of the network.
    """
    devices = np.moveaxis(mesh.devices, mesh.axis_names.index(axes[0]), -1)
    line = devices.reshape(-1, devices.shape[-1])[0]
    if len(axes) > 1 or line[0].platform != "tpu" or 32 >= len(line) < mesh.size:
        return (None,)
    coordinates, sizes = np.array([(*d.coords, d.core_on_chip) for d in line]), []
    while len(coordinates) > 1:
        moved = coordinates != coordinates[0]
        turned = (moved & (coordinates[1] == coordinates[0])).any(1)
        size = int(turned.argmax()) or len(coordinates)
        if size == 1 or len(coordinates) % size:
            return (None,)
        coordinates = coordinates[::size]
        sizes.append(size)
    stages, index = [], np.arange(len(line))
    for i, size in enumerate(sizes):
        inner = math.prod(sizes[:i])
        groups = index.reshape(-1, size, inner).swapaxes(1, 2).reshape(-1, size)
        stages.append(tuple(map(tuple, groups.tolist())))
    return tuple(reversed(stages))
