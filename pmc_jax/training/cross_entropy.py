"""Computes cross-entropy in chunks, together with the projection onto the vocabulary.

Only the logits of one chunk are in memory at a time. Axis letters: R rows, A answer positions per
row, D hidden size, V vocabulary size. Lower-case r, v and d are the sizes of one device's shards.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import softcap
from pmc_jax.models.fsdp import Stages, collective_stages, gather, scatter
from pmc_jax.training.chunks import join_positions, split_positions

# Positions per chunk on one device. The logits of a chunk are float32. TPUs use larger chunks,
# because every chunk reads and writes the complete gradient of the head.
_POSITIONS_A_CHUNK, _ON_TPU = 512, 2048
_ROUND = 8192


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def cross_entropy(
    hidden: jax.Array,
    embedding: jax.Array,
    bias: jax.Array | None,
    targets: jax.Array,
    weights: jax.Array,
    layout: Layout,
    cap: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes the weighted cross-entropy of next tokens with the natural logarithm.

    Only the weighted sum is differentiable, in `hidden`, `embedding` and `bias`. The forward pass
    computes this gradient from each chunk of logits, so the backward pass does not project again.

    Args:
        hidden: hidden states [R,A,D] of any float dtype. Products run in this dtype and accumulate
            in float32.
        embedding: the output embedding [V,D].
        bias: bias [V] of the logits, or None if there is no bias.
        targets: the next tokens, i32[R,A].
        weights: weight of each position, f32[R,A]. The weight of padding is 0.
        layout: mesh and sharding rules for training.
        cap: value c at which logits are capped, as c tanh(logit / c). None caps nothing.

    Returns:
        The sum of weights x cross-entropy, f32[], and the cross-entropy of each position, f32[R,A].
    """
    loss, each, _ = _chunks(hidden, embedding, bias, targets, weights, layout, cap, gradients=False)
    return loss, each


def _chunks(hidden, embedding, bias, targets, weights, layout, cap, *, gradients: bool):
    """Runs `_own_chunks` on every device, for the device's rows and its shard of the vocabulary.

    Without the explicit `shard_map`, the compiler would gather the embedding and reduce its
    gradient over all devices for every chunk.
    """
    row_axes, *_ = layout.sharded_axes(("rows", None, None), hidden.shape)
    vocab_axes, embed_axes = layout.sharded_axes(("vocab", "embed"), embedding.shape)
    if not set(embed_axes) <= set(row_axes):
        embed_axes = ()
    own = functools.partial(
        _own_chunks,
        vocab_axes=vocab_axes,
        embed_axes=embed_axes,
        embed_stages=collective_stages(layout.mesh, embed_axes) if embed_axes else (),
        other_axes=tuple(a for a in row_axes if a not in embed_axes),
        chunk=_ON_TPU if layout.platform == "tpu" else _POSITIONS_A_CHUNK,
        cap=cap,
        gradients=gradients,
    )
    rows = PartitionSpec(row_axes)
    heads = (PartitionSpec(vocab_axes, embed_axes), PartitionSpec(vocab_axes))
    heads = heads if bias is not None else (heads[0], None)
    return jax.shard_map(
        own,
        mesh=layout.mesh,
        in_specs=(rows, *heads, rows, rows),
        out_specs=(PartitionSpec(), rows, (rows, *heads) if gradients else None),
        check_vma=False,
    )(hidden, embedding, bias, targets, weights)


