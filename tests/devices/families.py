"""Every family on fsdp 2 x tensor 4; prints the distance to PyTorch's logits and greedy tokens."""

import json

import jax
import numpy as np
from golden_models import FAMILY_CASES, GOLDEN, cached_greedy, full_logits, golden_model

from pmc_jax.distributed.mesh import TRAIN_RULES, layout, make_mesh


def main() -> None:
    on = layout(make_mesh(1, 2, 4), TRAIN_RULES)
    result = {"devices": len(jax.devices()), "families": {}}
    for case in FAMILY_CASES:
        golden = np.load(GOLDEN / case / "golden.npz")
        model, config, _ = golden_model(case, on)
        ours = full_logits(model, config, on, golden["tokens"], golden["lengths"])
        prompts = [golden["tokens"][0].tolist()] * 2
        tokens = cached_greedy(model, config, on, prompts, 32)
        result["families"][case] = {
            "logits": float(np.abs(ours[0] - golden["logits"][0]).max()),
            "greedy": tokens[0].tolist(),
        }
    print(json.dumps(result))


main()
