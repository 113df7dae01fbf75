"""Plans for TPU slices, by the TPU's compiler; prints their records. No TPU is needed."""

import json
import sys
import tempfile
from pathlib import Path

from pmc_jax.config.run import Config, config_from_dict
from pmc_jax.planning.plan import Planner
from pmc_jax.planning.search import search

SHAPES = Path(__file__).parents[2] / "configs" / "models"
# Large enough for the partitioner to do what it does with real models, two layers deep.
SMALL = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
}
PUBLISHED = {
    "sampling": {
        **{"num_samples": 5, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "batch_size": 160},
        **{"temperature_decay_tokens": 0, "max_attempts": 1},
    },
    "schedule": {"retain_rows": 1, "steps_per_round": 1, "epochs": 15},
    "selection": {"max_perplexity": None},
}
ROWS_A_CHIP = 4


def settings(shape: Path, topology: str, *, mesh: dict, plan: dict | None = None, **more) -> Config:
    return config_from_dict(
        {
            "model": {"config": str(shape)},
            "pmc": PUBLISHED,
            "train": {"remat": "full", "batch_size": 32},
            "mesh": mesh,
            "plan": {"topology": topology, "questions": 400, **(plan or {})},
            **more,
        }
    )


def planned(config: Config) -> dict:
    return Planner(config).plan(config).record()


def trained(config: Config) -> dict:
    """Bytes that a device receives in a training step, by collective and axes; whether it fits."""
    planner = Planner(config)
    program = planner.train(config)["train_step"]
    moved = {f"{c['kind']} {c['axes']}": c["bytes"] for c in program.collectives}
    return {"moved": moved, "fits": program.fits, "devices": len(planner.devices)}


def llama_3b() -> dict:
    shape, mesh = SHAPES / "llama32_3b.json", {"data": 1, "fsdp": -1}
    plan = {"rows": 64, "row_tokens": 256}
    return planned(settings(shape, "v5e:4x4", mesh=mesh, plan=plan))


def two_slices(small: Path) -> dict:
    mesh = {"data": 1, "fsdp": -1}
    plan = {"num_slices": 2, "rows": 8 * ROWS_A_CHIP, "row_tokens": 128}
    return trained(settings(small, "v5e:2x2", mesh=mesh, plan=plan))


def doubled(small: Path) -> dict:
    """Bytes moved in slices of more and more chips: as many rows on each, four shards, copies."""
    mesh, moved = {"data": -1, "fsdp": 4}, {}
    for topology, chips in (("v5e:4x4", 16), ("v5e:8x8", 64)):
        plan = {"rows": ROWS_A_CHIP * chips, "row_tokens": 128}
        moved[chips] = trained(settings(small, topology, mesh=mesh, plan=plan))["moved"]
    return moved


def sharded(folder: Path) -> dict:
    """Bytes moved where all chips share the weights: as many rows on each, more and more chips."""
    wide = {"hidden_size": 2048, "intermediate_size": 4096, "num_attention_heads": 16}
    shape, moved = folder / "wide.json", {}
    shape.write_text(json.dumps({**SMALL, **wide, "head_dim": 128}))
    for topology, chips in (("v5e:4x4", 16), ("v5e:4x8", 32), ("v5e:8x8", 64)):
        plan = {"rows": ROWS_A_CHIP * chips, "row_tokens": 128}
        config = settings(shape, topology, mesh={"data": 1, "fsdp": -1}, plan=plan)
        moved[chips] = trained(config)["moved"]
    return moved


def kinds(small: Path) -> dict:
    mesh = {"data": 1, "fsdp": -1, "tensor": 2}
    topologies = ("v4:2x2x1", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")
    return {topology: trained(settings(small, topology, mesh=mesh)) for topology in topologies}


def searched(small: Path) -> dict:
    """From 2,048 rows of up to 2,048 tokens a micro-batch with nothing computed twice."""
    config = settings(
        small,
        "v5e:2x2",
        mesh={"data": 1, "fsdp": -1},
        train={"remat": "none", "batch_size": 2048},
        data={"max_length": 2048},
    )
    said: list[str] = []
    plan = search(Planner(config), config, said.append)
    train = plan.config.train
    return {
        "fits": plan.fits,
        "remat": train.remat,
        "batch_size": train.batch_size,
        "accumulation_steps": train.accumulation_steps,
        "said": said,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "config.json"
        small.write_text(json.dumps(SMALL))
        if sys.argv[1] == "long":
            records = {
                "kinds": kinds(small),
                "search": searched(small),
                "sharded": sharded(small.parent),
                "doubled": doubled(small),
            }
        elif sys.argv[1] == "3b":
            records = {"3b": llama_3b()}
        else:
            records = {"slices": two_slices(small)}
    print(json.dumps(records))


if __name__ == "__main__":
    main()
