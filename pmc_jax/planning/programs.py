"""Lowering of the programs of a run from the shapes of their arguments, without arrays."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax.config.train import TrainConfig
from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import adapters, attach
from pmc_jax.models.parameters import Parameter, parameters
from pmc_jax.planning.workload import SampleShape, TrainShape
from pmc_jax.sampling.decode import Slots, decode, start_batch
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.snapshot import snapshot
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.step import abstract_state, train_step
from pmc_jax.training.step_config import StepConfig


@dataclasses.dataclass(frozen=True)
class Model:
    """Description of a model on a mesh, from which the shapes of its weights follow.

    Attributes:
        config: configuration of the decoder.
        train, sample: mesh and sharding rules of training and of sampling.
        dtype: dtype of activations and of the sampling weights.
        cache_dtype: dtype of keys and values; None = `dtype`.
    """

    config: DecoderConfig
    train: Layout
    sample: Layout
    dtype: jnp.dtype
    cache_dtype: jnp.dtype | None = None

    def _weights(self, table: dict[str, Parameter], dtype: jnp.dtype) -> Decoder:
        """Returns the shapes of the weights in a parameter table, sharded as in training."""
        return Decoder({n: put(self.train, p.shape, dtype, *p.axes) for n, p in table.items()})

    @property
    def before(self) -> Decoder:
        """Shapes of the model before unlearning, in the dtype of activations."""
        return self._weights(parameters(self.config), self.dtype)

    def step_config(self, settings: TrainConfig) -> StepConfig:
        """Returns the static settings of a training step, with XLA's attention kernel.

        Every device supports this kernel.
        """
        static = StepConfig.of(settings, self.config, self.train, self.dtype)
        return dataclasses.replace(static, kernel="xla")

    def state(self, settings: TrainConfig) -> tuple[Any, Decoder | None]:
        """Returns the shapes of the training state and of the frozen weights.

        The frozen weights are None if no adapters are trained.
        """
        static = self.step_config(settings)
        table, base = parameters(self.config), None
        if static.lora is not None:
            table, base = adapters(self.config, static.lora), self.before
        return abstract_state(self._weights(table, jnp.float32), static=static), base


def put(layout: Layout, shape: tuple[int, ...], dtype, *axes: str | None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.sharding(axes, shape))


def lower_train(model: Model, settings: TrainConfig, shape: TrainShape) -> jax.stages.Lowered:
    """Lowers the program of a gradient step."""
    m, r, s, a = shape.micro_batches, shape.rows, shape.tokens, shape.answers
    array = functools.partial(put, model.train)
    tokens = array((m, r, s), jnp.int32, None, "rows", None)
    answers = array((m, r, a), jnp.int32, None, "rows", None)
    batch = TrainBatch(
        *[tokens] * 3,
        *[answers] * 2,
        array((shape.terms, m, r, a), jnp.float32, None, None, "rows", None),
        array((shape.terms,), jnp.float32, None),
        array((0,), jnp.int32, None),
    )
    state, base = model.state(settings)
    static = dataclasses.replace(model.step_config(settings), objective=shape.objective)
    reference = None if shape.objective is None else model.before
    rate = array((), jnp.float32)
    return train_step.lower(state, batch, rate, base, reference, static=static)


def lower_weight_sync(model: Model, settings: TrainConfig) -> jax.stages.Lowered:
    """Lowers the program that converts the training weights to the layout of sampling."""
    state, base = model.state(settings)
    options = (model.config, model.sample, model.dtype, model.train)
    if base is None:
        return snapshot.lower(state.model, *options)

    def merged(base: Decoder, trained: Decoder):
        return snapshot(attach(base, trained, settings.lora), *options)

    return jax.jit(merged).lower(base, state.model)


def sampling_bytes(model: Model) -> int:
    """Computes the bytes of the sampling weights on one device."""
    table = parameters(model.config).values()
    return device_bytes([put(model.sample, p.shape, model.dtype, *p.axes) for p in table])


def device_bytes(tree: Any) -> int:
    """Computes the bytes on one device of all arrays in a pytree of shapes with shardings."""
    return sum(
        x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree)
    )


def outputs(lowered: jax.stages.Lowered, compiled: jax.stages.Compiled) -> Any:
    """Returns the shapes of a program's outputs, with the shardings that the compiler chose."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        lowered.out_info,
        compiled.output_shardings,
    )


def lower_prefill(model: Model, weights: Any, shape: SampleShape) -> jax.stages.Lowered:
    """Lowers the program that prefills prompts.

    `weights` are the shapes of the outputs of the weight sync, as `outputs` returns them.
    """
    array = functools.partial(put, model.sample)
    size = (shape.prompts, shape.prompt_tokens)
    return prefill.lower(
        weights,
        array((0,), jnp.int32, None),
        array(size, jnp.int32, "rows", None),
        array(size, jnp.bool_, "rows", None),
        config=model.config,
        layout=model.sample,
        cache_dtype=model.cache_dtype,
    )


def lower_start(model: Model, prompts: Any, shape: SampleShape) -> jax.stages.Lowered:
    """Lowers the program that creates the caches of a decode batch.

    `prompts` are the shapes of the prompt cache, the first output of the prefill.
    """
    b, k = shape.batch_shape
    rows, static = put(model.sample, (b,), jnp.int32, "rows"), {"layout": model.sample}
    return start_batch.lower(prompts, rows, slots=k, cache_size=shape.cache_size, **static)


def lower_decode(
    model: Model, weights: Any, prompts: Any, cache: Any, shape: SampleShape
) -> jax.stages.Lowered:
    """Lowers the program of a decoder call. Its cost is the cost of one decode step.

    Args:
        weights: shapes of the sampling weights.
        prompts, cache: shapes of the outputs of the program that `lower_start` lowers.
    """
    array = functools.partial(put, model.sample)
    slots = array(shape.batch_shape, jnp.int32, "rows", None)
    draws = (Engine.decode_chunk, *shape.batch_shape, shape.sampler.draws)
    number = array((), jnp.int32)
    return decode.lower(
        weights,
        prompts,
        cache,
        Slots(slots, slots, slots),
        array(draws, jnp.float32, None, "rows", None, None),
        number,
        number,
        sampler=shape.sampler,
        end_tokens=(0,),
        config=model.config,
        layout=model.sample,
    )
