"""The command line: `pmc COMMAND CONFIG.yaml [section.key=value ...] [--overwrite]`.

Results go to stdout, progress and messages to stderr. Bad input: one line, exit status 2.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pmc_jax.commands import malloc
from pmc_jax.distributed import launch, preemption
from pmc_jax.distributed.supervisor import Parent, run_supervised
from pmc_jax.errors import Preempted, UserError

_COMMANDS = {
    "finetune": "make the target model that knows the data, under output.dir/target",
    "unlearn": "the whole job: (fine-tune,) evaluate, unlearn by PMC, evaluate, export",
    "evaluate": "evaluate.measures of model.path, or of a finished run: pmc evaluate OUTPUT_FOLDER",
    "sample": "answers of model.path to each forget question, as JSON Lines",
    "compare": "methods x settings x seeds in the same time, one page: see docs/compare.md",
    "export": "the newest checkpoint of output.dir as a Hugging Face folder, output.dir/model",
    "plan": "compiles the run for plan.topology without a TPU: memory, time bound, plan.json",
    "report": "report.html of a finished run, or of several: pmc report OUTPUT_FOLDER...",
    "verify": "compares the files of a finished run with its manifest: pmc verify OUTPUT_FOLDER",
}


_ALONE = ("compare", "plan", "report", "verify")  # commands of one process
_ASKED_TO_STOP = "pmc: asked to stop; the same command goes on from the checkpoint"
_INTERRUPTED = "pmc: interrupted; the same command goes on from the last checkpoint"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 where `verify` found a difference, 2 for bad
    input, 75 (a temporary failure) when SIGTERM ended it and the same command goes on, 130 when
    interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="pmc",
        description="Partial Model PMCSource: make a language model forget.",
        epilog="\n".join(f"  {name:9} {text}" for name, text in _COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(_COMMANDS), metavar="COMMAND", help="see below")
    parser.add_argument("config", metavar="CONFIG.yaml", help="settings, see configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings changed for this run"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier run wrote to output.dir"
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="unlearn: in the end, or of a finished run, remove the answers it keeps to be resumed",
    )
    launch.add_flags(parser)
    version = importlib.metadata.version("pmc_jax")
    parser.add_argument("--version", action="version", version=f"pmc_jax {version}")
    options = parser.parse_intermixed_args(arguments)
    if options.purge and options.command != "unlearn":
        parser.error(f"--purge: is for unlearn, not for {options.command}")
    flags = (options.coordinator, options.num_processes, options.process_id)
    if options.command in _ALONE and (options.distributed or any(f is not None for f in flags)):
        parser.error(f"{options.command}: runs in one process; leave out the flags of several")
    # What is written is about people: for the eyes of its owner alone.
    umask = os.umask(0o077)
    try:
        alone = options.command in _ALONE
        spec = None if alone else launch.process_spec(options, os.environ)
        if spec is not None:
            return run_supervised(lambda parent: _with_others(options, spec, parent))
        with preemption.handle_sigterm():
            return _run(options, _say)
    except UserError as error:
        print(f"pmc: error: {error}", file=sys.stderr)
        return 2
    except Preempted:
        print(_ASKED_TO_STOP, file=sys.stderr)
        return 75
    except KeyboardInterrupt:
        print(_INTERRUPTED, file=sys.stderr)
        return 130
    finally:
        os.umask(umask)


def _with_others(options: argparse.Namespace, spec: launch.ProcessSpec, parent: Parent) -> NoReturn:
    """The command as one of several processes, of which the first speaks."""
    _quiet_libraries()
    import jax

    from pmc_jax.distributed import multihost
    from pmc_jax.distributed.watchdog import Watchdog, exit_report, timeout

    watchdog, status = None, 0
    try:
        with preemption.handle_sigterm():
            seconds = timeout()
            launch.join(spec, seconds)
            watchdog = Watchdog(parent, seconds)
            watchdog.start()
            if not multihost.is_first():
                _warn_of_this_process_only(multihost.index())
            try:
                status = _run(options, _say if multihost.is_first() else lambda text: None)
            except Preempted:
                status = 75
            multihost.barrier("the end")
    except BaseException as error:
        report = exit_report(error, interrupted=_INTERRUPTED)
        if watchdog is not None:
            watchdog.fail(error, report)
        parent.exit(report.status, report.here)
    watchdog.stop()
    says = status == 75 and multihost.is_first()
    jax.distributed.shutdown()
    parent.exit(status, _ASKED_TO_STOP if says else "")


def _say(text: str) -> None:
    print(text, flush=True)


def _run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    if options.command == "verify":
        from pmc_jax.commands.verify import run_verify

        return 0 if run_verify(options.config, say=say) else 1
    if options.command == "report":
        from pmc_jax.commands.report import run_report

        run_report([options.config, *options.overrides], say=say)
        return 0
    from pmc_jax.config.run import load_config

    if options.command == "evaluate" and os.path.isdir(options.config):
        _quiet_libraries()
        from pmc_jax.commands.evaluate import run_evaluate_run

        _keep_compilations()
        run_evaluate_run(options.config, options.overrides, say=say)
        return 0
    if options.command == "compare":
        from pmc_jax.config.compare import load_compare

        compare = load_compare(options.config, options.overrides)
        _quiet_libraries()
        from pmc_jax.commands.compare import run_compare

        _keep_compilations()
        run_compare(compare, overwrite=options.overwrite, say=say)
        return 0
    config = load_config(options.config, options.overrides)
    _quiet_libraries()
    if options.command == "plan":
        os.environ["JAX_PLATFORMS"] = "cpu"  # a TPU that is here is not asked
        from pmc_jax.commands.plan import run_plan

        run_plan(config, say=say)
        return 0
    from pmc_jax.commands import (  # the libraries behind it take seconds to import
        evaluate,
        export,
        finetune,
        sample,
        unlearn,
    )

    _keep_compilations()
    if options.command == "finetune":
        finetune.run_finetune(config, overwrite=options.overwrite, say=say)
    elif options.command == "unlearn" and options.purge and unlearn.is_finished(config):
        unlearn.run_purge(config, say=say)
    elif options.command == "unlearn":
        unlearn.run_unlearn(config, overwrite=options.overwrite, say=say, purge=options.purge)
    elif options.command == "evaluate":
        say(json.dumps(evaluate.run_evaluate(config, say=say)))
    elif options.command == "sample":
        for row in sample.run_sample(config):
            say(json.dumps(row, ensure_ascii=False))
    else:
        export.run_export(config, overwrite=options.overwrite, say=say)
    return 0


def _warn_of_this_process_only(index: int) -> None:
    """The first process says what all have seen; the others what they alone know."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: getattr(record, "of_process", False))
        handler.setFormatter(logging.Formatter(f"pmc: process {index}: %(message)s"))
    warnings.simplefilter("ignore")


def _quiet_libraries() -> None:
    """Our warnings to stderr; the chatter of libraries nowhere."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="pmc: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what matters of it, we say
    # Orbax leaves these behind where a disk is full.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _keep_compilations() -> None:
    """Compiled programs are kept between runs, unless jax was told where already."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmc_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def command() -> int:
    """`main` as a process of its own."""
    malloc.tune_glibc_malloc()
    return main()


if __name__ == "__main__":
    sys.exit(command())
