"""Weights of the layers and their products with activations.

`pmc_jax.models.decoder` defines the axis letters.
"""

import functools
import math
from collections.abc import Mapping

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint


class Layers(nnx.Module):
    """Parameters of all layers with a leading axis L, or of one layer in the scan over layers.

    Args:
        arrays: dict from the name of a parameter, without the prefix "layers.", to its array.
        by_rows: whether to keep the activations around products in row-major memory, for TPUs.
    """

    def __init__(self, arrays: Mapping[str, jax.Array], *, by_rows: bool = False):
        self.by_rows = by_rows
        for name, array in arrays.items():
            setattr(self, name, nnx.Param(array))

    def arrays(self) -> dict[str, jax.Array]:
        """Returns the arrays by name, as the constructor takes them."""
        return {path[0]: v.get_value() for path, v in nnx.to_flat_state(nnx.state(self))}

    def get(self, name: str) -> jax.Array | None:
        variable = getattr(self, name, None)
        return None if variable is None else variable[...]

    def qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.project(x, "q"), self.project(x, "k"), self.project(x, "v")

    def gate_up(self, x: jax.Array) -> tuple[jax.Array | None, jax.Array]:
        gate = self.project(x, "gate") if hasattr(self, "gate") else None
        return gate, self.project(x, "up")

    def project(self, x: jax.Array, name: str) -> jax.Array:
        """Applies the projection `name` to activations: x @ W (+ x @ A @ B) (+ bias).

        A and B are the low-rank adapter of W. The result has the dtype of `x`. The projection is
        over the last axis of `x`, or over the last two, heads and head_dim, for `o`.
        """
        weight = getattr(self, name)[...].astype(x.dtype)
        contracted = 2 if name == "o" else 1
        lead, out = x.shape[:-contracted], weight.shape[contracted:]
        size = math.prod(weight.shape[:contracted])
        # The operands are matrices, because XLA on CPU would otherwise copy the operands of the
        # weight gradient.
        x = self._laid(x.reshape(-1, size), name in ("q", "k", "v", "o"), name in ("o", "down"))
        y = self._laid(x @ weight.reshape(size, -1), name in ("q", "k", "v"), True)
        if (a := self.get(f"{name}_lora_a")) is not None:
            b = self.get(f"{name}_lora_b").astype(x.dtype)
            y += (x @ a.astype(x.dtype).reshape(size, -1)) @ b.reshape(b.shape[0], -1)
        y = checkpoint_name(y.reshape(*lead, *out), "projection")
        bias = self.get(f"{name}_bias")
        return y if bias is None else y + bias.astype(x.dtype)

    def _laid(self, x: jax.Array, itself: bool, slope: bool) -> jax.Array:
        return _by_rows(x, itself, slope) if self.by_rows else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _by_rows(x: jax.Array, itself: bool, slope: bool) -> jax.Array:
    """Keeps a matrix (if `itself`) and its gradient (if `slope`) in row-major memory.

    Without this constraint, the TPU compiler splits products by heads, and transposes complete
    gradients for later products.
    """
    return with_layout_constraint(x, Layout((0, 1))) if itself else x


_by_rows.defvjp(
    lambda x, itself, slope: (_by_rows(x, itself, slope), None),
    lambda itself, slope, _, g: (_by_rows(g, slope, itself),),
)
