"""The nearest settings that fit a slice: mesh, remat, micro-batches; nothing else is changed."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from pmc_jax.config.run import Config
from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError
from pmc_jax.planning.plan import Plan, Planner

_REMATS = ("none", "dots", "full")
# Of the memory: what the arguments alone may take before the compiler is asked.
_ROOM = 0.95


def search(planner: Planner, config: Config, say: Callable[[str], None]) -> Plan:
    """The first settings in order of distance whose programs all fit: the mesh as it is, then
    meshes of more and more `tensor` shards; on each the given remat, then ones that keep less, then
    micro-batches of half the rows, a quarter, ...

    Raises:
        UserError: none fits.
    """
    for mesh in _meshes(planner, config):
        sizes = planner.sizes(mesh)
        held = sizes["state"] + sizes["weights"]
        where = f"data {mesh.mesh.data}, fsdp {mesh.mesh.fsdp}, tensor {mesh.mesh.tensor}"
        if held > _ROOM * planner.chip.hbm:
            say(f"{where}: the weights alone take {held / 2**30:.1f} GiB a device")
            continue
        sampled, _ = planner.sample(mesh)
        if "decode_step" not in sampled or not all(p.fits for p in sampled.values()):
            say(f"{where}: sampling does not fit")
            continue
        for changed in _smaller(mesh):
            trained = planner.train(changed)
            if all(program.fits for program in trained.values()):
                return planner.plan(changed)
            most = max(program.total for program in trained.values())
            t = changed.train
            say(
                f"{where}, remat {t.remat}, {t.accumulation_steps} micro-batches of "
                f"{t.batch_size}: a step takes {most / 2**30:.1f} GiB"
            )
    raise UserError(
        f"plan.search: no mesh, remat or micro-batch fits {config.plan.topology}; take a larger "
        "slice, or train adapters (train.lora.rank=16)"
    )


def _meshes(planner: Planner, config: Config) -> Iterator[Config]:
    yield config
    devices = len(planner.devices) // max(1, config.plan.num_slices)
    given = config.mesh.fsdp, config.mesh.tensor
    for power in itertools.count():
        tensor = 2**power
        if tensor > planner.model.num_kv_heads or devices % tensor:
            return
        if (devices // tensor, tensor) != given:
            mesh = dataclasses.replace(config.mesh, data=1, fsdp=devices // tensor, tensor=tensor)
            yield dataclasses.replace(config, mesh=mesh)


def _smaller(config: Config) -> Iterator[Config]:
    """The settings, and ones that need less memory for a step of the same rows."""
    first = _REMATS.index(config.train.remat)
    for remat in _REMATS[first:]:
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

    return dataclasses.replace(
        config, train=changed(config.train), finetune=changed(config.finetune)
    )
