"""Attention over complete rows, without a key/value cache.

`pmc_jax.sampling.decode` computes attention with a cache. Axis letters: B rows, S queries, T keys,
N key/value heads, G query heads per key/value head, H channels per head.
"""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig

KERNELS = ("xla", "cudnn")


def check_kernel(
    kernel: str, config: DecoderConfig, dtype: jnp.dtype, platform: str, section: str = ""
) -> None:
    """Checks that the devices and the model support an attention kernel.

    Args:
        kernel: one of `KERNELS`. Only `cudnn` has requirements.
        dtype: dtype of the activations.
        platform: platform of the devices, as in `jax.Device.platform`.
        section: name of the section with the setting `attention`, for the message; "" omits it.

    Raises:
        UserError: cuDNN does not support the devices, the dtype, the softcap or the head size.
    """
    if kernel != "cudnn":
        return
    faults = {
        f"NVIDIA GPUs, not {platform}": platform != "gpu",
        "model.compute_dtype=bfloat16": dtype != jnp.bfloat16,
        "a model that does not cap its attention scores": config.attention_softcap is not None,
        f"heads of 8, 16, ... 128 channels, not {config.head_dim}": config.head_dim % 8
        or config.head_dim > 128,
    }
    if needed := [what for what, wrong in faults.items() if wrong]:
        setting = f"{section}.attention" if section else "attention"
        raise UserError(f"{setting}=cudnn needs {needed[0]}. Set {setting}=xla.")


def attention(
    config: DecoderConfig,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    kernel: str = "xla",
) -> jax.Array:
    """Computes softmax attention with the scale and the softcap of `config`.

    The sums of the softmax are in float32. The docstring of the module defines the axis letters.

    Args:
        q: queries [B,S,N*G,H].
        k, v: keys and values [B,T,N,H].
        mask: bool[B,S,T] or bool[1,S,T], True if the query attends to the key.
        kernel: one of `KERNELS`, see `check_kernel`, or `tpu`, which sets memory layouts for TPUs.
            It has no effect if `config` has a softcap.

    Returns:
        The attention outputs [B,S,N*G,H] in the dtype of `v`.
    """
    if config.attention_softcap is None:
        size = q.shape[1]
        if kernel == "cudnn":  # With a mask, the backward pass supports only even lengths.
            q, k, v, mask = _even(q, 1), _even(k, 1), _even(v, 1), _even(_even(mask, 1), 2)
        if kernel == "tpu":
            return _by_heads(q, k, v, mask, config.score_scale)
        return jax.nn.dot_product_attention(
            q, k, v, mask=mask[:, None], scale=config.score_scale, implementation=kernel
        )[:, :size]
    grouped = q.reshape(*q.shape[:2], config.num_kv_heads, config.group_size, config.head_dim)
    scores = jnp.einsum("bsngh,btnh->bngst", grouped, k, preferred_element_type=jnp.float32)
    scores = softcap(scores * config.score_scale, config.attention_softcap)
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bngst,btnh->bsngh", weights, v).reshape(q.shape)


def _by_heads(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, scale: float) -> jax.Array:
    """Computes `attention` with arrays in the memory order rows, heads, tokens, channels.

    In another order, the TPU compiler would transpose queries and results, and transpose them back
    for the adjacent products. `scale` multiplies the scores before the softmax.
    """
    rows, size, all_heads, channels = q.shape
    heads = k.shape[2]

    def own(x):
        return with_layout_constraint(x, Layout(tuple(range(x.ndim))))

    q, k, v = (own(jnp.swapaxes(x, 1, 2)) for x in (q, k, v))
    scores = jnp.einsum(
        "bngsh,bnth->bngst",
        q.reshape(rows, heads, -1, size, channels),
        k,
        preferred_element_type=jnp.float32,
    )
    scores *= scale
    scores += jnp.where(mask, 0, jnp.finfo(jnp.float32).min)[:, None, None]
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bngst,bnth->bngsh", weights, v)
    return jnp.swapaxes(own(out.reshape(rows, all_heads, size, channels)), 1, 2)


def _even(x: jax.Array, axis: int) -> jax.Array:
    """Appends a zero (or False) along the dimension `axis` of `x` if its size is odd."""
    return jnp.pad(x, [(0, x.shape[i] % 2 if i == axis else 0) for i in range(x.ndim)])


def softcap(x: jax.Array, cap: float | None) -> jax.Array:
    """Computes cap * tanh(x / cap), whose values lie between -cap and cap.

    If `cap` is None, the function returns `x` unchanged. Source: Gemma 2, arXiv 2408.00118.
    """
    return x if cap is None else cap * jnp.tanh(x / cap)


def in_window(distance: jax.Array, window: jax.Array | int) -> jax.Array:
    """Returns whether a query sees a key that is `distance` tokens before it.

    A window of n tokens contains the distances 0 to n - 1. A window of 0 has no limit.
    """
    return (distance < window) | (jnp.asarray(window) == 0)
