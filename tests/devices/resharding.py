"""Compiles a training step, prefill, decoding and the sync of the weights for eight
devices; prints the collectives that their programs hold, and runs nothing.
"""

import json
import math

import jax
import jax.numpy as jnp
from tiny_cases import sample_layout, train_layout

from pmc_jax.config.run import TrainConfig
from pmc_jax.distributed.mesh import TRAIN_RULES, Layout, layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.parameters import Parameter, parameters
from pmc_jax.planning.cost import collective_bytes, described
from pmc_jax.planning.hlo import KINDS, parse
from pmc_jax.planning.programs import outputs, put
from pmc_jax.sampling.decode import Slots, decode, sample_first_tokens, start_batch
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import SamplingWeights, snapshot
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.step import init_state, train_step
from pmc_jax.training.step_config import StepConfig

# Vocabulary and rows are large beside the rest, and a size with the rows in it has a factor 3,
# which no weight has: a gather of logits or of the batch stands out.
CONFIG = DecoderConfig(
    4096, 128, 512, num_layers=2, num_heads=8, num_kv_heads=8, head_dim=16, tie_embeddings=True
)
ROWS, TOKENS, ANSWERS = 48, 40, 32
SLOTS, CACHE_SIZE, STEPS = 2, 32, 16
MESHES = ((1, 1, 8), (1, 8, 1), (2, 2, 2), (2, 1, 2, 2))
SAMPLER = Sampler(1.25, top_k=50, top_p=0.9)
FLOAT32 = jnp.dtype("float32")


