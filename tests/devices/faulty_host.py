"""The command line, with a process that fails: PROCESS raises at its third training step."""

import os
import sys

from pmc_jax import cli

_run = cli._run


def run(options, say):
    from pmc_jax import hosts
    from pmc_jax.unlearning.trainer import Trainer

    step, left = Trainer.step, [3]

    def failing(*arguments):
        left[0] -= 1
        if not left[0] and hosts.index() == int(os.environ["PROCESS"]):
            raise RuntimeError("a fault of its own")
        return step(*arguments)

    Trainer.step = failing
    return _run(options, say)


if __name__ == "__main__":
    cli._run = run
    sys.exit(cli.main())
