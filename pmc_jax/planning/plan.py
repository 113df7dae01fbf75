"""`pmc plan`: a run's programs compiled for a TPU slice that nobody has to rent for that."""

import dataclasses
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.run_folder import versions
from pmc_jax.config.run import Config, model_path, to_dict
from pmc_jax.config.train import TrainConfig
from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, layout, make_mesh
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families import decoder_config
from pmc_jax.models.load import find, read_json
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning import programs
from pmc_jax.planning.bound import Network
from pmc_jax.planning.chips import Chip
from pmc_jax.planning.compiled import Program, compile_program
from pmc_jax.planning.topology import topology
from pmc_jax.planning.workload import TrainShape, Workload, count_rows, workload

_KIND = "pmc plan"  # marks a plan.json as ours


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run takes on a slice.

    Attributes:
        config: the settings, those found by a search included.
        chip: of all devices.
        devices: how many jax sees.
        model: the decoder.
        mesh: size of each axis.
        work: how often each program runs.
        programs: by name: train_step, weight_sync, prefill, decode_step, and finetune_step.
        state, weights, cache: bytes on a device of the training state, of the sampling weights, and
            of keys and values of a full batch.
    """

    config: Config
    chip: Chip
    devices: int
    model: DecoderConfig
    mesh: dict[str, int]
    work: Workload
    programs: dict[str, Program]
    state: int
    weights: int
    cache: int

    @property
    def fits(self) -> bool:
        return all(p.fits for p in self.programs.values()) and "decode_step" in self.programs

    @property
    def chips(self) -> int:
        return self.devices // self.chip.devices

    def flops_6nd(self, shape: TrainShape) -> float:
        """6 x parameters x tokens computed in a gradient step (arXiv 2001.08361, section 2.1)."""
        return 6.0 * num_parameters(self.model) * shape.computed

    def model_flops(self, shape: TrainShape) -> float:
        """The same with the output head on answer positions only, where it is needed; of adapters
        4 instead of 6, for the frozen weights have no gradient.
        """
        head = self.model.vocab_size * self.model.hidden_size
        embeddings = head * (1 if self.model.tie_embeddings else 2)
        answers = shape.micro_batches * shape.rows * shape.answers
        used = (num_parameters(self.model) - embeddings) * shape.computed + head * answers
        return (4.0 if self.config.train.lora.rank else 6.0) * used

    def utilisation(self, shape: TrainShape, seconds: float) -> float:
        """Of the chips' peak, by `model_flops`."""
        return self.model_flops(shape) / (seconds * self.devices * self.chip.flops)

    def _trained(self) -> Iterator[tuple[str, TrainShape, Program]]:
        """The training programs whose cost is known."""
        for name, shape in (("train_step", self.work.train), ("finetune_step", self.work.finetune)):
            if (program := self.programs.get(name)) and program.cost:
                yield name, shape, program

    def ratios(self) -> dict[str, float]:
        """Products of training beside `flops_6nd`; traffic of a decode step beside weights and
        cache read once.
        """
        found = {}
        for name, shape, p in self._trained():
            flops = p.cost.flops * self.devices
            found[f"{name}_flops_per_6nd"] = flops / self.flops_6nd(shape)
        if (p := self.programs.get("decode_step")) and p.cost:
            found["decode_step_hbm_per_weights_and_cache"] = p.cost.hbm / (
                self.weights + self.cache
            )
        return found

    def stages(self, kind: str) -> dict[str, float]:
        """Seconds of the whole run by stage; `kind` is `seconds` (the bound) or `estimated`."""
        work, zero = self.work, 0.0
        each = {
            n: getattr(p.bound, kind) if p.bound else math.nan for n, p in self.programs.items()
        }
        sampling = (
            work.rounds * each.get("weight_sync", zero)
            + work.prefills * each.get("prefill", zero)
            + work.decode_steps * each.get("decode_step", math.nan)
        )
        found = {"finetune": work.finetune_steps * each.get("finetune_step", zero)}
        found |= {"sample and evaluate": sampling, "train": work.steps * each["train_step"]}
        return found | {"total": sum(found.values())}

    def record(self) -> dict[str, Any]:
        """JSON values: what `plan.json` holds."""
        rates = {}
        for name, shape, p in self._trained():
            rates[name] = {
                kind: {
                    "tokens_per_second": shape.computed / getattr(p.bound, kind),
                    "model_flop_utilisation": self.utilisation(shape, getattr(p.bound, kind)),
                }
                for kind in ("seconds", "estimated")
            }
        if (p := self.programs.get("decode_step")) and p.bound:
            rates["decode_step"] = {
                kind: {"tokens_per_second": self.work.sample.slots / getattr(p.bound, kind)}
                for kind in ("seconds", "estimated")
            }
        return {
            "kind": _KIND,
            "topology": self.config.plan.topology,
            "num_slices": self.config.plan.num_slices,
            "chips": self.chips,
            "devices": self.devices,
            "chip": dataclasses.asdict(self.chip),
            "mesh": self.mesh,
            "parameters": num_parameters(self.model),
            "fits": self.fits,
            "programs": {name: _program_record(p) for name, p in self.programs.items()},
            "ratios": self.ratios(),
            "rates": rates,
            "run": {
                "steps": self.work.steps,
                "finetune_steps": self.work.finetune_steps,
                "rounds": self.work.rounds,
                "decode_steps": self.work.decode_steps,
                "bound_seconds": self.stages("seconds"),
                "estimated_seconds": self.stages("estimated"),
                "bound_chip_hours": self.chips * self.stages("seconds")["total"] / 3600,
                "estimated_chip_hours": self.chips * self.stages("estimated")["total"] / 3600,
            },
            "config": to_dict(self.config),
            "versions": versions() | {"libtpu": importlib.metadata.version("libtpu")},
            "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS", ""),
        }


