"""Measures the warm sampling rate: python benchmarks/sampling.py [--against hf|tunix] [--ends] ...

The engine draws K samples for each question. Questions are about generated people or come from
--data (JSON Lines). Without --ends, no end token ends a sample, so every step of a slot is useful.
With --ends, the tokens up to the end of each answer are counted, and the share of useful slots
shows how much work the engine wastes. The last output line is JSON.
"""

import argparse
import dataclasses
import time

import cluster
import jax
import pairs
from arguments import add_model
from data import questions
from record import print_record, spread

import pmc_jax as pmc
from pmc_jax.config.run import ModelConfig
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the warm tokens per second of sampling.")
    add_model(parser)
    parser.add_argument("--data", help="JSON Lines file with a column question")
    parser.add_argument("--questions", type=int, default=8, help="number of questions")
    parser.add_argument("--samples", type=int, default=8, help="number of samples per question")
    parser.add_argument("--new-tokens", type=int, default=64, help="maximum number of new tokens")
    parser.add_argument("--batch", type=int, help="number of slots; the default holds all samples")
    parser.add_argument("--ends", action="store_true", help="end an answer at an end token")
    parser.add_argument("--temperature", type=float, default=1.25, help="sampling temperature")
    parser.add_argument("--top-p", type=float, default=0.95, help="nucleus probability")
    parser.add_argument("--top-k", type=int, default=0, help="number of tokens kept; 0 keeps all")
    parser.add_argument("--repeats", type=int, default=5, help="number of measurements")
    pairs.add_options(parser, "hf", "tunix")
    options = cluster.parse(parser)
    if options.ends and options.against == "tunix":
        parser.error(
            "--ends: the tunix sampler decodes all answers until the longest has ended. Remove "
            "--ends or --against."
        )

    lm = pmc.load(options.model, mesh=cluster.mesh(options))
    generator = TextGenerator.of(lm, ModelConfig(compute_dtype=options.dtype))
    prompts = generator.prompts(questions(options.data, options.questions), options.new_tokens)
    engine = generator.engine(
        prompts,
        Sampler(options.temperature, options.top_k, options.top_p),
        num_samples=options.samples,
        max_new_tokens=options.new_tokens,
        batch_size=options.batch or options.questions * options.samples,
    )
    if not options.ends:
        engine = dataclasses.replace(engine, end_tokens=(-1,))
    weights = generator.snapshot(lm.model)
    seeds, useful = iter(range(10**6)), []

    def once() -> float:
        usage, key = Usage(), jax.random.key(next(seeds))
        begin = time.perf_counter()
        for _ in engine.generate(weights, prompts, key=key, ids=range(len(prompts)), usage=usage):
            pass
        seconds = time.perf_counter() - begin
        useful.append(usage.useful / usage.computed)
        return usage.useful / seconds

    arguments = {
        **{"work": "sampling", "prompts": prompts, "dtype": str(generator.dtype)},
        **{"samples": options.samples, "new_tokens": options.new_tokens},
        **{"end_tokens": engine.end_tokens if options.ends else ()},
        **{"temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k},
    }
    with pairs.other(options, lm, arguments) as worker:
        figures = pairs.rates(once, worker, options.repeats)
    figures["per_chip"] = cluster.per_chip(figures["rate"]["median"], lm.config, 2)
    figures |= {"unit": "tokens per second", "useful_slots": spread(useful)}
    print_record("sampling", options, **figures, dtype=str(generator.dtype))


if __name__ == "__main__":
    main()
