"""Configuration of a decoder, which holds only the values that determine what the model computes.

A family (`pmc_jax.models.families`) reads the configuration from a Hugging Face `config.json`. The
configuration is frozen and hashable, so jitted functions take it as a static argument.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (arXiv 2104.09864) and its context-extension rule.

    Attributes:
        theta: base of the frequencies theta ** (-2i / R) of the pairs i of R rotated channels.
        kind: extension rule. `default` changes nothing. `linear` divides positions by `factor`
            (arXiv 2306.15595). `llama3` divides low frequencies by `factor`, keeps high frequencies
            and interpolates in between. `longrope` gives each frequency its own divisor (arXiv
            2402.13753).
        factor, low_freq_factor, high_freq_factor: parameters of the rule.
        original_max_positions: number of tokens in the longest sequence before the extension.
        factors: frequency divisors of `longrope`, one per pair of channels, for sequences of up to
            `original_max_positions` tokens.
        long_factors: frequency divisors of `longrope` for longer sequences.
        magnitude: number by which the rotated channels of queries and keys are multiplied.
        rotary_dim: number of rotated channels of a head, counted from the first; None = all.
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
    """Configuration of a decoder with grouped-query attention and one MLP per layer.

    Attributes:
        vocab_size: number of rows of the embedding.
        hidden_size, intermediate_size: number of channels of the residual stream and of the MLP.
        num_layers: number of layers.
        num_heads, num_kv_heads: number of query heads and of key/value heads.
        head_dim: number of channels per head.
        norm: `rms`, `rms_plus_one` (scaled by 1 + weight) or `layer` (with a bias).
        norm_eps: number that a norm adds to the mean square or, for `layer`, to the variance.
        norms: names of the norms of a layer. `attention_norm` and `mlp_norm` are on the input of
            the attention and of the MLP, `attention_post_norm` and `mlp_post_norm` on the output.
        parallel: whether attention and MLP both read the layer's input. Without an `mlp_norm`,
            they share the `attention_norm`.
        qk_norm: norm of queries and keys: `head` (over each head), `projection` (over all heads of
            a token) or None.
        rope: rotary embedding; None = no rotary embedding.
        local_rope: rotary embedding of layers with a window; None = `rope`.
        windows: attention window of each layer in tokens, the current token included; 0 = no limit;
            () = no layer has a window.
        attention_scale: number by which scores are multiplied before the softmax; None =
            head_dim ** -0.5.
        attention_softcap, logit_softcap: c in the softcap c * tanh(x / c) of the attention scores
            and of the logits; None = no softcap.
        activation: activation function of the MLP, a key of `decoder.ACTIVATIONS`.
        gated_mlp: whether the MLP multiplies its activation by a second projection.
        qkv_bias, o_bias, mlp_bias, head_bias: whether these projections have biases.
        embed_scale: number by which the embedded tokens are multiplied, rounded to their dtype.
        learned_positions: whether a learned position embedding is added to each embedded token.
        tie_embeddings: whether the output projection is the transposed embedding.
        max_positions: maximum length of a sequence in tokens.
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
        """Number of query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def score_scale(self) -> float:
        """Factor by which the attention scores are multiplied before the softmax."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    def window(self, layer: int) -> int:
        """Returns the attention window of a layer in tokens. A window of 0 has no limit."""
        return self.windows[layer] if self.windows else 0

    def longest(self, prompt: int) -> int:
        """Returns the maximum length, in tokens, of a sequence with a prompt of `prompt` tokens.

        The maximum is `max_positions`. With `longrope`, a sequence whose prompt has up to
        `original_max_positions` tokens must not grow beyond this number, because all its earlier
        keys would change and its key/value cache would become invalid.
        """
        if self.rope is None or self.rope.kind != "longrope":
            return self.max_positions
        original = self.rope.original_max_positions
        return min(original, self.max_positions) if prompt <= original else self.max_positions

    def rope_of(self, layer: int) -> RopeConfig | None:
        """Returns the rotary embedding of a layer, or None if the model has no rotary embedding."""
        return self.local_rope if self.local_rope and self.window(layer) else self.rope
