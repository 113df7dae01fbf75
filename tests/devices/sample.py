"""Greedy and seeded samples of the tiny decoder on meshes of eight devices; prints them by mesh."""

import functools
import json

import jax
import jax.numpy as jnp
from tiny_cases import NO_END, TINY, meshes, prompts, sample_layout, tiny_model, train_layout

from pmc_jax.sampling import buckets
from pmc_jax.sampling.buckets import grid_shape
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import snapshot


@functools.cache
def weights_on(sizes: tuple[int, ...]):
    on = sample_layout(sizes)
    return on, snapshot(tiny_model(train_layout(sizes)), TINY, on, jnp.dtype("float32"))


def samples(
    sizes: tuple[int, ...],
    sampler: Sampler,
    *,
    batch_size: int = 32,
    opening: tuple[int, ...] = (),
    **choices,
) -> tuple[list, list]:
    """Tokens, and nats a token."""
    on, weights = weights_on(sizes)
    grid = grid_shape(8, choices["num_samples"], batch_size, platform="tpu")
    engine = Engine(TINY, on, sampler, grid=grid, prompt_size=16, opening=opening, **choices)
    key, found, asked = jax.random.key(7), {}, [[*opening, *prompt] for prompt in prompts(8)]
    for group in engine.generate(weights, asked, key=key, ids=range(8)):
        samples = zip(group.tokens.tolist(), group.nats.tolist(), strict=True)
        found |= dict(zip(group.rows.tolist(), samples, strict=True))
    return tuple([found[i][part] for i in range(8)] for part in (0, 1))


def main() -> None:
    result = {"devices": len(jax.devices())}
    result |= {name: {} for name in ("meshes", "nats", "compacted", "refilled")}
    once = dict(max_new_tokens=8, end_tokens=(NO_END,))
    for sizes in ((1, 1, 1), *meshes()):
        greedy, _ = samples(sizes, GREEDY, num_samples=1, **once)
        cooling = Sampler(
            3.0,
            top_k=20,
            top_p=0.95,
            temperature_decay_tokens=3,
            final_temperature=0.9,
            return_logprobs=True,
        )
        drawn, result["nats"][str(sizes)] = samples(sizes, cooling, num_samples=2, **once)
        result["meshes"][str(sizes)] = [greedy, drawn]
    buckets._FEWEST_CELLS = 1  # tiny grids shrink too
    ends = dict(max_new_tokens=36, end_tokens=(3, 50, 77, 90))
    for sizes in ((1, 1, 1), (2, 2, 2)):
        result["compacted"][str(sizes)], _ = samples(sizes, Sampler(), num_samples=4, **ends)
        few = dict(batch_size=16, num_samples=5, opening=(7, 3, 9))
        result["refilled"][str(sizes)], _ = samples(sizes, Sampler(top_p=0.9), **few, **ends)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
