"""Settings of training; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pmc_jax.config.schema import BELOW_ONE, Section, above, at_least, one_of, setting

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class LoRAConfig(Section):
    """Low-rank adapters instead of all weights (arXiv 2106.09685).

    Fields:
        rank: rank of the adapters; 0 = off, all weights are trained.
        alpha: the adapters are scaled by alpha / rank.
        targets: projections with an adapter: q, k, v, o, gate, up, down.
    """

    rank: int = setting(0, at_least(0))
    alpha: float = setting(16.0, above(0))
    targets: tuple[str, ...] = setting(PROJECTIONS, one_of(*PROJECTIONS))

    def cross_faults(self) -> list[str]:
        return [] if self.targets else ["targets: expected at least one"]


@dataclass(frozen=True)
class AdamWConfig(Section):
    """The AdamW optimizer (arXiv 1711.05101).

    Fields:
        weight_decay: decoupled weight decay, also of biases and norms.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        epsilon: constant added to the denominator of the update.
        moment_dtype: float32 | bfloat16, dtype of the first moment; bfloat16 saves two bytes per
            weight.
    """

    weight_decay: float = setting(0.01, at_least(0))
    beta1: float = setting(0.9, BELOW_ONE)
    beta2: float = setting(0.999, BELOW_ONE)
    epsilon: float = setting(1e-8, above(0))
    moment_dtype: str = setting("float32", one_of("float32", "bfloat16"))


@dataclass(frozen=True)
class TrainConfig(Section):
    """The optimizer: AdamW with linear warm-up, then linear decay to 0 or a constant learning rate.

    Fields:
        learning_rate: peak learning rate.
        batch_size: forget rows per micro-batch, in addition to `pmc.schedule.retain_rows` retain
            rows for each.
        accumulation_steps: micro-batches per gradient step.
        warmup_steps: gradient steps of linear warm-up.
        decay: linear | none, decay of the learning rate after the warm-up; linear reaches 0 at the
            end.
        max_grad_norm: maximum global norm of the gradient, by clipping; None = no clipping.
        max_bad_steps: the run stops after this many steps in a row whose loss or gradient is not
            finite; such a step changes no weight.
        loss_mean: tokens | answers, what each loss term is averaged over: the answer tokens of a
            micro-batch (as in transformers), or its answers, each the mean of its tokens.
        remat: none | full | dots, what the backward pass recomputes to save memory.
        attention: xla | cudnn, the attention kernel; cudnn needs NVIDIA GPUs and bfloat16.
        adamw: other settings of the optimizer.
        lora: adapters instead of all weights.
    """

    learning_rate: float = setting(1e-5, above(0))
    batch_size: int = setting(8, at_least(1))
    accumulation_steps: int = setting(1, at_least(1))
    warmup_steps: int = setting(0, at_least(0))
    decay: str = setting("linear", one_of("linear", "none"))
    max_grad_norm: float | None = setting(None, above(0))
    max_bad_steps: int = setting(3, at_least(1))
    loss_mean: str = setting("tokens", one_of("tokens", "answers"))
    remat: str = setting("dots", one_of("none", "full", "dots"))
    attention: str = setting("xla", one_of("xla", "cudnn"))
    adamw: AdamWConfig = field(default_factory=AdamWConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
