"""Sampling of a Llama-3.2-1B shape with two layers, compiled for eight TPU v5e chips; prints what
the compiler made of the decode loop and of the sync of the weights. No TPU is needed.
"""

import json
import re

import jax
import jax.numpy as jnp

from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, layout, make_mesh
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.parameters import parameters
from pmc_jax.planning.cost import collective_bytes
from pmc_jax.planning.programs import outputs
from pmc_jax.planning.topology import topology
from pmc_jax.sampling.decode import Slots, decode, start_batch
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import snapshot

CONFIG = DecoderConfig(
    128256, 2048, 8192, num_layers=2, num_heads=32, num_kv_heads=8, head_dim=64, tie_embeddings=True
)
ROWS, SLOTS, PROMPT, CACHE_SIZE = 16, 2, 48, 128
SAMPLER = Sampler(1.25, top_p=0.95)


def array(shape, dtype, sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def run(function, *arguments):
    """Compiles; the program and what it returns, as shapes with shardings."""
    lowered = function.lower(*arguments)
    program = lowered.compile()
    return program, outputs(lowered, program)


def main() -> None:
    _, devices = topology("v5e:2x4")
    mesh = make_mesh(1, 2, 4, devices=devices)
    train, sample = layout(mesh, TRAIN_RULES), layout(mesh, SAMPLE_RULES)
    static = dict(config=CONFIG, layout=sample)
    model = Decoder(
        {
            name: array(p.shape, jnp.float32, train.sharding(p.axes, p.shape))
            for name, p in parameters(CONFIG).items()
        }
    )

    def put(shape, dtype, *axes):
        return array(shape, dtype, sample.sharding(axes, shape))

    weight_sync, weights = run(jax.jit(lambda m: snapshot(m, CONFIG, sample, jnp.bfloat16)), model)
    shared_prefix = put((16,), jnp.int32, None)
    tokens = put((ROWS, PROMPT), jnp.int32, "rows", None)
    valid = put((ROWS, PROMPT), jnp.bool_, "rows", None)
    prompts = jax.jit(lambda *a: prefill(*a, **static))
    _, (prompt_cache, _) = run(prompts, weights, shared_prefix, tokens, valid)
    rows = put((ROWS,), jnp.int32, "rows")
    start = jax.jit(lambda *a: start_batch(*a, slots=SLOTS, cache_size=CACHE_SIZE, layout=sample))
    _, (prompt_cache, cache) = run(start, prompt_cache, rows)
    ones = put((ROWS, SLOTS), jnp.int32, "rows", None)
    uniform = put((16, ROWS, SLOTS, SAMPLER.draws), jnp.float32, None, "rows", None, None)
    number = put((), jnp.int32)
    program = decode.lower(
        weights,
        prompt_cache,
        cache,
        Slots(ones, ones, ones),
        uniform,
        number,
        number,
        sampler=SAMPLER,
        end_tokens=(0,),
        **static,
    ).compile()
    shards = (ROWS * SLOTS // 2, CONFIG.num_kv_heads // 4)
    shapes = ((*shards, CONFIG.head_dim, CACHE_SIZE), (*shards, CACHE_SIZE, CONFIG.head_dim))
    names = {f"bf16[{','.join(map(str, shape))}]" for shape in shapes}
    text = program.as_text()
    copies = re.findall(r"= (\w+\[[\d,]+\])\S* (?:copy|copy-start|transpose)\(", text)
    print(
        json.dumps(
            {
                "caches_in_text": sum(name in text for name in names),
                "cache_copies": sum(copy in names for copy in copies),
                "aliased_bytes": program.memory_analysis().alias_size_in_bytes,
                "cache_bytes": sum(x.size * 2 for x in jax.tree.leaves(cache)) // 8,
                "decode_collectives": collective_bytes(program),
                "weight_sync_collectives": collective_bytes(weight_sync),
                "weight_bytes": sum(x.size * 2 for x in jax.tree.leaves(weights)) // 4,
            }
        )
    )


if __name__ == "__main__":
    main()
