"""Twenty steps of the tiny decoder on meshes of eight devices; prints the losses by mesh."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from tiny_cases import TINY, meshes, tiny_model, train_layout, two_terms

from pmc_jax.config.run import TrainConfig
from pmc_jax.distributed.mesh import TRAIN_RULES, layout
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.step import init_state, train_step
from pmc_jax.training.step_config import StepConfig, learning_rate

STEPS = 20


def sharded(state) -> int:
    """How many arrays of weights and optimizer state are not whole on every device."""
    return sum(not x.sharding.is_fully_replicated for x in jax.tree.leaves(state))


def run(sizes: tuple[int, ...], **rules) -> tuple[dict, dict[str, np.ndarray]]:
    """What to print, and the weights after the last step; `rules` replace rows of the table."""
    on = layout(train_layout(sizes).mesh, TRAIN_RULES, rules)
    settings = TrainConfig(learning_rate=1e-4, warmup_steps=2, remat="none")
    static = StepConfig.of(settings, TINY, on, jnp.dtype("float32"))
    state = init_state(tiny_model(on), static=static)
    before, terms, norms, programs = sharded(state), [], [], train_step._cache_size()
    # Rows padded for eight devices on every mesh: the same batch, not only the same loss.
    batch = TrainBatch.put(two_terms(8, row_multiple=8, micro_batches=2), on)
    for step in range(STEPS):
        rate = np.float32(learning_rate(settings, STEPS, step))
        state, metrics = train_step(state, batch, rate, static=static)
        terms.append(np.asarray(metrics["terms"]).tolist())
        norms.append(float(metrics["gradient_norm"]))
    found = {
        "terms": terms,
        "norms": norms,
        "compiles": train_step._cache_size() - programs,
        "sharded_before": before,
        "sharded": sharded(state),
    }
    return found, {name: np.asarray(a) for name, a in state.model.arrays().items()}


def main() -> None:
    one, weights = run((1, 1, 1))
    result = {"devices": len(jax.devices()), "(1, 1, 1)": one}
    cases = [(sizes, {}) for sizes in meshes()]
    cases += [
        (sizes, {"sequence": ("tensor",)}) for sizes in meshes() if sizes in ((1, 2, 4), (2, 2, 2))
    ]
    for sizes, rules in cases:
        found, others = run(sizes, **rules)
        differ = max(float(np.abs(others[name] - w).max()) for name, w in weights.items())
        result[" ".join([str(sizes), *rules])] = found | {"weights_differ": differ}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
