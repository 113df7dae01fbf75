"""Greedy and seeded samples of the tiny decoder on meshes of eight devices; prints them by mesh."""

import functools
import json

import jax
import jax.numpy as jnp
from tiny_cases import NO_END, TINY, meshes, prompts, sample_layout, tiny_model, train_layout

from pmc_jax.sampling.buckets import largest_batch_shape
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
    shared_prefix: tuple[int, ...] = (),
    **choices,
) -> tuple[list, list]:
    """Tokens, and their mean negative log-probabilities."""
    on, weights = weights_on(sizes)
    shape = largest_batch_shape(8, choices["num_samples"], batch_size, platform="tpu")
    engine = Engine(
        TINY,
        on,
        sampler,
        batch_shape=shape,
        prompt_size=16,
        shared_prefix=shared_prefix,
        **choices,
    )
    key, drawn, questions = jax.random.key(7), {}, [[*shared_prefix, *p] for p in prompts(8)]
    for group in engine.generate(weights, questions, key=key, ids=range(8)):
        samples = zip(group.tokens.tolist(), group.mean_nll.tolist(), strict=True)
        drawn |= dict(zip(group.questions.tolist(), samples, strict=True))
    return tuple([drawn[i][part] for i in range(8)] for part in (0, 1))


def main() -> None:
    result = {"devices": len(jax.devices())}
    result |= {name: {} for name in ("meshes", "mean_nll", "compacted", "refilled")}
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
        drawn, result["mean_nll"][str(sizes)] = samples(sizes, cooling, num_samples=2, **once)
        result["meshes"][str(sizes)] = [greedy, drawn]
    ends = dict(max_new_tokens=36, end_tokens=(3, 50, 77, 90), min_slots=1)  # tiny batches shrink
    for sizes in ((1, 1, 1), (2, 2, 2)):
        result["compacted"][str(sizes)], _ = samples(sizes, Sampler(), num_samples=4, **ends)
        few = dict(batch_size=16, num_samples=5, shared_prefix=(7, 3, 9))
        result["refilled"][str(sizes)], _ = samples(sizes, Sampler(top_p=0.9), **few, **ends)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
