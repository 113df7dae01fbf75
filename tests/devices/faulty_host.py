"""The command line, with a process that fails: PROCESS raises at its third training step, or never
comes to its third gathering, as FAULT says.
"""

import os
import sys
import time

from pmc_jax import cli

_run = cli._run


def run(options, say):
    from pmc_jax.distributed import multihost
    from pmc_jax.errors import UserError
    from pmc_jax.training.trainer import Trainer

    fault = os.environ["FAULT"]

    def fail():
        if fault == "late":
            time.sleep(3600)
        raise {"input": UserError, "own": RuntimeError}[fault]("a fault of its own")

    patched, name = (multihost, "gather") if fault == "late" else (Trainer, "step")
    original, left = getattr(patched, name), [3]

    def failing(*arguments):
        left[0] -= 1
        if not left[0] and multihost.index() == int(os.environ["PROCESS"]):
            fail()
        return original(*arguments)

    setattr(patched, name, failing)
    return _run(options, say)


if __name__ == "__main__":
    cli._run = run
    sys.exit(cli.main())
