"""Rotary position embedding: angles from positions, and the rotation of queries and keys."""

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Angle in radians per token for each pair of channels.

    Returns:
        f32[head_dim / 2]; `theta ** (-2i / head_dim)`, stretched by the rule of `rope.kind`.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    frequency = rope.theta**-exponent
    if rope.kind == "linear":
        frequency = frequency / rope.factor
    elif rope.kind == "llama3":
        wave_length = 2 * np.pi / frequency
        ramp = rope.original_max_positions / wave_length - rope.low_freq_factor
        keep = np.clip(ramp / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0)
        frequency = keep * frequency + (1 - keep) * frequency / rope.factor
    return frequency.astype(np.float32)


def rotation(rope: RopeConfig, head_dim: int, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines for `rotate`.

    Args:
        positions: i32[...], in tokens.

    Returns:
        Two arrays f32[..., head_dim / 2].
    """
    angle = positions[..., None].astype(jnp.float32) * inverse_frequencies(rope, head_dim)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates channel i with channel i + H/2 (the layout of Hugging Face checkpoints).

    Args:
        x: [..., heads, H], any float dtype, kept.
        cos, sin: f32[..., H / 2]; broadcast over heads.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