def _program_record(program: Program) -> dict[str, Any]:
    cost, bound = program.cost, program.bound
    found = {
        "arguments_bytes": program.arguments,
        "temporaries_bytes": program.temporaries,
        "beside_bytes": program.beside,
        "total_bytes": program.total,
        "fits": program.fits,
        "compile_seconds": program.compile_seconds,
    }
    if cost is not None:
        found |= {"flops": cost.flops, "hbm_bytes": cost.hbm, "estimated_cycles": cost.cycles}
        found |= {"collectives": program.collectives, "bound": dataclasses.asdict(bound)}
        found["bound"] |= {"seconds": bound.seconds, "by": bound.by}
    return found


def decoder_shape(config: Config) -> DecoderConfig:
    """The decoder of `model.config`, or of `model.path`; no weights are read.

    Raises:
        UserError: neither is there, or it is of no supported family.
    """
    if config.model.config is not None:
        path = Path(config.model.config).expanduser()
        path = path / "config.json" if path.is_dir() else path
        return decoder_config(read_json(path), str(path))
    try:
        path = find(model_path(config))
    except UserError as error:
        raise UserError(f"{error}; to plan alone, set model.config to its config.json") from None
    if path.is_dir():
        return decoder_config(read_json(path / "config.json"), str(path / "config.json"))
    from pmc_jax.models.gguf import GGUFFile
    from pmc_jax.models.gguf_config import hf_config

    return decoder_config(hf_config(GGUFFile(path)), str(path))


