"""Settings of training (section `train`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from pmc_jax.config.schema import BELOW_ONE, Section, above, at_least, between, setting

Projection: TypeAlias = Literal["q", "k", "v", "o", "gate", "up", "down"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)


@dataclass(frozen=True)
class LoRAConfig(Section):
    """Low-rank adapters (LoRA, arXiv 2106.09685), which are trained in place of all weights.

    Fields:
        rank: rank of the adapters; 0 disables adapters and trains all weights.
        alpha: numerator of the scale of the adapters, which is alpha / rank.
        targets: projections that get an adapter, from q, k, v, o, gate, up and down.

    Example:
        >>> pmc.LoRAConfig(rank=8)
        LoRAConfig(rank=8)
    """

    rank: int = setting(0, between(0, 65_536))
    alpha: float = setting(16.0, above(0))
    targets: tuple[Projection, ...] = PROJECTIONS

    def cross_faults(self) -> list[str]:
        return [] if self.targets else ["targets: the list is empty. Name at least one projection."]


@dataclass(frozen=True)
class AdamWConfig(Section):
    """The AdamW optimizer (arXiv 1711.05101).

    Fields:
        weight_decay: decoupled weight decay.
        decay_on: weights that decay (all | matrices); matrices excludes biases and norms, as the
            Trainer of transformers does.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        epsilon: constant added to the denominator of the update.
        moment_dtype: dtype of the first moment (float32 | bfloat16); bfloat16 saves two bytes for
            each weight.

    Example:
        >>> pmc.AdamWConfig(decay_on="matrices")
        AdamWConfig(decay_on='matrices')
    """

    weight_decay: float = setting(0.01, at_least(0))
    decay_on: Literal["all", "matrices"] = "all"
    beta1: float = setting(0.9, BELOW_ONE)
    beta2: float = setting(0.999, BELOW_ONE)
    epsilon: float = setting(1e-8, above(0))
    moment_dtype: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class TrainConfig(Section):
    """The training loop and its optimizer, AdamW with linear warm-up of the learning rate.

    Fields:
        learning_rate: peak learning rate.
        batch_size: number of forget rows in a micro-batch, which also has
            `pmc.schedule.retain_rows` retain rows for each forget row.
        accumulation_steps: number of micro-batches per step.
        warmup_steps: number of steps in which the learning rate rises linearly to its peak.
        decay: decay of the learning rate after the warm-up (linear | none); linear decay ends at 0.
        max_grad_norm: global norm to which the gradient is clipped; None disables clipping.
        max_bad_steps: number of consecutive steps with a loss or gradient that is not finite, after
            which the run stops; such a step does not change the weights.
        loss_mean: mean in each loss term (tokens | answers): tokens averages over all answer
            tokens, and answers averages over the means of the answers.
        accumulation_mean: rows over which `loss_mean` averages (step | micro_batches): step selects
            the rows of the complete step, so that accumulation changes nothing, and micro_batches
            averages over the means of the micro-batches.
        remat: activations that the backward pass recomputes to save memory (none | full | dots);
            dots recomputes all activations except the outputs of the projections.
        attention: attention kernel (xla | cudnn); cudnn needs NVIDIA GPUs and bfloat16.
        adamw: other settings of the optimizer.
        lora: low-rank adapters, which are trained in place of all weights.

    Example:
        >>> pmc.TrainConfig(learning_rate=2e-5, batch_size=4)
        TrainConfig(learning_rate=2e-05, batch_size=4)
    """

    learning_rate: float = setting(1e-5, above(0))
    batch_size: int = setting(8, between(1, 65_536))
    accumulation_steps: int = setting(1, between(1, 65_536))
    warmup_steps: int = setting(0, between(0, 10**9))
    decay: Literal["linear", "none"] = "linear"
    max_grad_norm: float | None = setting(None, above(0))
    max_bad_steps: int = setting(3, between(1, 10**6))
    loss_mean: Literal["tokens", "answers"] = "tokens"
    accumulation_mean: Literal["step", "micro_batches"] = "step"
    remat: Literal["none", "full", "dots"] = "dots"
    attention: Literal["xla", "cudnn"] = "xla"
    adamw: AdamWConfig = field(default_factory=AdamWConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    @property
    def step_rows(self) -> int:
        """Number of forget rows in a gradient step, or of rows in a step of fine-tuning."""
        return self.batch_size * self.accumulation_steps
