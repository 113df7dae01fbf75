"""Adds the arguments, reads the settings and configures the libraries of most commands.

The module does not import jax at its top level, so that `pmc --help` and errors in the settings
appear without delay.
"""

import argparse
import contextlib
import importlib
import logging
import os
import resource
import sys
import warnings
from pathlib import Path

from pmc_jax.config.run import Config, load_config
from pmc_jax.config.schema import Section, dotted_names
from pmc_jax.distributed import launch, preemption
from pmc_jax.distributed.busy import busy
from pmc_jax.errors import UserError, escaped

_MIN_FILES = 256  # A checkpoint has a file for each array, of which many are open at once.


def add_arguments(
    parser: argparse.ArgumentParser,
    *,
    config: str = "CONFIG.yaml",
    schema: type[Section] = Config,
    processes: bool = False,
    **flags: str,
) -> None:
    """Adds the arguments of a command: the settings file, the overrides and the options.

    Args:
        config: name of the settings file in the help.
        schema: class of the settings, whose names the shell completes.
        processes: whether to add the options of a command that runs in several processes.
        flags: help text of each option without a value, by the name of the option.
    """
    what = "YAML file with settings, or the name of a shipped file such as quickstart"
    if "OUTPUT_FOLDER" in config:
        what += f", or {'with --purge ' if 'purge' in flags else ''}the output folder of a run"
    if "MODEL" in config:
        what += ", or a model: its folder, a *.gguf file or package:NAME"
    parser.add_argument("config", metavar=config, help=what)
    settings = parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="settings that replace the values in the file",
    )
    # argcomplete reads this attribute.
    settings.completer = lambda **_: [f"{name}=" for name in dotted_names(schema)]
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    if processes:
        launch.add_flags(parser)


def read_config(options: argparse.Namespace) -> Config:
    """Reads the settings of a command and configures the libraries.

    A command must call this function before it imports the libraries.

    Raises:
        UserError: the settings are invalid (see `load_config`).
    """
    config = load_config(options.config, options.overrides)
    set_up_libraries()
    return config


def set_up_libraries() -> None:
    """Configures and imports the libraries, before a command imports its modules.

    Raises:
        UserError: the process may open too few files.
    """
    check_file_limit()
    quiet_libraries()
    is_alone = "jax" not in sys.modules  # A process of a job has already imported and joined.
    loading = preemption.importing() if is_alone else contextlib.nullcontext()
    with busy("load the libraries"), loading:
        keep_compilations()
        importlib.import_module("pmc_jax.commands.inputs")


def check_file_limit() -> None:
    """Raises the limit on open files of this process if the limit is too low for checkpoints.

    Raises:
        UserError: the system does not permit a limit that is high enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= _MIN_FILES:
        return
    if hard == unlimited or hard >= _MIN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MIN_FILES, hard))
    else:
        raise UserError(
            f"this process may open only {hard} files, but pmc needs {_MIN_FILES}. Ask the "
            "administrator of this machine to raise the hard limit of open files (ulimit -Hn)."
        )


def quiet_libraries() -> None:
    """Sends warnings of this package to stderr and suppresses messages of libraries."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("pmc: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # This package reports what matters.
    # matplotlib warns if the home folder cannot be written. It then uses a temporary folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # Orbax and jax cause these warnings if the disk is full.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


class OneLine(logging.Formatter):
    """Log formatter that escapes control characters, which the name of a file may contain."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))


def keep_compilations() -> None:
    """Enables the compilation cache of jax, unless a cache folder is configured already.

    If the folder cannot be written, there is no cache.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:
        return
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(root) / "pmc_jax" / "xla"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(cache))
