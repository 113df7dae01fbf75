"""Unlearns the questions of a file, and writes the model and the curve of the run.

    python own_data.py MODEL forget.csv retain.csv OUT [section.key=value ...]

The files have the columns `question` and `answer`; the answers of the forget file are never read.
The settings are those of the quickstart, with the given changes.
"""

import sys
from pathlib import Path

import pmc_jax as pmc


def main(model: str, forget_file: str, retain_file: str, out: str, *overrides: str) -> None:
    config = pmc.load_config("quickstart", overrides)
    lm = pmc.load(model)
    forget = pmc.load_data(forget_file, pmc.ForgetSet)
    retain = pmc.load_data(retain_file, pmc.RetainSet)
    result = pmc.unlearn(lm, forget, retain, config=config, progress=True)

    answers = result.answer(forget.questions, model=config)
    changed = sum(
        answer != result.originals[id_] for id_, answer in zip(forget.ids, answers, strict=True)
    )
    print(f"{changed} of {len(forget)} answers are not the original answer")

    result.lm.save(Path(out) / "model")
    result.plot().savefig(Path(out) / "curve.png")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except pmc.UserError as error:
        sys.exit(f"own_data.py: {error}")
