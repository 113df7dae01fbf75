"""Plan of a run on a TPU slice. The programs of the run are compiled without a TPU."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax.artifacts.run_folder import versions
from pmc_jax.config import shipped
from pmc_jax.config.run import Config, model_path
from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, layout, make_mesh
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families import decoder_config
from pmc_jax.models.load import find, model_json
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning import programs
from pmc_jax.planning.bound import Bound, Network
from pmc_jax.planning.chips import Chip
from pmc_jax.planning.compiled import Program, compile_program
from pmc_jax.planning.topology import topology
from pmc_jax.planning.workload import TrainShape, Workload, count_rows, workload

_KIND = "pmc plan"  # This value marks a plan.json that pmc has written.
_TIMES = ("seconds", "estimated")  # These are attributes of `Bound`.
_COUNTS = (
    "steps",
    "finetune_steps",
    "rounds",
    "decode_steps",
)  # These are attributes of `Workload`.


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory and time that a run needs on a TPU slice.

    Attributes:
        config: settings of the run, those that a search chose included.
        chip: kind of all devices.
        devices: number of jax devices.
        model: configuration of the decoder.
        mesh: size of each mesh axis.
        work: shapes of the programs, and how often each program runs.
        programs: dict from name to memory and cost of a program. The possible names are
            train_step, finetune_step, weight_sync, prefill and decode_step.
        decode_bytes: bytes of the sampling weights and the full caches on one device; 0 if
            weight_sync or prefill does not fit.
    """

    config: Config
    chip: Chip
    devices: int
    model: DecoderConfig
    mesh: dict[str, int]
    work: Workload
    programs: dict[str, Program]
    decode_bytes: int

    @property
    def fits(self) -> bool:
        """Whether all programs of the run fit into the memory of a device."""
        return all(p.fits for p in self.programs.values()) and "decode_step" in self.programs

    @property
    def chips(self) -> int:
        return self.devices // self.chip.devices

    @functools.cached_property
    def _bounds(self) -> dict[str, Bound]:
        """Bound on the time of each program that compiles, by name."""
        return {name: p.bound for name, p in self.programs.items() if p.bound is not None}

    def model_flops(self, shape: TrainShape) -> float:
        """Computes the FLOPs of a gradient step on all devices (arXiv 2001.08361, section 2.1).

        The number is 6 x parameters x tokens. The input embedding does not count, and the output
        head counts only at answer positions. With adapters, the factor is 4 instead of 6, because
        the frozen weights have no gradient.
        """
        head = self.model.vocab_size * self.model.hidden_size
        embeddings = head * (1 if self.model.tie_embeddings else 2)
        answers = shape.micro_batches * shape.rows * shape.answers
        used = (num_parameters(self.model) - embeddings) * shape.step_tokens + head * answers
        settings = self.config.finetune if shape is self.work.finetune else self.config.train
        return (4.0 if settings.lora.rank else 6.0) * used

    def _rates(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Computes rates and ratios of the programs, for the fields `rates` and `ratios` of a plan.

        The rates of a program are tokens per second. For training, they include the fraction of the
        peak FLOP/s that the model uses. Both follow from the lower bound and from the estimate of
        the time.

        One ratio divides the FLOPs of a training program by 6 x parameters x tokens. Another ratio
        divides the HBM traffic of a decode step by the bytes of the weights and the cache.
        """
        rates, ratios, work = {}, {}, self.work
        shapes = {"train_step": work.train, "finetune_step": work.finetune}
        for name, shape in (shapes | {"decode_step": work.sample}).items():
            if name not in self._bounds:
                continue
            program = self.programs[name]
            seconds = {kind: getattr(program.bound, kind) for kind in _TIMES}
            rates[name] = {k: {"tokens_per_second": shape.step_tokens / seconds[k]} for k in _TIMES}
            if isinstance(shape, TrainShape):
                flops, peak = self.model_flops(shape), self.devices * self.chip.flops
                for kind, rate in rates[name].items():
                    rate["model_flop_utilisation"] = flops / (seconds[kind] * peak)
                needed = 6.0 * num_parameters(self.model) * shape.step_tokens
                ratios[f"{name}_flops_per_6nd"] = program.flops * self.devices / needed
            else:
                ratio = program.hbm_bytes / self.decode_bytes
                ratios["decode_step_hbm_per_weights_and_cache"] = ratio
        return rates, ratios

    def _stage_seconds(self, kind: str) -> dict[str, float]:
        """Computes the seconds of each stage of the run, and their total.

        The time is nan if a program of the stage did not compile. `kind` is `seconds` for the lower
        bound or `estimated` for the estimate.
        """

        def seconds(name: str, runs: int) -> float:
            if runs == 0:
                return 0.0
            return runs * getattr(self._bounds[name], kind) if name in self._bounds else math.nan

        work = self.work
        stages = {
            "finetune": seconds("finetune_step", work.finetune_steps),
            "sample and evaluate": seconds("weight_sync", work.rounds)
            + seconds("prefill", work.prefills)
            + seconds("decode_step", work.decode_steps),
            "train": seconds("train_step", work.steps),
        }
        return stages | {"total": sum(stages.values())}

    def record(self) -> dict[str, Any]:
        """Returns the content of `plan.json` as a dict."""
        rates, ratios = self._rates()
        bound, estimated = map(self._stage_seconds, _TIMES)
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
            "programs": {name: program.record() for name, program in self.programs.items()},
            "ratios": ratios,
            "rates": rates,
            "run": {
                **{name: getattr(self.work, name) for name in _COUNTS},
                "bound_seconds": bound,
                "estimated_seconds": estimated,
                "bound_chip_hours": self.chips * bound["total"] / 3600,
                "estimated_chip_hours": self.chips * estimated["total"] / 3600,
            },
            "config": dataclasses.asdict(self.config),
            "versions": versions() | {"libtpu": importlib.metadata.version("libtpu")},
            "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS", ""),
        }


def decoder_shape(config: Config) -> DecoderConfig:
    """Reads the configuration of the decoder from `model.config` or else from `model.path`.

    No weights are read.

    Raises:
        UserError: the configuration does not exist, or the model family is not supported.
    """
    if config.model.config is not None:
        path = shipped.find(config.model.config, suffix=".json")
    else:
        try:
            path = find(model_path(config))
        except UserError as error:
            fix = "For a plan, you can also set model.config to the model's config.json."
            raise UserError(f"{str(error).rstrip('.')}. {fix}") from None
        if not path.is_dir():
            from pmc_jax.models.gguf import GGUFFile
            from pmc_jax.models.gguf_config import hf_config

            return decoder_config(hf_config(GGUFFile(path)), str(path))
    path = path / "config.json" if path.is_dir() else path
    return decoder_config(model_json(path), str(path))


class Planner:
    """Planner that compiles the programs of runs for one TPU topology.

    A program that several settings share is compiled once.

    Args:
        config: settings with the topology, the model and the data.
        say: function that shows a line of progress.

    Raises:
        UserError: the topology is missing or unknown, the model's configuration or the TPU compiler
            is missing, or the number of questions is unknown.
    """

    def __init__(self, config: Config, say: Callable[[str], None] = lambda text: None):
        plan = config.plan
        if plan.topology is None:
            raise UserError(
                "plan.topology is not set. Set plan.topology to a TPU slice such as v5e:4x4."
            )
        self.model = decoder_shape(config)
        self.chip, self.devices = topology(plan.topology, plan.num_slices)
        self._rows = count_rows(config)
        self._say, self._compiled = say, {}

    def _on_mesh(self, config: Config) -> tuple[programs.Model, Workload]:
        """Returns the shapes of the model on the mesh of the settings, and the run's workload."""
        c, settings = config.mesh, config.model
        slices = config.plan.num_slices if config.plan.num_slices > 1 else c.slices
        mesh = make_mesh(c.data, c.fsdp, c.tensor, slices=slices, devices=self.devices)
        dtype, cache = settings.compute_dtype, settings.cache_dtype
        model = programs.Model(
            self.model,
            layout(mesh, TRAIN_RULES, c.train_rules),
            layout(mesh, SAMPLE_RULES, c.sample_rules),
            jnp.dtype("bfloat16" if dtype == "auto" else dtype),
            None if cache == "auto" else jnp.dtype(cache),
        )
        return model, workload(config, self._rows, model.train.row_multiple)

    def weight_bytes(self, config: Config) -> int:
        """Computes the bytes of the training state and the sampling weights on one device."""
        model, work = self._on_mesh(config)
        return self._state_bytes(config, model, work) + programs.sampling_bytes(model)

    @staticmethod
    def _state_bytes(config: Config, model: programs.Model, work: Workload) -> int:
        """Computes the bytes on one device of all weights and moments that training keeps."""
        state, base = model.state(config.train)
        # Adapters need no further copy of the model before unlearning.
        before = model.before if work.train.objective is not None and base is None else ()
        return programs.device_bytes((state, base, before))

    def train(self, config: Config) -> dict[str, Program]:
        """Compiles `train_step`, and `finetune_step` if the run trains the target model.

        The result is a dict from name to memory and cost of a program.
        """
        model, work = self._on_mesh(config)
        steps = {"train_step": (config.train, work.train)}
        if work.finetune is not None:
            steps["finetune_step"] = (config.finetune, work.finetune)
        return {
            name: self._compile(name, model, key, 0, programs.lower_train, *key)[0]
            for name, key in steps.items()
        }

    def sample(self, config: Config) -> tuple[dict[str, Program], int]:
        """Compiles `weight_sync`, `prefill` and `decode_step`, up to the first that does not fit.

        Returns:
            A dict from name to memory and cost of a program, and the bytes of the sampling weights
            and the full caches on one device (0 if `weight_sync` or `prefill` does not fit).
        """
        model, work = self._on_mesh(config)
        state, base = model.state(config.train)
        state_bytes = self._state_bytes(config, model, work)
        source_bytes = programs.device_bytes((base, state.model))
        key, shape, compiled = (config.train, work.sample), work.sample, {}

        def run(name: str, beside_bytes: int, lower: Callable[..., jax.stages.Lowered], *arguments):
            """Compiles a program. Returns the shapes of its outputs, or None if it does not fit."""
            compiled[name], out = self._compile(name, model, key, beside_bytes, lower, *arguments)
            return out if compiled[name].fits else None

        beside = state_bytes - source_bytes
        weights = run("weight_sync", beside, programs.lower_weight_sync, config.train)
        if weights is None:
            return compiled, 0
        prefilled = run("prefill", state_bytes, programs.lower_prefill, weights, shape)
        if prefilled is None:
            return compiled, 0
        started = programs.lower_start(model, prefilled[0], shape)
        caches = programs.outputs(started, started.compile())
        run("decode_step", state_bytes, programs.lower_decode, weights, *caches, shape)
        return compiled, programs.device_bytes((weights, caches))

    def _compile(
        self,
        name: str,
        model: programs.Model,
        key: tuple,
        beside_bytes: int,
        lower: Callable[..., jax.stages.Lowered],
        *arguments,
    ) -> tuple[Program, Any]:
        """Compiles the program that `lower(model, *arguments)` lowers, and caches the result.

        Args:
            name: name of the program.
            key: settings and shapes that determine the program. The key of the cache is `name`,
                `model`, `key` and `beside_bytes`.
            beside_bytes: bytes of other data in HBM while the program runs.

        Returns:
            The memory and cost of the program, and the shapes of its outputs. The shapes are None
            if the compiler ran out of device memory.
        """
        key = (name, model, *key, beside_bytes)
        if key not in self._compiled:
            mesh = model.train.mesh
            network = Network(self.chip, tuple(mesh.devices.flat), tuple(mesh.shape.items()))
            devices = "1 device" if mesh.devices.size == 1 else f"{mesh.devices.size} devices"
            self._say(f"compiling {name} for {devices}")
            lowered = lower(model, *arguments)
            program, compiled = compile_program(name, lowered, network, beside_bytes)
            out = None if compiled is None else programs.outputs(lowered, compiled)
            self._compiled[key] = program, out
        return self._compiled[key]

    def plan(self, config: Config) -> Plan:
        """Compiles all programs of a run and returns its plan."""
        model, work = self._on_mesh(config)
        training = self.train(config)
        sampling, decode_bytes = self.sample(config)
        mesh, compiled = dict(model.train.mesh.shape), training | sampling
        devices = len(self.devices)
        return Plan(config, self.chip, devices, self.model, mesh, work, compiled, decode_bytes)


def check_file(path: str | Path) -> None:
    """Raises a UserError if `path` is an existing file that is not a plan."""
    path = Path(path)
    if path.exists():
        try:
            ours = json.loads(path.read_text(encoding="utf-8"))["kind"] == _KIND
        except (OSError, ValueError, LookupError, TypeError):
            ours = False
        if not ours:
            raise UserError(
                f"{path}: the file exists, but pmc plan did not write it. Move the file or set "
                "plan.file to a new name."
            )
