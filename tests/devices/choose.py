"""Draws tokens with rows and vocabulary sharded over eight devices; prints them by mesh."""

import json

import jax
import numpy as np
from tiny_cases import meshes, train_layout

from pmc_jax.sampling.sampler import GREEDY, Sampler, sample_tokens

SAMPLERS = (GREEDY, Sampler(), Sampler(0.9, top_k=20, top_p=0.95))


draw = jax.jit(sample_tokens, static_argnums=2)


def main() -> None:
    logits = np.random.default_rng(0).normal(size=(64, 296)).astype(np.float32)
    uniform = np.asarray(jax.random.uniform(jax.random.key(0), (64, SAMPLERS[-1].draws)))
    result = {"devices": len(jax.devices())}
    for sizes in ((1, 1, 1), *meshes()):
        on = train_layout(sizes)
        x, u = on.put(logits, "rows", "vocab"), on.put(uniform, "rows", None)
        result[str(sizes)] = [np.asarray(draw(x, u, s)).tolist() for s in SAMPLERS]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
