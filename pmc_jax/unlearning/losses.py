"""Chunked cross-entropy with the vocabulary projection inside.

Logits of all positions never exist at once. Axis letters: R rows, A answer positions a row, D
hidden, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp

from pmc_jax.mesh import Layout
from pmc_jax.models.attention import softcap

# Logits held at a time: this many positions x V in float32.
_POSITIONS_A_CHUNK = 512


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
    """Weighted cross-entropy of next tokens, in nats.

    Only the weighted sum carries a gradient, to `hidden`, `embedding` and `bias`. It is computed
    beside the loss, while a chunk of logits is at hand: the backward pass projects nothing again.

    Args:
        hidden: [R,A,D], any float dtype; the products run in it and accumulate in float32.
        embedding: [V,D], the output embedding.
        bias: [V], added to the logits; None = none.
        targets: i32[R,A].
        weights: f32[R,A], 0 at padding.
        cap: of `softcap` on the logits.

    Returns:
        The sum of weights x cross-entropy, f32[], and the cross-entropy of each position, f32[R,A].
    """
    loss, each, _ = _chunks(hidden, embedding, bias, targets, weights, layout, cap, gradients=False)
    return loss, each


def _chunks(hidden, embedding, bias, targets, weights, layout, cap, *, gradients: bool):
    rows, slots, _ = hidden.shape
    size = min(slots, max(1, _POSITIONS_A_CHUNK // max(1, rows // layout.row_multiple)))
    padding = -slots % size
    projection = embedding.astype(hidden.dtype)

    def split(x):
        x = jnp.pad(x, ((0, 0), (0, padding)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(rows, -1, size, *x.shape[2:]), 1, 0)

    def step(carry, chunk):
        loss, head_gradient = carry
        h, target, weight = chunk
        logits = jnp.einsum("rad,vd->rav", h, projection, preferred_element_type=jnp.float32)
        if bias is not None:
            logits += bias.astype(jnp.float32)
        logits = layout.constrain(softcap(logits, cap), "rows", None, "vocab")
        log_total = jax.nn.logsumexp(logits, axis=-1)
        # One-hot by comparison: a gather along a sharded vocabulary would move the logits.
        hit = target[..., None] == jnp.arange(logits.shape[-1])
        each = log_total - jnp.sum(jnp.where(hit, logits, 0), axis=-1)
        loss += jnp.sum(weight * each)
        if not gradients:
            return (loss, head_gradient), (each, None)
        slope = jnp.exp(logits - log_total[..., None]) - hit.astype(jnp.float32)
        slope = slope * weight[..., None]
        if cap is not None:
            slope *= 1 - (logits / cap) ** 2
        narrow = slope.astype(h.dtype)
        new = [jnp.einsum("rav,rad->vd", narrow, h, preferred_element_type=jnp.float32)]
        if bias is not None:
            new.append(jnp.sum(slope, (0, 1)))
        head_gradient = jax.tree.map(jnp.add, head_gradient, new)
        return (loss, head_gradient), (each, jnp.einsum("rav,vd->rad", narrow, projection))

    heads = [embedding] if bias is None else [embedding, bias]
    start = [jnp.zeros(x.shape, jnp.float32) for x in heads] if gradients else []
    (loss, head_gradient), (each, hidden_gradient) = jax.lax.scan(
        step, (jnp.float32(0), start), (split(hidden), split(targets), split(weights))
    )

    def join(x):
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(rows, -1, *x.shape[3:])[:, :slots]

    if not gradients:
        return loss, join(each), None
    pairs = zip([join(hidden_gradient), *head_gradient], [hidden, *heads], strict=True)
    return loss, join(each), tuple(gradient.astype(x.dtype) for gradient, x in pairs)


def _forward(hidden, embedding, bias, targets, weights, layout, cap):
    loss, each, gradients = _chunks(
        hidden, embedding, bias, targets, weights, layout, cap, gradients=True
    )
    return (loss, each), gradients


def _backward(layout, cap, residuals, cotangents):
    scale, _ = cotangents
    # Scaled in float32, then back to the dtype of each input.
    scaled = [(scale * g.astype(jnp.float32)).astype(g.dtype) for g in residuals]
    return (*scaled, *[None] * (5 - len(scaled)))


cross_entropy.defvjp(_forward, _backward)
