"""Command line: `pmc COMMAND CONFIG.yaml [section.key=value ...] [--overwrite]`.

Each command is a module of `pmc_jax.commands`. The docstring of the module is the help text,
`READS` names the settings that the command reads, `add_arguments` declares its options, and `run`
executes the command and may return an exit status. Commands write results and what they have done
to stdout, and progress bars, warnings and errors to stderr. Invalid input ends a command with a
one-line message and exit status 2.
"""

import argparse
import importlib
import importlib.metadata
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from pmc_jax.commands import malloc, start
from pmc_jax.commands.settings_help import settings_help
from pmc_jax.config.run import Config
from pmc_jax.distributed import launch, preemption, streams
from pmc_jax.distributed.supervisor import Parent, run_supervised
from pmc_jax.errors import Preempted, Stopped, UserError, fault_of_machine, print_unexpected

COMMANDS = (
    *("init", "check", "finetune", "unlearn", "evaluate", "sample", "chat", "compare", "export"),
    *("plan", "push", "report", "verify", "config"),
)
_LOST = (
    "pmc: error: stdout cannot be written ({}), so a part of the output is missing. Send stdout to "
    "another place, such as a disk with free space."
)
_STOPPED = (75, 130)  # exit statuses of `Stopped`


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    The exit status is 0 after success, 1 if `verify` has found a difference or a process of a
    multi-process job has failed, 2 for invalid input or a fault of the machine, and 3 if
    `unlearn --require-forgotten` has found a question that is not forgotten. It is 75 (temporary
    failure) after SIGTERM or SIGHUP, and 130 after SIGINT.

    Args:
        arguments: words of the command line; None selects `sys.argv`.

    Raises:
        SystemExit: the command line is invalid (status 2), or an option such as --help has ended
            the command (status 0).
    """
    # Output files may hold personal data, so only their owner may read them.
    umask = os.umask(0o077)
    try:
        options = _parse(arguments)
        spec = launch.process_spec(options, os.environ) if "coordinator" in options else None
        if spec is not None:
            return run_supervised(lambda parent: _with_others(options, spec, parent))
        with preemption.handle_signals():
            return _run(options, _say)
    except UserError as error:
        print(f"pmc: error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if (fault := fault_of_machine(error)) is None:
            raise
        print(f"pmc: error: {fault}", file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        print(stopped.line, file=sys.stderr)
        return stopped.status
    finally:
        os.umask(umask)


class _CommandParser(argparse.ArgumentParser):
    """Argument parser whose help also describes the settings that a command reads."""

    def format_help(self) -> str:
        module = self.get_default("module")
        settings = settings_help(getattr(module, "SCHEMA", Config), module.READS.split())
        return super().format_help() + settings


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line, and exits if it is invalid.

    Returns:
        The options of the command, and the module of the command as `module`.
    """
    parser = argparse.ArgumentParser(
        prog="pmc",
        description="Make a language model forget answers to questions by Partial Model Collapse.",
        epilog="Most commands have the form pmc COMMAND CONFIG.yaml [section.key=value ...] "
        "[--overwrite]. Run `pmc COMMAND --help` for the options and settings of a command.",
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
    if "_ARGCOMPLETE" in os.environ:  # The shell sets this variable to request completions.
        import argcomplete

        argcomplete.autocomplete(parser)
    if any("\0" in word for word in arguments or ()):
        raise UserError("the command line contains a NUL character. Remove this character.")
    options, rest = parser.parse_known_args(arguments)
    # argparse does not parse positional arguments after an option, so `rest` holds these settings.
    takes_overrides = "overrides" in options
    if unknown := [text for text in rest if text.startswith("-") or not takes_overrides]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if takes_overrides:
        options.overrides = [*options.overrides, *rest]
    return options


def _with_others(options: argparse.Namespace, spec: launch.ProcessSpec, parent: Parent) -> NoReturn:
    """Runs a command as one process of a multi-process job, and ends the process.

    Only process 0 prints the output of the command.
    """
    watchdog, status, text = None, 0, ""

    def end(stopped: Stopped) -> NoReturn:
        if watchdog is not None:
            watchdog.fail(stopped, exit_report(stopped))
        parent.exit(stopped.status, stopped.line)

    try:
        with preemption.handle_signals(parent.exit, end):
            start.quiet_libraries()
            import jax

            from pmc_jax.distributed import multihost
            from pmc_jax.distributed.watchdog import Watchdog, exit_report, timeout

            seconds = timeout()
            launch.join(spec, seconds)
            watchdog = Watchdog(parent, seconds)
            watchdog.start()
            if not multihost.is_first():
                _warn_of_this_process_only(multihost.index())
            try:
                status = _run(options, _say if multihost.is_first() else lambda text: None)
            except Preempted as error:
                status, text = error.status, error.line if multihost.is_first() else ""
            multihost.barrier("the end")
    except BaseException as error:
        report = exit_report(error)
        if watchdog is not None:
            watchdog.fail(error, report)
        parent.exit(report.status, report.here)
    watchdog.stop()
    jax.distributed.shutdown()
    if cause := streams.lost_output():
        status, text = status or 2, f"{_LOST.format(cause)}\n{text}".strip()
    parent.exit(status, text)


def _say(text: str) -> None:
    print(text, flush=True)


def _run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    return options.module.run(options, say) or 0


def _warn_of_this_process_only(index: int) -> None:
    """Drops warnings that all processes issue, because process 0 already prints these warnings."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: getattr(record, "of_process", False))
        handler.setFormatter(start.OneLine(f"pmc: process {index}: %(message)s"))
    warnings.simplefilter("ignore")


def command() -> int:
    """Runs `main` with a tuned memory allocator and returns the exit status.

    The traceback of an unexpected error contains no text of the user's data. The exit status is 2
    instead of 0 if a part of the output was lost, for example because the disk of stdout is full.
    """
    sys.excepthook = print_unexpected
    sys.unraisablehook = lambda _: None  # A library may fail to close a file on a full disk.
    streams.protect()
    threading.excepthook = lambda fault: print_unexpected(*fault[:3])
    malloc.tune_glibc_malloc()
    try:
        status = main()
    except SystemExit as end:  # This is the end of argparse, such as after --help.
        status = int(end.code or 0)
    if cause := streams.lost_output():
        print(_LOST.format(cause), file=sys.stderr)
        status = status or 2
    if status in _STOPPED:
        # Threads of libraries may still wait for work that is no longer needed.
        os._exit(status)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Nothing is left that Ctrl-C could interrupt.
    return status


if __name__ == "__main__":
    sys.exit(command())
