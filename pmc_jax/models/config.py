"""The shape of a decoder: every number that the mathematics of the model depends on, nothing else.

A family (`pmc_jax.models.families`) reads it from a Hugging Face `config.json`. It is frozen and
hashable, so jitted functions take it as a static argument.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (arXiv 2104.09864) and its context-extension rule.

    Attributes:
        theta: base of the geometric series of wave lengths.
        kind: `default`, `linear` (positions divided by `factor`, arXiv 2306.15595), `llama3`
            (long wave lengths divided by `factor`, short ones kept, a ramp between) or `longrope`
            (each wave length has its own factor, arXiv 2402.13753).
        factor, low_freq_factor, high_freq_factor, original_max_positions: parameters of `kind`;
            `original_max_positions` in tokens.
        factors, long_factors: of `longrope`, one for each pair of channels: in sequences of up to
            `original_max_positions` tokens, and in longer ones.
        magnitude: factor of the rotated queries and keys.
        rotary_dim: the first channels of a head that are rotated; None = all.
    """

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
    factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    magnitude: float = 1.0
    rotary_dim: int | None = None


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A decoder with grouped-query attention and one MLP a layer.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size, intermediate_size: widths of the residual stream and of the MLP.
        num_layers, num_heads, num_kv_heads, head_dim: depth and attention shape.
        norm: `rms`, `rms_plus_one` (scaled by 1 + weight) or `layer` (with a bias).
        norm_eps: added to the mean square or the variance.
        norms: which norms a layer has: `attention_norm` and `mlp_norm` of what a branch reads,
            `attention_post_norm` and `mlp_post_norm` of what it adds.
        parallel: both branches read the layer's input; without an `mlp_norm` they share a norm.
        qk_norm: None, `head` (queries and keys, each head by itself) or `projection` (all heads
            of a token together).
        rope: rotary embedding; None = none.
        local_rope: the one of layers with a window, where it differs.
        windows: of each layer, how many tokens back it sees, its own included; 0 = all; () = all
            layers see all.
        attention_scale: of the scores before the softmax; None = head_dim ** -0.5.
        attention_softcap, logit_softcap: c * tanh(x / c) on scores and on logits; None = off.
        activation: of the MLP, a key of `decoder.ACTIVATIONS`.
        gated_mlp: the MLP multiplies its activation with a second projection.
        qkv_bias, o_bias, mlp_bias, head_bias: projections that carry biases.
        embed_scale: factor of the embedded tokens, rounded to their dtype.
        learned_positions: a table of `max_positions` rows is added to them.
        tie_embeddings: the output projection is the embedding, transposed.
        max_positions: tokens in the longest sequence that the model is made for.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm: str = "rms"
    norm_eps: float = 1e-6
    norms: tuple[str, ...] = ("attention_norm", "mlp_norm")
    parallel: bool = False
    qk_norm: str | None = None
    rope: RopeConfig | None = RopeConfig()
    local_rope: RopeConfig | None = None
    windows: tuple[int, ...] = ()
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    activation: str = "silu"
    gated_mlp: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    embed_scale: float = 1.0
    learned_positions: bool = False
    tie_embeddings: bool = False
    max_positions: int = 2048

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def score_scale(self) -> float:
        """What attention scores are multiplied with."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    def window(self, layer: int) -> int:
        """Tokens that a layer sees, 0 = all."""
        return self.windows[layer] if self.windows else 0

    def longest(self, prompt: int) -> int:
        """Tokens that a sequence may have which is generated after a prompt of some tokens.

        Where a sequence grows beyond the original length of `longrope`, all its earlier keys
        change: a cache cannot follow.
        """
        if self.rope is None or self.rope.kind != "longrope":
            return self.max_positions
        original = self.rope.original_max_positions
        return min(original, self.max_positions) if prompt <= original else self.max_positions

    def rope_of(self, layer: int) -> RopeConfig | None:
        """The rotary embedding of a layer."""
        return self.local_rope if self.local_rope and self.window(layer) else self.rope