class Planner:
    """Compiles the programs of settings for one slice; what two settings share is compiled once.

    Raises:
        UserError: no topology, or one that is not known; no shape of a model; no TPU compiler; the
            number of questions is not to be found.
    """

    def __init__(self, config: Config, say: Callable[[str], None] = lambda text: None):
        plan = config.plan
        if plan.topology is None:
            raise UserError("plan.topology: not given; name a TPU slice such as v5e:4x4")
        self.model = decoder_shape(config)
        self.chip, self.devices = topology(plan.topology, plan.num_slices)
        self._rows = count_rows(config)
        self._say, self._known = say, {}

    def model_on(self, config: Config) -> programs.Model:
        """The model on the mesh that settings ask for."""
        c = config.mesh
        slices = config.plan.num_slices if config.plan.num_slices > 1 else c.slices
        mesh = make_mesh(c.data, c.fsdp, c.tensor, slices=slices, devices=self.devices)
        dtype = "bfloat16" if config.model.compute_dtype == "auto" else config.model.compute_dtype
        cache = config.model.cache_dtype
        return programs.Model(
            self.model,
            layout(mesh, TRAIN_RULES, c.train_rules),
            layout(mesh, SAMPLE_RULES, c.sample_rules),
            jnp.dtype(dtype),
            None if cache == "auto" else jnp.dtype(cache),
        )

    def sizes(self, config: Config) -> dict[str, int]:
        """Bytes on a device of the training state and of the sampling weights, by shapes alone."""
        model = self.model_on(config)
        state, base = model.state(config.train)
        weights = programs.sampling_bytes(model)
        return {"state": programs.device_bytes((state, base)), "weights": weights}

    def train(self, config: Config) -> dict[str, Program]:
        """`train_step`, and `finetune_step` where a target is made."""
        model = self.model_on(config)
        work = workload(config, self._rows, model.train.row_multiple)
        found = {"train_step": self._train("train_step", model, config.train, work.train)}
        if work.finetune is not None:
            found["finetune_step"] = self._train(
                "finetune_step", model, config.finetune, work.finetune
            )
        return found

    def _train(
        self, name: str, model: programs.Model, settings: TrainConfig, shape: TrainShape
    ) -> Program:
        def lower() -> jax.stages.Lowered:
            return programs.lower_train(model, settings, shape)

        return self._compiled((name, model, settings, shape), name, model, lower)[0]

    def sample(self, config: Config) -> tuple[dict[str, Program], dict[str, int]]:
        """`weight_sync`, `prefill` and `decode_step`, as far as they fit; bytes on a device of the
        training state, the sampling weights and the cache.
        """
        model = self.model_on(config)
        shape = workload(config, self._rows, model.train.row_multiple).sample
        state, base = model.state(config.train)
        held = programs.device_bytes((state, base))
        source = state.model if base is None else (base, state.model)
        sizes = {"state": held, "weights": 0, "cache": 0}
        key, found = (model, config.train, shape), {}

        def run(name: str, lower: Callable[[], jax.stages.Lowered], beside: int):
            found[name], out = self._compiled((name, *key), name, model, lower, beside=beside)
            return out if found[name].fits else None

        out = run(
            "weight_sync",
            lambda: programs.lower_weight_sync(model, config.train),
            held - programs.device_bytes(source),
        )
        if out is None:
            return found, sizes
        weights, sizes["weights"] = out, programs.device_bytes(out)
        out = run("prefill", lambda: programs.lower_prefill(model, weights, shape), held)
        if out is None:
            return found, sizes
        started = programs.lower_start(model, out[0], shape)
        prefix, cache = programs.outputs(started, started.compile())
        sizes["cache"] = programs.device_bytes((prefix, cache))
        run(
            "decode_step",
            lambda: programs.lower_decode(model, weights, prefix, cache, shape),
            held,
        )
        return found, sizes

    def _compiled(self, key, name, model, lower, *, beside: int = 0) -> tuple[Program, Any]:
        """A program and what it returns; compiled once."""
        if (key := (*key, beside)) not in self._known:
            mesh = model.train.mesh
            network = Network(self.chip, tuple(mesh.devices.flat), tuple(mesh.shape.items()))
            self._say(f"compiling {name} for {mesh.devices.size} devices")
            lowered = lower()
            program, compiled = compile_program(name, lowered, network, beside=beside)
            out = None if compiled is None else programs.outputs(lowered, compiled)
            self._known[key] = program, out
        return self._known[key]

    def plan(self, config: Config) -> Plan:
        """All programs of the settings."""
        model = self.model_on(config)
        trained = self.train(config)
        sampled, sizes = self.sample(config)
        return Plan(
            config,
            self.chip,
            len(self.devices),
            self.model,
            dict(model.train.mesh.shape),
            workload(config, self._rows, model.train.row_multiple),
            {**trained, **sampled},
            **sizes,
        )


def write_plan(plan: Plan, path: str | Path) -> None:
    """Writes `plan.json`; only another plan is replaced, see `check_file`."""
    check_file(path)
    write_json(path, plan.record())


def check_file(path: str | Path) -> None:
    """Raises a UserError where the plan would replace a file that is no plan."""
    path = Path(path)
    if path.exists():
        try:
            ours = json.loads(path.read_text(encoding="utf-8"))["kind"] == _KIND
        except (OSError, ValueError, LookupError, TypeError):
            ours = False
        if not ours:
            raise UserError(f"{path}: is no plan; move it away or set plan.file")
