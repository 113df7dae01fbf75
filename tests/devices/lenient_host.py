"""The command line, with every sample admitted, because the tiny model seldom ends an answer."""

import sys

import numpy as np

from pmc_jax import cli
from pmc_jax.unlearning.admission import Admission

if __name__ == "__main__":
    Admission.admitted = lambda _, index, answers, *__: np.ones(len(answers.texts), bool)
    sys.exit(cli.main())
