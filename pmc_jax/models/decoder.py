"""The decoder: parameters stacked over layers, scanned in training.

Axis letters: B rows, S tokens, P shared-prefix tokens, D hidden, N key/value heads, G query heads a
key/value head, H head_dim, F MLP width, V vocabulary, L layers. It knows no text, no loss and no
cache of past tokens (`pmc_jax.sampling` decodes with the same `block`).
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from pmc_jax.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.rope import rotate, rotation

REMAT_POLICIES = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Shape and logical axes of one (stacked) parameter."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


def parameters(config: DecoderConfig) -> dict[str, Parameter]:
    """Every parameter of the model by name; names with a dot are stacked over layers."""
    c = config
    table = {
        "embed": Parameter((c.vocab_size, c.hidden_size), ("vocab", "embed")),
        "norm": Parameter((c.hidden_size,), (None,)),
    }
    if not c.tie_embeddings:
        table["head"] = Parameter((c.vocab_size, c.hidden_size), ("vocab", "embed"))
    d, f, h = c.hidden_size, c.intermediate_size, c.head_dim
    layer = {
        "attention_norm": Parameter((d,), (None,)),
        "q": Parameter((d, c.num_heads, h), ("embed", "heads", None)),
        "k": Parameter((d, c.num_kv_heads, h), ("embed", "kv_heads", None)),
        "v": Parameter((d, c.num_kv_heads, h), ("embed", "kv_heads", None)),
        "o": Parameter((c.num_heads, h, d), ("heads", None, "embed")),
        "mlp_norm": Parameter((d,), (None,)),
        "gate": Parameter((d, f), ("embed", "mlp")),
        "up": Parameter((d, f), ("embed", "mlp")),
        "down": Parameter((f, d), ("mlp", "embed")),
    }
    if c.attention_bias:
        layer["q_bias"] = Parameter((c.num_heads, h), ("heads", None))
        layer["k_bias"] = Parameter((c.num_kv_heads, h), ("kv_heads", None))
        layer["v_bias"] = Parameter((c.num_kv_heads, h), ("kv_heads", None))
        layer["o_bias"] = Parameter((d,), (None,))
    if c.mlp_bias:
        layer["gate_bias"] = Parameter((f,), ("mlp",))
        layer["up_bias"] = Parameter((f,), ("mlp",))
        layer["down_bias"] = Parameter((d,), (None,))
    for name, p in layer.items():
        table[f"layers.{name}"] = Parameter((c.num_layers, *p.shape), (None, *p.axes))
    return table


class Layers(nnx.Module):
    """The parameters of all layers, each with a leading axis L (or of one layer, inside the
    scan).
    """

    def __init__(self, arrays: Mapping[str, jax.Array]):
        for name, array in arrays.items():
            setattr(self, name, nnx.Param(array))

    def qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.project(x, "q"), self.project(x, "k"), self.project(x, "v")

    def gate_up(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.project(x, "gate"), self.project(x, "up")

    def project(self, x: jax.Array, name: str) -> jax.Array:
        """x @ W (+ bias) in the dtype of `x`, heads and head_dim contracted together in `o`."""
        weight = getattr(self, name)[...].astype(x.dtype)
        contracted = 2 if name == "o" else 1
        lead, out = x.shape[:-contracted], weight.shape[contracted:]
        size = math.prod(weight.shape[:contracted])
        # As matrices: XLA on CPU copies the operands of the weight gradient otherwise.
        y = (x.reshape(-1, size) @ weight.reshape(size, -1)).reshape(*lead, *out)
        bias = getattr(self, f"{name}_bias", None)
        return y if bias is None else y + bias[...].astype(x.dtype)


class Decoder(nnx.Module):
    """A plain pytree of parameters: `jax.jit`, `jax.grad`, `lax.scan` and optax take it as it
    is.
    """

    def __init__(self, arrays: Mapping[str, jax.Array]):
        """Args: arrays: one array for each name of `parameters(config)`."""
        stacked = {
            k.removeprefix("layers."): v for k, v in arrays.items() if k.startswith("layers.")
        }
        self.layers = Layers(stacked)
        for name, array in arrays.items():
            if not name.startswith("layers."):
                setattr(self, name, nnx.Param(array))

    def arrays(self) -> dict[str, jax.Array]:
        """The inverse of the constructor."""
        flat = nnx.to_flat_state(nnx.state(self))
        return {".".join(path): variable[...] for path, variable in flat}

    @property
    def output_embedding(self) -> jax.Array:
        """[V, D]: the embedding itself where it is tied."""
        return self.head[...] if hasattr(self, "head") else self.embed[...]


def init(config: DecoderConfig, key: jax.Array, layout: Layout, *, scale: float = 0.02) -> Decoder:
    """Random float32 weights, made in place on the mesh: normal(0, scale), norms 1, biases 0."""
    table = parameters(config)

    def make(key: jax.Array) -> dict[str, jax.Array]:
        arrays = {}
        for i, (name, p) in enumerate(table.items()):
            if name.endswith("norm"):
                arrays[name] = jnp.ones(p.shape, jnp.float32)
            elif name.endswith("bias"):
                arrays[name] = jnp.zeros(p.shape, jnp.float32)
            else:
                arrays[name] = scale * jax.random.normal(jax.random.fold_in(key, i), p.shape)
        return arrays

    shardings = {name: layout.sharding(p.axes, p.shape) for name, p in table.items()}
    return Decoder(jax.jit(make, out_shardings=shardings)(key))


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """Root-mean-square norm (arXiv 1910.07467), reduced in float32; dtype of `x` kept."""
    wide = x.astype(jnp.float32)
    # In two stages: a single long float32 sum loses a digit of the logits on CPU.
    square = (wide * wide).reshape(*x.shape[:-1], math.gcd(x.shape[-1], 32), -1)
    scale = jax.lax.rsqrt(jnp.mean(jnp.mean(square, -1), -1)[..., None] + eps)
    return (wide * scale * weight.astype(jnp.float32)).astype(x.dtype)


def block(config: DecoderConfig, weights, x: jax.Array, angles, attend) -> jax.Array:
    """One layer, for training (`Layers`) and for decoding (`pmc_jax.sampling.weights.FusedLayer`).

    Args:
        weights: has the two norms, `qkv`, `gate_up` and `project`.
        x: [...,D].
        angles: from `rotation`, for the positions of `x`.
        attend: q [...,N*G,H], k and v [...,N,H], rotated -> [...,N*G,H].
    """
    q, k, v = weights.qkv(rms_norm(x, weights.attention_norm[...], config.norm_eps))
    attended = attend(rotate(q, *angles), rotate(k, *angles), v)
    x = x + weights.project(attended, "o")
    gate, up = weights.gate_up(rms_norm(x, weights.mlp_norm[...], config.norm_eps))
    return x + weights.project(jax.nn.silu(gate) * up, "down")


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
) -> jax.Array:
    """Final hidden states, after the last norm; the vocabulary projection is the caller's.

    Rows may hold several packed sequences. A token attends to earlier tokens of its own segment
    and, where `prefix` is given, to all of it: the prefix is then computed once for the whole
    batch, which is exact because attention is causal and every sequence continues the prefix at
    position P.

    Args:
        tokens: i32[B,S].
        positions: i32[B,S], in tokens from the start of each sequence, prefix included.
        segments: i32[B,S], 0 = padding.
        prefix: i32[P], tokens that every sequence starts with, left out of `tokens`.
        dtype: of activations and of the products; norms and softmax reduce in float32.
        remat: a key of `REMAT_POLICIES`.

    Returns:
        [B,S,D] in `dtype`; undefined at padding.
    """
    size = tokens.shape[1]
    causal = jnp.tril(jnp.ones((1, size, size), bool))
    mask = (segments[:, :, None] == segments[:, None, :]) & (segments != 0)[:, None, :] & causal
    # Gathered over `fsdp` before the look-up: after it the compiler replicates the activations.
    embed = layout.constrain(model.embed[...], "vocab", None)
    x = layout.constrain(embed[tokens].astype(dtype), "rows", None, None)
    angles = rotation(config.rope, config.head_dim, positions)
    shared = None
    if prefix is not None:
        length = prefix.shape[0]
        mask = jnp.concatenate([jnp.ones((*mask.shape[:2], length), bool), mask], axis=-1)
        shared = embed[prefix][None].astype(dtype)
        shared_angles = rotation(config.rope, config.head_dim, jnp.arange(length)[None])
        shared_mask = jnp.tril(jnp.ones((1, length, length), bool))

    def step(carry, layer):
        x, shared = carry
        shared_kv = []

        def attend_prefix(q, k, v):
            shared_kv.extend((k, v))
            return jax.nn.dot_product_attention(q, k, v, mask=shared_mask[:, None])

        def attend(q, k, v):
            if shared_kv:
                rows = k.shape[0]
                k, v = (
                    jnp.concatenate([jnp.broadcast_to(p, (rows, *p.shape[1:])), own], axis=1)
                    for p, own in zip(shared_kv, (k, v), strict=True)
                )
            return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None])

        if shared is not None:
            shared = block(config, layer, shared, shared_angles, attend_prefix)
        x = block(config, layer, x, angles, attend)
        return (layout.constrain(x, "rows", None, None), shared), None

    if (policy := REMAT_POLICIES[remat]) is not None:
        step = jax.checkpoint(step, policy=policy, prevent_cse=False)
    (x, _), _ = jax.lax.scan(step, (x, shared), model.layers)
    return rms_norm(x, model.norm[...], config.norm_eps)


def logits(model: Decoder, hidden: jax.Array, layout: Layout) -> jax.Array:
    """Scores of the next token: f32[..., V], the vocabulary sharded over `tensor`."""
    out = jnp.einsum(
        "bsd,vd->bsv",
        hidden,
        model.output_embedding.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )
    return layout.constrain(out, "rows", None, "vocab")