def collectives(program: jax.stages.Compiled) -> list:
    """Of every collective in the text: its kind, the elements of its largest result, and whether
    the two halves of the mesh talk.
    """
    found, half = [], len(jax.devices()) // 2
    for computation in parse(program.as_text()).computations.values():
        for instruction in computation.instructions.values():
            if (kind := instruction.opcode.removesuffix("-start")) not in KINDS:
                continue
            size = max(math.prod(array.dims) for array in instruction.shape)
            it = described(instruction, computation)
            groups = it.pairs or [it.group]
            if max(map(len, groups)) == 1:
                continue  # nobody to talk to
            found.append([kind, size, any(len({d // half for d in g}) > 1 for g in groups)])
    return found


def compiled(function, *arguments, **static):
    """The program, and what it returns as shapes with shardings."""
    lowered = function.lower(*arguments, **static)
    program = lowered.compile()
    return program, outputs(lowered, program)


def abstract_model(on: Layout) -> Decoder:
    table = parameters(CONFIG).items()
    return Decoder({name: put(on, p.shape, jnp.float32, *p.axes) for name, p in table})


def training(on: Layout, remat: str = "none") -> jax.stages.Compiled:
    static = StepConfig.of(TrainConfig(remat=remat), CONFIG, on, FLOAT32)
    _, state = compiled(init_state, abstract_model(on), static=static)

    def rows(*shape, dtype=jnp.int32):
        return put(on, shape, dtype, *[None] * (len(shape) - 2), "rows", None)

    size, answers = (1, ROWS, TOKENS), (1, ROWS, ANSWERS)
    batch = TrainBatch(
        tokens=rows(*size),
        positions=rows(*size),
        segments=rows(*size),
        answer_positions=rows(*answers),
        targets=rows(*answers),
        loss_weights=rows(2, *answers, dtype=jnp.float32),
        coefficients=put(on, (2,), jnp.float32, None),
        prefix=put(on, (0,), jnp.int32, None),
    )
    return compiled(train_step, state, batch, put(on, (), jnp.float32), static=static)[0]


def weight_sync(sizes: tuple[int, ...]) -> tuple[dict, SamplingWeights]:
    """Bytes that it sends and the least it could, and the weights in float32, as shapes."""
    on, source = sample_layout(sizes), train_layout(sizes)
    # XLA on CPU widens bfloat16 collectives, but not those of float16.
    static = dict(config=CONFIG, layout=on, dtype=jnp.dtype("float16"), source=source)
    program, half = compiled(snapshot, abstract_model(source), **static)
    weights = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), half
    )
    shards = [
        [math.prod(o.sharding(p.axes, p.shape).shard_shape(p.shape)) for o in (on, source)]
        for p in parameters(CONFIG).values()
    ]
    # What a device lacks is sent, in two bytes each.
    least = 2 * sum(whole for whole, held in shards if whole != held)
    return {"sent": collective_bytes(program), "least": least}, weights


def sampling(on: Layout, weights: SamplingWeights) -> dict:
    static = dict(config=CONFIG, layout=on)
    tokens = put(on, (ROWS, TOKENS), jnp.int32, "rows", None)
    valid = put(on, (ROWS, TOKENS), jnp.bool_, "rows", None)
    shared_prefix = put(on, (4,), jnp.int32, None)
    prompts, (prompt_cache, logits) = compiled(
        prefill, weights, shared_prefix, tokens, valid, **static
    )
    uniform = put(on, (ROWS, SLOTS, SAMPLER.draws), jnp.float32, "rows", None, None)
    first, _ = compiled(sample_first_tokens, logits, uniform, sampler=SAMPLER, layout=on)
    rows = put(on, (ROWS,), jnp.int32, "rows")
    _, (prompt_cache, cache) = compiled(
        start_batch, prompt_cache, rows, slots=SLOTS, cache_size=CACHE_SIZE, layout=on
    )
    slots = put(on, (ROWS, SLOTS), jnp.int32, "rows", None)
    shape = (STEPS, ROWS, SLOTS, SAMPLER.draws)
    uniform = put(on, shape, jnp.float32, None, "rows", None, None)
    number = put(on, (), jnp.int32)
    decoding, _ = compiled(
        decode,
        weights,
        prompt_cache,
        cache,
        Slots(slots, slots, slots),
        uniform,
        number,
        number,
        sampler=SAMPLER,
        end_tokens=(0,),
        **static,
    )
    return {
        "prefill": collectives(prompts),
        "first": collectives(first),
        "decode": collectives(decoding),
    }


def whole_sizes(on: Layout) -> dict:
    """Elements on one device of what is not to be sent, and of what is."""
    table, tensor = parameters(CONFIG).values(), on.mesh.shape["tensor"]
    rows = ROWS // on.row_multiple

    def layer(p: Parameter, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:] if len(p.axes) > 2 else shape)

    return {
        # Of one layer, or outside the layers: what a gather over fsdp brings.
        "weights": [layer(p, on.sharding(p.axes, p.shape).shard_shape(p.shape)) for p in table],
        "smallest_matrix": min(layer(p, p.shape) for p in table if len(p.axes) > 2),
        "tokens_in": ROWS * TOKENS,
        "embedded": ROWS * TOKENS * CONFIG.hidden_size,
        "train_logits": rows * ANSWERS * CONFIG.vocab_size // tensor,
        "logits": rows * SLOTS * CONFIG.vocab_size // tensor,
        "block_sums": rows * SLOTS * CONFIG.vocab_size // 128,
        "tokens": STEPS * ROWS * SLOTS,
    }


def main() -> None:
    result = {"devices": len(jax.devices()), "meshes": {}, "weight_sync": {}, "sequence": {}}
    for sizes in MESHES:
        on = sample_layout(sizes)
        result["weight_sync"][str(sizes)], weights = weight_sync(sizes)
        train = {"train": collectives(training(train_layout(sizes)))}
        result["meshes"][str(sizes)] = sampling(on, weights) | train | whole_sizes(on)
    result["weight_sync"]["(1, 2, 4)"], _ = weight_sync((1, 2, 4))
    for sizes in ((1, 1, 8), (1, 2, 4)):
        for name, axes in (("whole", ()), ("sharded", ("tensor",))):
            on = layout(train_layout(sizes).mesh, TRAIN_RULES, {"sequence": axes})
            program = training(on, "full")
            result["sequence"][f"{sizes} {name}"] = {
                "temp": program.memory_analysis().temp_size_in_bytes,
                "bytes": collective_bytes(program),
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