def _own_chunks(
    hidden,
    embedding,
    bias,
    targets,
    weights,
    *,
    vocab_axes: tuple[str, ...],
    embed_axes: tuple[str, ...],
    embed_stages: Stages,
    other_axes: tuple[str, ...],
    chunk: int,
    cap: float | None,
    gradients: bool,
):
    """Computes one device's part of the loss and of its gradients.

    Args:
        hidden, embedding: this device's shards, [r,A,D] and [v,d].
        bias: this device's shard [v], or None if there is no bias.
        targets, weights: this device's rows of the next tokens and of their weights, [r,A].
        vocab_axes: mesh axes that shard the vocabulary.
        embed_axes: mesh axes that shard D in the embedding. These axes also shard the rows.
        embed_stages: device groups for each stage of a gather along `embed_axes`.
        other_axes: all other mesh axes that shard the rows.
        chunk: number of positions whose logits are in memory at a time, in all rows together.
        cap: cap of the logits, as in `cross_entropy`.
        gradients: whether to compute the gradients.

    Returns:
        The loss summed over all devices, the cross-entropy of this device's positions, and the
        gradients of the first three arguments, or None without `gradients`.
    """
    rows, positions, _ = hidden.shape
    size = min(positions, max(1, chunk // rows))
    projection = embedding.astype(hidden.dtype)
    if embed_axes:
        projection = gather(projection, embed_axes, 1, embed_stages)
    entries = jax.lax.axis_index(vocab_axes) * len(embedding) + jnp.arange(len(embedding))
    head = dict(projection=projection, bias=bias, entries=entries)
    step = functools.partial(_chunk, **head, vocab_axes=vocab_axes, cap=cap)
    heads = [projection] if bias is None else [projection, bias]
    start = [jnp.zeros(x.shape, jnp.float32) for x in heads] if gradients else None
    parts = tuple(split_positions(x, size) for x in (hidden, targets, weights))
    (loss, head_gradient), (each, slope) = jax.lax.scan(step, (jnp.float32(0), start), parts)
    loss = jax.lax.psum(loss, embed_axes + other_axes)
    each = join_positions(each, positions)
    if not gradients:
        return loss, each, None
    # The gradient is reduced once per call, not once per chunk, and in the dtype of the other
    # weights' gradients.
    table, *biases = head_gradient
    table = jax.lax.psum(table.astype(hidden.dtype), other_axes)
    biases = jax.lax.psum(biases, other_axes)
    if embed_axes:
        # A multiple of _ROUND entries is scattered separately. For other sizes, the TPU compiler
        # emits an all-reduce of the complete array.
        parts = jnp.split(table, [len(table) // _ROUND * _ROUND])
        table = jnp.concatenate([scatter(x, embed_axes, 1, embed_stages) for x in parts])
    biases = [jax.lax.psum(x, embed_axes).astype(bias.dtype) for x in biases]
    slope = jax.lax.psum(join_positions(slope, positions), vocab_axes).astype(hidden.dtype)
    return loss, each, (slope, table.astype(embedding.dtype), *(biases or [None]))


def _chunk(carry, chunk, *, projection, bias, entries, vocab_axes, cap):
    """Computes one step of the scan over chunks of C positions.

    Args:
        carry: the loss so far, f32[], and a list with the float32 gradients of `projection` and
            `bias`. If the list is None, no gradients are computed.
        chunk: hidden [r,C,D], targets i32[r,C] and weights f32[r,C] of the chunk.
        projection: this device's shard of the output embedding, [v,D].
        bias: this device's shard of the bias, [v], or None if there is no bias.
        entries: token ids in this shard, i32[v].
        vocab_axes: mesh axes that shard the vocabulary.
        cap: cap of the logits, as in `cross_entropy`.

    Returns:
        The new carry, and a pair with the cross-entropy f32[r,C] and this device's part of the
        gradient with respect to the hidden states [r,C,D], or None if it is not computed.
    """
    (loss, head_gradient), (hidden, targets, weights) = carry, chunk
    logits = jnp.einsum("rad,vd->rav", hidden, projection, preferred_element_type=jnp.float32)
    if bias is not None:
        logits += bias.astype(jnp.float32)
    logits = softcap(logits, cap)
    peak = jax.lax.pmax(jnp.max(logits, axis=-1), vocab_axes)
    total = jax.lax.psum(jnp.sum(jnp.exp(logits - peak[..., None]), axis=-1), vocab_axes)
    log_total = peak + jnp.log(total)
    # A gather would move logits that are sharded by vocabulary, so a comparison is used.
    is_target = targets[..., None] == entries
    target_logits = jax.lax.psum(jnp.sum(jnp.where(is_target, logits, 0), axis=-1), vocab_axes)
    each = log_total - target_logits
    loss += jnp.sum(weights * each)
    if head_gradient is None:
        return (loss, None), (each, None)
    slope = jnp.exp(logits - log_total[..., None]) - is_target.astype(jnp.float32)
    slope = slope * weights[..., None]
    if cap is not None:
        slope *= 1 - (logits / cap) ** 2
    narrow = slope.astype(hidden.dtype)
    new = [jnp.einsum("rav,rad->vd", narrow, hidden, preferred_element_type=jnp.float32)]
    if bias is not None:
        new.append(jnp.sum(slope, (0, 1)))
    head_gradient = jax.tree.map(jnp.add, head_gradient, new)
    return (loss, head_gradient), (each, jnp.einsum("rav,vd->rad", narrow, projection))


def _forward(hidden, embedding, bias, targets, weights, layout, cap):
    loss, each, gradients = _chunks(
        hidden, embedding, bias, targets, weights, layout, cap, gradients=True
    )
    return (loss, each), gradients


def _backward(layout, cap, residuals, cotangents):
    scale, _ = cotangents
    # The product is computed in float32 and then cast to the dtype of each input.
    scaled = (
        None if g is None else (scale * g.astype(jnp.float32)).astype(g.dtype) for g in residuals
    )
    return (*scaled, None, None)


cross_entropy.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def token_cross_entropy(
    hidden: jax.Array,
    embedding: jax.Array,
    bias: jax.Array | None,
    targets: jax.Array,
    layout: Layout,
    cap: float | None = None,
) -> jax.Array:
    """Computes the cross-entropy of each next token, f32[R,A].

    Every entry is differentiable, so a loss need not be linear in the entries. The backward pass
    therefore projects onto the vocabulary again.

    The arguments have the same meaning as in `cross_entropy`.
    """
    nothing = jnp.zeros(targets.shape, jnp.float32)
    return cross_entropy(hidden, embedding, bias, targets, nothing, layout, cap)[1]


def _token_forward(hidden, embedding, bias, targets, layout, cap):
    each = token_cross_entropy(hidden, embedding, bias, targets, layout, cap)
    return each, (hidden, embedding, bias, targets)


def _token_backward(layout, cap, residuals, cotangent):
    *_, gradients = _chunks(*residuals, cotangent, layout, cap, gradients=True)
    return (*gradients, None)


token_cross_entropy.defvjp(_token_forward, _token_backward)
