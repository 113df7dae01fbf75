"""Search for a mesh, remat and micro-batches that fit a TPU slice, near those of the settings."""

import dataclasses
from collections.abc import Callable, Iterator

from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError
from pmc_jax.planning.plan import Plan, Planner

_REMATS = ("none", "dots", "full")
# A mesh is rejected without compilation if the training state and the sampling weights need more
# than this fraction of HBM.
_ROOM = 0.95


def search(planner: Planner, config: Config, say: Callable[[str], None]) -> Plan:
    """Returns the plan of the settings, changed as little as needed to make all programs fit.

    The search starts with the mesh of the settings and then tries meshes with 1, 2, 4, ... `tensor`
    shards and `fsdp` over all other devices. On each mesh, it first tries the remat of the settings
    and stronger remat. If none fits, it tries full remat with half of the rows per micro-batch, a
    quarter of the rows, and so on. `say` receives a line for each attempt that does not fit.

    Raises:
        UserError: no settings fit.
    """
    for on_mesh in _meshes(planner, config):
        mesh = f"data {on_mesh.mesh.data}, fsdp {on_mesh.mesh.fsdp}, tensor {on_mesh.mesh.tensor}"
        size = planner.weight_bytes(on_mesh)
        if size > _ROOM * planner.chip.hbm:
            need = f"{size / 2**30:.1f} GiB per device"
            say(f"mesh {mesh}: the training state and the sampling weights need {need}")
            continue
        sampling, _ = planner.sample(on_mesh)
        if "decode_step" not in sampling or not all(p.fits for p in sampling.values()):
            say(f"mesh {mesh}: sampling does not fit into the device memory")
            continue
        for changed in _smaller(on_mesh):
            training = planner.train(changed).values()
            if all(program.fits for program in training):
                return planner.plan(changed)
            train, most = changed.train, max(program.total_bytes for program in training)
            say(
                f"mesh {mesh}, remat {train.remat}, batch_size {train.batch_size}, "
                f"accumulation_steps {train.accumulation_steps}: a step needs "
                f"{most / 2**30:.1f} GiB per device"
            )
    adapt = "" if config.train.lora.rank else ", or train adapters with train.lora.rank=16"
    raise UserError(
        f"plan.search: no mesh, remat or micro-batch fits plan.topology={config.plan.topology}. "
        f"Set plan.topology to a larger slice{adapt}."
    )


def _meshes(planner: Planner, config: Config) -> Iterator[Config]:
    yield config
    devices = len(planner.devices) // max(1, config.plan.num_slices)
    tensor = 1
    while tensor <= planner.model.num_kv_heads and devices % tensor == 0:
        if (devices // tensor, tensor) != (config.mesh.fsdp, config.mesh.tensor):
            mesh = dataclasses.replace(config.mesh, data=1, fsdp=devices // tensor, tensor=tensor)
            yield dataclasses.replace(config, mesh=mesh)
        tensor *= 2


def _smaller(config: Config) -> Iterator[Config]:
    """Yields the settings, and then variants that need less memory for the same rows per step."""
    for remat in _REMATS[_REMATS.index(config.train.remat) :]:
        yield _with(config, remat, 1)
    parts = 2
    while config.train.batch_size % parts == 0:
        yield _with(config, "full", parts)
        parts *= 2


def _with(config: Config, remat: str, parts: int) -> Config:
    def changed(settings: TrainConfig) -> TrainConfig:
        split = parts if settings.batch_size % parts == 0 else 1
        return dataclasses.replace(
            settings,
            remat=max(remat, settings.remat, key=_REMATS.index),
            batch_size=settings.batch_size // split,
            accumulation_steps=settings.accumulation_steps * split,
        )

    train, finetune = changed(config.train), changed(config.finetune)
    return dataclasses.replace(config, train=train, finetune=finetune)
