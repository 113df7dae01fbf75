"""Names of the files and folders that pmc writes to the folder of a run or a comparison."""

from pathlib import Path

from pmc_jax.models.remote import MARK

RUN = "run.json"
RESULTS = "results.json"
MANIFEST = "manifest.json"
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
WANDB = "wandb"
LOSS_PLOT = "loss.png"
PROFILE = "profile"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"  # Evaluation resumes from the rows in this folder.
EVALUATION_RESULTS = "evaluation.json"
MODEL = "model"
STEP_MODEL = "model-step-"  # `pmc export --partial` writes models with this prefix and a step.
ADAPTER = "adapter"  # This folder holds the LoRA adapters, which are merged into `model`.
REPORT, REPORT_JSON = "report.html", "report.json"
TARGET = "target"  # Later runs reuse the target model in this folder if its digests match.
TARGET_MARK = MARK  # This file in the target records the origin of the target model.
TARGET_CHECKPOINTS = "target.checkpoints"  # This folder exists until the target model is trained.
REFERENCE = "reference"  # Later runs reuse the reference model in the same way.
REFERENCE_CHECKPOINTS = "reference.checkpoints"
COMPARED_RUNS = "runs"  # The runs of a comparison are in this folder.

# `pmc unlearn` makes these models before a run and keeps them with `overwrite`.
MADE_BEFORE = (TARGET, TARGET_CHECKPOINTS, REFERENCE, REFERENCE_CHECKPOINTS)

# `pmc evaluate` and `pmc report` may rewrite the manifest and these files of a finished run.
MADE_AGAIN = (EVALUATION, EVALUATION_RESULTS, REPORT, REPORT_JSON)

# `overwrite` removes these files. It removes run.json last, so that an interrupted removal can be
# repeated.
OWN = (RESULTS, MANIFEST, LOG, TENSORBOARD, WANDB, LOSS_PLOT, PROFILE, *MADE_AGAIN)
OWN += (CHECKPOINTS, MODEL, ADAPTER, RUN)


def step_models(folder: Path) -> list[str]:
    """Returns the names of the models that `pmc export --partial` wrote to the folder of a run."""
    return sorted(path.name for path in folder.glob(f"{STEP_MODEL}[0-9]*"))
