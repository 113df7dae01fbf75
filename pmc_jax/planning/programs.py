"""The programs of a run, lowered from shapes alone: nothing is allocated, no weights are read."""

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
from pmc_jax.models.parameters import parameters
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
    """A model on a mesh, as shapes.

    Attributes:
        config: of the decoder.
        train, sample: layouts.
        dtype: of activations and of the sampling weights.
        cache_dtype: of keys and values; None = `dtype`.
    """

    config: DecoderConfig
    train: Layout
    sample: Layout
    dtype: jnp.dtype
    cache_dtype: jnp.dtype | None = None

    def weights(self, dtype: jnp.dtype) -> Decoder:
        """In the training layout."""
        return self._placed(parameters(self.config), dtype)

    def _placed(self, table, dtype) -> Decoder:
        arrays = {name: put(self.train, p.shape, dtype, *p.axes) for name, p in table.items()}
        return Decoder(arrays)

    def step_config(self, settings: TrainConfig) -> StepConfig:
        """Of a training step by XLA's own attention, which every device has."""
        static = StepConfig.of(settings, 1000, self.config, self.train, self.dtype)
        return dataclasses.replace(static, kernel="xla")

    def state(self, static: StepConfig) -> tuple[Any, Decoder | None]:
        """The training state, and the frozen weights beside it where adapters are trained."""
        lora = static.lora
        base = None if lora is None else self.weights(self.dtype)
        table = parameters(self.config) if lora is None else adapters(self.config, lora)
        return abstract_state(self._placed(table, jnp.float32), static=static), base


def put(layout: Layout, shape: tuple[int, ...], dtype, *axes: str | None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.sharding(axes, shape))


def lower_train(model: Model, settings: TrainConfig, shape: TrainShape) -> jax.stages.Lowered:
    """A gradient step."""
    m, r, s, a = shape.micro_batches, shape.rows, shape.tokens, shape.answers
    at = functools.partial(put, model.train)
    tokens = at((m, r, s), jnp.int32, None, "rows", None)
    answers = at((m, r, a), jnp.int32, None, "rows", None)
    batch = TrainBatch(
        tokens,
        tokens,
        tokens,
        answers,
        answers,
        at((shape.terms, m, r, a), jnp.float32, None, None, "rows", None),
        at((shape.terms,), jnp.float32, None),
        at((0,), jnp.int32, None),
    )
    static = model.step_config(settings)
    state, base = model.state(static)
    return train_step.lower(state, batch, base, static=static)


def lower_weight_sync(model: Model, settings: TrainConfig) -> jax.stages.Lowered:
    """From the training layout to that of sampling."""
    state, base = model.state(model.step_config(settings))
    options = (model.config, model.sample, model.dtype, model.train)
    if base is None:
        return snapshot.lower(state.model, *options)

    def merged(base: Decoder, trained: Decoder):
        return snapshot(attach(base, trained, settings.lora), *options)

    return jax.jit(merged).lower(base, state.model)


def sampling_bytes(model: Model) -> int:
    """Of the sampling weights on a device, by the sampling table."""
    table = parameters(model.config)
    shards = (model.sample.sharding(p.axes, p.shape).shard_shape(p.shape) for p in table.values())
    return model.dtype.itemsize * sum(math.prod(shape) for shape in shards)


def device_bytes(tree: Any) -> int:
    """Of shapes with shardings, on one device."""
    return sum(
        x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree)
    )


def outputs(lowered: jax.stages.Lowered, compiled: jax.stages.Compiled) -> Any:
    """What a program returns, as shapes with the shardings that the compiler chose."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        lowered.out_info,
        compiled.output_shardings,
    )


def lower_prefill(model: Model, weights: Any, shape: SampleShape) -> jax.stages.Lowered:
    """Prompts through the model; `weights` are `outputs` of the hand-over."""
    at = functools.partial(put, model.sample)
    size = (shape.prompts, shape.prompt_tokens)
    return prefill.lower(
        weights,
        at((0,), jnp.int32, None),
        at(size, jnp.int32, "rows", None),
        at(size, jnp.bool_, "rows", None),
        config=model.config,
        layout=model.sample,
        cache_dtype=model.cache_dtype,
    )


def lower_start(model: Model, prefix: Any, shape: SampleShape) -> jax.stages.Lowered:
    """The decode batch; `prefix` is the first of the `outputs` of the prefill."""
    rows = put(model.sample, (shape.batch_shape[0],), jnp.int32, "rows")
    static = dict(slots=shape.batch_shape[1], cache_size=shape.cache_size, layout=model.sample)
    return start_batch.lower(prefix, rows, **static)


def lower_decode(
    model: Model, weights: Any, prefix: Any, cache: Any, shape: SampleShape
) -> jax.stages.Lowered:
    """A segment, of which its cost counts one step; `prefix` and `cache` are those of the start."""
    at = functools.partial(put, model.sample)
    slots = at(shape.batch_shape, jnp.int32, "rows", None)
    draws = (Engine.decode_chunk, *shape.batch_shape, shape.sampler.draws)
    number = at((), jnp.int32)
    return decode.lower(
        weights,
        prefix,
        cache,
        Slots(slots, slots, slots),
        at(draws, jnp.float32, None, "rows", None, None),
        number,
        number,
        sampler=shape.sampler,
        end_tokens=(0,),
        config=model.config,
        layout=model.sample,
    )
