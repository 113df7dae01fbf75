"""Measures how cost scales: python benchmarks/scaling.py [--model DIR] [--devices 1 2 4 8] ...

For each number of devices, on the mesh axes `fsdp` and `tensor`, the script counts the bytes of
collective results per device in the compiled training step, decode step and weight sync. On CPUs,
the devices are virtual. On one device, the script then measures the warm seconds of a decode step
for several numbers of questions, samples per question, tokens in the cache and layers. The last
output line is JSON.
"""

import argparse
import dataclasses
import statistics

import jax
from arguments import add_model
from data import rows, training_step
from decode_step import decode_arguments, step_seconds
from record import print_record

import pmc_jax as pmc
from pmc_jax.config.run import ModelConfig
from pmc_jax.distributed.mesh import make_mesh
from pmc_jax.planning.cost import collective_bytes
from pmc_jax.sampling.decode import decode
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.trainer import Trainer


def moved(
    options: argparse.Namespace, count: int, axis: str, pairs: list[tuple[str, str]]
) -> dict[str, dict[str, int]]:
    """Counts collective bytes by program and kind, on `count` devices along one mesh axis."""
    sizes = {"data": 1, "fsdp": 1, "tensor": 1, axis: count}
    lm = pmc.load(options.model, mesh=make_mesh(**sizes, devices=jax.devices()[:count]))
    generator = TextGenerator.of(lm, ModelConfig(compute_dtype=options.dtype))
    batch, _ = training_step(generator, pairs)
    trainer = Trainer(lm.model, lm.config, lm.layout, pmc.TrainConfig(), generator.dtype)
    weights, batch_shape = generator.snapshot(lm.model), (options.questions, options.samples)
    arguments, static = decode_arguments(generator, weights, batch_shape, 64)
    programs = {
        "training_step": trainer.lower(batch),
        "weight_sync": jax.jit(generator.snapshot).lower(lm.model),
        "decode_step": decode.lower(*arguments, **static),
    }
    return {name: collective_bytes(program.compile()) for name, program in programs.items()}


def shortened(lm: pmc.LanguageModel, layers: int) -> pmc.LanguageModel:
    """Returns a model with only the first `layers` layers."""
    arrays = lm.model.arrays()
    cut = {n: x[:layers] if n.startswith("layers.") else x for n, x in arrays.items()}
    config = dataclasses.replace(lm.config, num_layers=layers, windows=lm.config.windows[:layers])
    return dataclasses.replace(lm, model=type(lm.model)(cut), config=config)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures cost by number of devices and by workload."
    )
    add_model(parser)
    parser.add_argument(
        "--devices", type=int, nargs="*", default=[1, 2, 4, 8], help="numbers of devices"
    )
    parser.add_argument("--data", help="JSON Lines file with columns question and answer")
    parser.add_argument("--questions", type=int, default=8, help="number of questions")
    parser.add_argument("--samples", type=int, default=8, help="number of samples per question")
    parser.add_argument(
        "--factors", type=int, nargs="*", default=[1, 2, 4], help="factors by which each size grows"
    )
    options = parser.parse_args()
    most = max(options.devices, default=1)
    # This setting affects only CPUs.
    jax.config.update("jax_num_cpu_devices", most)
    if most > jax.device_count():
        parser.error(
            f"--devices {most}: only {jax.device_count()} devices are available. Pass smaller "
            "numbers."
        )

    pairs = rows(options.data, 16)
    collectives = {
        f"{axis} {count}": moved(options, count, axis, pairs)
        for count in options.devices
        for axis in ("fsdp", "tensor")
    }
    lm = pmc.load(options.model, mesh=make_mesh(devices=jax.devices()[:1]))
    q, k, layers = options.questions, options.samples, lm.config.num_layers

    def seconds(questions: int = q, samples: int = k, cache_size: int = 64, depth: int = layers):
        generator = TextGenerator.of(shortened(lm, depth), ModelConfig(compute_dtype=options.dtype))
        weights = generator.snapshot(generator.lm.model)
        return statistics.median(step_seconds(generator, weights, (questions, samples), cache_size))

    factors = options.factors
    growth = {
        "questions": {f * q: seconds(questions=f * q) for f in factors},
        "samples": {f * k: seconds(samples=f * k) for f in factors},
        "new_tokens": {f * 64: seconds(cache_size=f * 64) for f in factors},
        "layers": {-(-layers // f): seconds(depth=-(-layers // f)) for f in factors},
    }
    print_record("scaling", options, collective_bytes=collectives, decode_step_seconds=growth)


if __name__ == "__main__":
    main()
