"""Measures the warm PMC training step: python benchmarks/training.py [--against hf] [--data FILE]

The batch contains packed forget and retain rows, as in a run. The rows are about generated people
or come from --data (JSON Lines). Real tokens are all tokens of the rows, including the prompts and
the shared prefix. The last output line is JSON.
"""

import argparse
import time

import cluster
import jax
import pairs
from arguments import add_model
from data import COEFFICIENTS, rows, training_step
from record import print_record

import pmc_jax as pmc
from pmc_jax.config.run import ModelConfig
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures the warm real tokens per second of training."
    )
    add_model(parser)
    parser.add_argument("--data", help="JSON Lines file with columns question and answer")
    parser.add_argument(
        "--rows", type=int, default=8, help="number of rows of each kind, forget and retain"
    )
    parser.add_argument(
        "--remat", default="dots", choices=("none", "dots", "full"), help="train.remat"
    )
    parser.add_argument(
        "--attention", default="xla", choices=("xla", "cudnn"), help="train.attention"
    )
    parser.add_argument(
        "--moments",
        default="float32",
        choices=("float32", "bfloat16"),
        help="train.adamw.moment_dtype",
    )
    parser.add_argument("--repeats", type=int, default=5, help="number of measurements")
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
            generator.dtype,
            donate=True,
        )

        def once() -> float:
            begin = time.perf_counter()
            trainer.step(batch, settings.learning_rate)
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
