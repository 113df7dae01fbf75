"""Decoder. The parameters of its layers are stacked, and training scans over the layers.

Axis letters: B rows, S tokens, P shared-prefix tokens, D hidden, N key/value heads, G query heads
per key/value head, H head_dim, F MLP width, V vocabulary, L layers. The module `decoder` handles no
text, no loss and no key/value cache. `pmc_jax.sampling` uses the same `block` for decoding.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import attention, in_window, softcap
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.fsdp import map_over_row_shards, sharded_embedding_lookup
from pmc_jax.models.layers import Layers
from pmc_jax.models.parameters import parameters
from pmc_jax.models.rope import rotate, rotation

REMAT_POLICIES = {
    "none": None,
    "dots": jax.checkpoint_policies.save_only_these_names("projection"),
    "full": jax.checkpoint_policies.nothing_saveable,
}


ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


class Decoder(nnx.Module):
    """Parameters of a decoder, as a pytree that `jax.jit`, `jax.grad`, `lax.scan` and optax accept.

    Args:
        arrays: dict from the name of a parameter or of an adapter matrix to its array.
    """

    def __init__(self, arrays: Mapping[str, jax.Array]):
        stacked = {
            k.removeprefix("layers."): v for k, v in arrays.items() if k.startswith("layers.")
        }
        self.layers = Layers(stacked)
        for name, array in arrays.items():
            if not name.startswith("layers."):
                setattr(self, name, nnx.Param(array))

    def __repr__(self) -> str:
        """Returns a short text with the number of parameters, without their values."""
        return f"Decoder({sum(map(np.size, jax.tree.leaves(self))):,} parameters)"

    __str__ = __repr__

    def arrays(self) -> dict[str, jax.Array]:
        """Returns the arrays by name, as the constructor takes them."""
        flat = nnx.to_flat_state(nnx.state(self))
        return {".".join(path): variable.get_value() for path, variable in flat}

    def get(self, name: str) -> jax.Array | None:
        """Returns the parameter `name` outside the layers, or None if the model lacks it."""
        variable = getattr(self, name, None)
        return None if variable is None else variable[...]

    @property
    def output_embedding(self) -> jax.Array:
        """Output embedding [V,D]. It is the input embedding if the model ties the two."""
        return self.head[...] if hasattr(self, "head") else self.embed[...]


def init(config: DecoderConfig, key: jax.Array, layout: Layout, *, scale: float = 0.02) -> Decoder:
    """Creates a decoder with random float32 weights, sharded on the mesh of `layout`.

    Norms scale by 1 and biases are 0. All other weights are drawn from a normal distribution with
    mean 0 and standard deviation `scale`.
    """
    table = parameters(config)

    def make(key: jax.Array) -> dict[str, jax.Array]:
        arrays = {}
        for i, (name, p) in enumerate(table.items()):
            if name.endswith("norm"):
                neutral = 0.0 if config.norm == "rms_plus_one" else 1.0
                arrays[name] = jnp.full(p.shape, neutral, jnp.float32)
            elif name.endswith("bias"):
                arrays[name] = jnp.zeros(p.shape, jnp.float32)
            else:
                arrays[name] = scale * jax.random.normal(jax.random.fold_in(key, i), p.shape)
        return arrays

    shardings = {name: layout.sharding(p.axes, p.shape) for name, p in table.items()}
    return Decoder(jax.jit(make, out_shardings=shardings)(key))


def normalise(config: DecoderConfig, x: jax.Array, weights, name: str) -> jax.Array:
    """Applies the norm `name` over the last axis in float32. The result has the dtype of `x`.

    The formula depends on `config.norm`. `rms` computes x / sqrt(mean(x²) + eps) * weight (arXiv
    1910.07467). `rms_plus_one` uses 1 + weight instead of the weight. `layer` subtracts the mean
    from x, computes the formula of `rms` and adds a bias (arXiv 1607.06450).
    """
    weight, wide = weights.get(name).astype(jnp.float32), x.astype(jnp.float32)
    if config.norm == "layer":
        wide = wide - _mean(wide)
    scaled = wide * jax.lax.rsqrt(_mean(wide * wide) + config.norm_eps)
    scaled = scaled * (1 + weight if config.norm == "rms_plus_one" else weight)
    if config.norm == "layer":
        scaled = scaled + weights.get(f"{name}_bias").astype(jnp.float32)
    return scaled.astype(x.dtype)


def _mean(x: jax.Array) -> jax.Array:
    """Computes the mean over the last axis. The result keeps this axis with size 1."""

    def in_two_stages(x: jax.Array) -> jax.Array:
        # A single long float32 sum loses a digit of the logits on CPU.
        parts = x.reshape(*x.shape[:-1], math.gcd(x.shape[-1], 32), -1)
        return jnp.mean(jnp.mean(parts, -1), -1)[..., None]

    def at_once(x: jax.Array) -> jax.Array:
        return jnp.mean(x, -1, keepdims=True)

    return jax.lax.platform_dependent(x, cpu=in_two_stages, default=at_once)


def embed(
    config: DecoderConfig,
    table: jax.Array,
    position_table: jax.Array | None,
    tokens: jax.Array,
    positions: jax.Array,
    dtype: jnp.dtype,
    layout: Layout | None = None,
) -> jax.Array:
    """Embeds token ids i32[...]. Returns the input [...,D] of the first layer in `dtype`.

    Args:
        table: input embedding [V,D]. The docstring of the module defines the axis letters.
        position_table: learned positions [max_positions,D]; None = the model has none.
        positions: i32[...], position of each token in its sequence, for `position_table`.
        layout: layout of `table` for the FSDP lookup of training, for which `tokens` must be
            [B,S]; None = an ordinary lookup.
    """
    x = (
        table[tokens].astype(dtype)
        if layout is None
        else sharded_embedding_lookup(table, tokens, dtype, layout)
    )
    if config.embed_scale != 1:
        x = x * jnp.asarray(config.embed_scale, dtype)
    return x if position_table is None else x + position_table[positions].astype(dtype)


def block(config: DecoderConfig, weights, x: jax.Array, angles, attend) -> jax.Array:
    """Computes the output [...,D] of one layer, for training and for decoding.

    The docstring of the module defines the axis letters.

    Args:
        weights: object with the methods `get`, `qkv`, `gate_up` and `project`, such as `Layers` or
            `pmc_jax.sampling.snapshot.FusedLayer`.
        x: input [...,D] of the layer.
        angles: cosines and sines of the rotation at the positions of `x`, as `rotation` returns
            them; None = no rotation.
        attend: function that maps rotated q [...,N*G,H], rotated k [...,N,H] and v [...,N,H] to the
            attention outputs [...,N*G,H].
    """

    def normed(x: jax.Array, name: str) -> jax.Array:
        return normalise(config, x, weights, name) if name in config.norms else x

    def mlp(x: jax.Array) -> jax.Array:
        gate, up = weights.gate_up(x)
        activate = ACTIVATIONS[config.activation]
        return weights.project(activate(up) if gate is None else activate(gate) * up, "down")

    y = normed(x, "attention_norm")
    q, k, v = weights.qkv(y)
    if config.qk_norm is not None:
        q, k = _qk_norm(config, q, weights, "q_norm"), _qk_norm(config, k, weights, "k_norm")
    if angles is not None:
        q, k = rotate(q, *angles), rotate(k, *angles)
    attended = normed(weights.project(attend(q, k, v), "o"), "attention_post_norm")
    if config.parallel:
        return x + attended + mlp(normed(x, "mlp_norm") if "mlp_norm" in config.norms else y)
    x = x + attended
    return x + normed(mlp(normed(x, "mlp_norm")), "mlp_post_norm")


def _qk_norm(config: DecoderConfig, x: jax.Array, weights, name: str) -> jax.Array:
    """Normalises queries or keys [...,heads,H] over H, or over both axes for `projection`.

    `config.qk_norm` is `head` or `projection`.
    """
    if config.qk_norm == "head":
        return normalise(config, x, weights, name)
    wide = x.astype(jnp.float32)
    square = jnp.mean(wide * wide, (-2, -1), keepdims=True)
    weight = weights.get(name).astype(jnp.float32)
    return (wide * jax.lax.rsqrt(square + config.norm_eps) * weight).astype(x.dtype)


def hidden_states(
    model: Decoder,
    config: DecoderConfig,
    layout: Layout,
    tokens: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    *,
    prefix: jax.Array | None = None,
    dtype: jnp.dtype = jnp.float32,
    remat: str = "none",
    kernel: str = "xla",
    layers: int | None = None,
) -> jax.Array:
    """Computes the hidden states after the last norm and before the projection to logits.

    Rows may hold several packed sequences. A token attends to itself, to the earlier tokens of its
    own sequence and to the `prefix`, as far as they are in the layer's window. The prefix is
    computed once for the batch. The result is exact, because attention is causal and every sequence
    continues the prefix at position P. The docstring of the module defines the axis letters.

    Args:
        tokens: i32[B,S], token ids without the prefix.
        positions: i32[B,S], positions from the start of each sequence, prefix included.
        segments: i32[B,S], number of the sequence to which each token belongs; 0 = padding.
        prefix: i32[P], token ids that all sequences start with; None = no shared prefix.
        dtype: dtype of activations and products; norms and softmax reduce in float32.
        remat: key of `REMAT_POLICIES`, which says what the backward pass recomputes.
        kernel: attention kernel, see `attention`.
        layers: number of layers to run, without the last norm; None = all layers and the last norm.

    Returns:
        The hidden states [B,S,D] in `dtype`, which are undefined at padding.
    """
    x = embed(config, model.embed[...], model.get("positions"), tokens, positions, dtype, layout)
    x = layout.constrain(x, "rows", "sequence", None)
    # `longrope` uses the longest sequence of the batch, as transformers does, because all sequences
    # share one prefix.
    longest = jnp.max(jnp.where(segments != 0, positions, 0)) + 1
    shared = None
    if prefix is not None:
        index = jnp.arange(prefix.shape[0])[None]
        shared = model.embed[...], model.get("positions"), prefix[None], index
        shared = embed(config, *shared, dtype, layout)
    if layout.platform == "tpu" and kernel == "xla":
        kernel = "tpu"
    weights, of = model.layers.arrays(), config
    if layers is not None:
        weights = {name: array[:layers] for name, array in weights.items()}
        of = dataclasses.replace(config, num_layers=layers, windows=config.windows[:layers])
    run = functools.partial(_run, config=of, remat=remat, kernel=kernel)
    rows = (x, positions, segments)
    x = map_over_row_shards(run, layout, of, dtype, rows, (shared, longest), weights)
    return x if layers is not None else normalise(config, x, model, "norm")


def _run(layout: Layout, gathered, rows, common, weights, *, config, remat, kernel) -> jax.Array:
    """Computes the outputs of the last layer for `rows`.

    `map_over_row_shards` calls this function and describes the first five arguments.
    """
    (x, positions, segments), (shared, longest) = rows, common
    # The partitioner would gather arrays whose memory layout is constrained.
    alone = all(layout.mesh.shape[a] == 1 for _, axes in layout.rules for a in axes)
    kernel = "xla" if kernel == "tpu" and not alone else kernel
    shape = x.shape[:2]
    causal = jnp.tril(jnp.ones((1, shape[1], shape[1]), bool))
    mask = (segments[:, :, None] == segments[:, None, :]) & (segments != 0)[:, None, :] & causal
    windows = jnp.asarray(config.windows, jnp.int32) if config.windows else None
    distance = positions[:, :, None] - positions[:, None, :]
    # One product for all tokens is faster, but the partitioner cannot shard it by rows.
    together = alone and shared is not None

    def join(rows, prefix):
        return jnp.concatenate([rows.reshape(-1, *rows.shape[2:]), prefix[0]])

    def split(tokens):
        rows, prefix = jnp.split(tokens, (math.prod(shape),))
        return rows.reshape(*shape, *rows.shape[1:]), prefix[None]

    if shared is not None:
        length = shared.shape[1]
        index = jnp.arange(length)
        mask = jnp.concatenate([jnp.ones((*mask.shape[:2], length), bool), mask], axis=-1)
        distance = jnp.concatenate([positions[:, :, None] - index, distance], axis=-1)
        shared_angles = _Angles(config, index[None], longest)
        shared_distance = (index[:, None] - index)[None]
    if together:
        positions, x, shared = join(positions, index[None]), join(x, shared), None
    angles = _Angles(config, positions, longest)

    def step(carry, layer):
        x, shared = carry
        weights, window = layer
        weights = Layers(gathered(weights), by_rows=kernel == "tpu")
        shared_kv = []

        def seen(mask, distance):
            return mask if window is None else mask & in_window(distance, window)

        def attend_prefix(q, k, v):
            shared_kv.extend((k, v))
            return attention(config, q, k, v, seen(shared_distance >= 0, shared_distance), kernel)

        def attend(q, k, v):
            if shared_kv:
                rows = k.shape[0]
                k, v = (
                    jnp.concatenate([jnp.broadcast_to(p, (rows, *p.shape[1:])), own], axis=1)
                    for p, own in zip(shared_kv, (k, v), strict=True)
                )
            return attention(config, q, k, v, seen(mask, distance), kernel)

        def attend_all(q, k, v):
            rows, prefix = zip(*map(split, (q, k, v)), strict=True)
            attended = attend_prefix(*prefix)
            return join(attend(*rows), attended)

        if together:
            return (block(config, weights, x, angles.of(window), attend_all), None), None
        if shared is not None:
            shared = block(config, weights, shared, shared_angles.of(window), attend_prefix)
        x = block(config, weights, x, angles.of(window), attend)
        return (layout.constrain(x, "rows", "sequence", None), shared), None

    if (policy := REMAT_POLICIES[remat]) is not None:
        step = jax.checkpoint(step, policy=policy, prevent_cse=False)
    (x, _), _ = jax.lax.scan(step, (x, shared), (weights, windows))
    return split(x)[0] if together else x


class _Angles:
    """Cosines and sines of the rotation at given positions, for layers with and without windows."""

    def __init__(self, config: DecoderConfig, positions: jax.Array, length: jax.Array):
        self._all, self._local = (
            None if rope is None else rotation(rope, config.head_dim, positions, length)
            for rope in (config.rope, config.local_rope)
        )

    def of(self, window: jax.Array | None):
        if self._local is None or window is None:
            return self._all
        return jax.tree.map(lambda a, b: jnp.where(window > 0, b, a), self._all, self._local)


def logits(model: Decoder, config: DecoderConfig, hidden: jax.Array, layout: Layout) -> jax.Array:
    """Computes the logits f32[B,S,V] of the next token from hidden states [B,S,D].

    The vocabulary axis of the logits is sharded as `layout` shards "vocab".
    """
    out = jnp.einsum(
        "bsd,vd->bsv",
        hidden,
        model.output_embedding.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )
    if (bias := model.get("head_bias")) is not None:
        out = out + bias.astype(jnp.float32)
    return layout.constrain(softcap(out, config.logit_softcap), "rows", None, "vocab")
