"""The command line: `pmc COMMAND CONFIG.yaml [section.key=value ...] [--overwrite]`.

Each command is a module of `pmc_jax.commands`: its docstring is the help, `READS` names the
settings that it reads, `add_arguments` declares its options, and `run` does its work and may return
an exit status. Results go to stdout, progress and messages to stderr. Bad input ends a command with
a message of one line and exit status 2.
"""

import argparse
import importlib
import importlib.metadata
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from pmc_jax.commands import malloc, start
from pmc_jax.commands.settings_help import settings_help
from pmc_jax.config.run import Config
from pmc_jax.distributed import launch, preemption
from pmc_jax.distributed.supervisor import Parent, run_supervised
from pmc_jax.errors import Preempted, UserError

COMMANDS = (
    *("finetune", "unlearn", "evaluate", "sample", "compare", "export"),
    *("plan", "report", "verify", "config"),
)

_ASKED_TO_STOP = "pmc: the run was asked to stop; the same command resumes it from the checkpoint"
_INTERRUPTED = "pmc: the run was interrupted; the same command resumes it from the last checkpoint"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0, 1 if `verify` found a difference, 2 for bad
    input, 75 (a temporary failure) if SIGTERM ended it and the same command resumes, 130 if it was
    interrupted, 141 if the reader of stdout closed it.
    """
    options = _parse(arguments)
    # Output files are about people: only their owner may read them.
    umask = os.umask(0o077)
    try:
        spec = launch.process_spec(options, os.environ) if "coordinator" in options else None
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
    except BrokenPipeError:  # such as `pmc config CONFIG.yaml | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the flush at exit
        return 141
    finally:
        os.umask(umask)


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command; its help also describes the settings that the command reads."""

    def format_help(self) -> str:
        module = self.get_default("module")
        settings = settings_help(getattr(module, "SCHEMA", Config), module.READS.split())
        return super().format_help() + settings


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command, and its module as `module`; exits if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="pmc",
        description="Partial Model Collapse: make a language model forget.",
        epilog="Most commands: pmc COMMAND CONFIG.yaml [section.key=value ...] [--overwrite]. "
        "`pmc COMMAND --help` describes the options and the settings of each.",
    )
    version = importlib.metadata.version("pmc_jax")
    parser.add_argument("--version", action="version", version=f"pmc_jax {version}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_CommandParser)
    for name in COMMANDS:
        module = importlib.import_module(f"pmc_jax.commands.{name}")
        doc = module.__doc__
        command = commands.add_parser(name, help=doc.partition("\n\n")[0], description=doc)
        module.add_arguments(command)
        command.set_defaults(module=module)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    options, rest = parser.parse_known_args(arguments)
    # `rest` has the settings after an option, where argparse ends the list of positionals.
    takes_overrides = "overrides" in options
    if unknown := [text for text in rest if text.startswith("-") or not takes_overrides]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if takes_overrides:
        options.overrides = [*options.overrides, *rest]
    return options


def _with_others(options: argparse.Namespace, spec: launch.ProcessSpec, parent: Parent) -> NoReturn:
    """Runs the command as one of several processes; only the first one prints."""
    start.quiet_libraries()
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
    return options.module.run(options, say) or 0


def _warn_of_this_process_only(index: int) -> None:
    """Drops warnings that all processes issue, because the first process prints them."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: getattr(record, "of_process", False))
        handler.setFormatter(logging.Formatter(f"pmc: process {index}: %(message)s"))
    warnings.simplefilter("ignore")


def command() -> int:
    """The entry point of `pmc`: `main` with a tuned allocator."""
    malloc.tune_glibc_malloc()
    return main()


if __name__ == "__main__":
    sys.exit(command())
