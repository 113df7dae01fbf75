"""Twenty steps of the tiny decoder on meshes of eight devices; prints losses and answers by
mesh.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from tiny_cases import (
    MESHES,
    NO_END,
    TINY,
    prompts,
    sample_layout,
    tiny_model,
    train_layout,
    two_terms,
)

from pmc_jax.config import TrainConfig
from pmc_jax.sampling.choose import GREEDY
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.weights import snapshot
from pmc_jax.unlearning.train import TrainBatch, init_state, make_optimizer, train_step

STEPS = 20


def sharded(state) -> int:
    """How many arrays of weights and optimizer state are not whole on every device."""
    return sum(not x.sharding.is_fully_replicated for x in jax.tree.leaves(state))


def run(sizes: tuple[int, int, int]) -> dict:
    on = train_layout(sizes)
    optimizer = make_optimizer(TrainConfig(learning_rate=1e-4, warmup_steps=2), STEPS)
    state = init_state(tiny_model(on), optimizer=optimizer)
    before, terms, norms = sharded(state), [], []
    static = dict(config=TINY, layout=on, dtype=jnp.dtype("float32"), remat="none")
    for step in range(STEPS):
        # Rows padded for eight devices on every mesh: the same batches, not only the same loss.
        batch = TrainBatch.put(two_terms(8, row_multiple=8, micro_batches=2, seed=step), on)
        state, metrics = train_step(state, batch, optimizer=optimizer, **static)
        terms.append(np.asarray(metrics["terms"]).tolist())
        norms.append(float(metrics["gradient_norm"]))
    weights = snapshot(state.model, TINY, sample_layout(sizes), jnp.dtype("float32"))
    engine = Engine(
        TINY,
        sample_layout(sizes),
        GREEDY,
        num_samples=1,
        max_new_tokens=8,
        end_tokens=(NO_END,),
        group_size=8,
        prompt_size=16,
    )
    (answers,) = engine.generate(weights, prompts(8), key=jax.random.key(0), ids=range(8))
    return {
        "terms": terms,
        "norms": norms,
        "answers": answers.tokens.tolist(),
        "sharded_before": before,
        "sharded": sharded(state),
    }


def main() -> None:
    result = {"devices": len(jax.devices())}
    for sizes in ((1, 1, 1), *MESHES):
        result[str(sizes)] = run(sizes)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
