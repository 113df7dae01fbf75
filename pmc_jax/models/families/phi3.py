"""Phi-3, 3.5 and 4-mini (arXiv 2404.14219): Llama with fused projections and longrope."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import PRE_NORMS, Family, llama_config, llama_names
from pmc_jax.models.fields import Fields, sliding_windows
from pmc_jax.models.tensors import Entry


def _read(fields: Fields) -> DecoderConfig:
    return llama_config(fields, 4096, norm_eps=1e-5, windows=sliding_windows(fields))


_FUSED = (
    Entry(
        "model.layers.{i}.self_attn.qkv_proj.weight",
        (("layers.q", "dnh"), ("layers.k", "dnh"), ("layers.v", "dnh")),
        ("nh", "d"),
        joined=0,
    ),
    Entry(
        "model.layers.{i}.mlp.gate_up_proj.weight",
        (("layers.gate", "df"), ("layers.up", "df")),
        ("f", "d"),
        joined=0,
    ),
)
_APART = {f"layers.{name}" for name in ("q", "k", "v", "gate", "up")}
FAMILIES = {
    "phi3": Family(
        "Phi-3, Phi-3.5, Phi-4-mini",
        "Phi3ForCausalLM",
        _read,
        (*(e for e in llama_names(PRE_NORMS) if e.parts[0][0] not in _APART), *_FUSED),
    )
}
