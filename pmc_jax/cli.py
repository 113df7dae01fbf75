"""The command line: `pmc COMMAND CONFIG.yaml [section.key=value ...] [--overwrite]`.

Results go to stdout, progress and messages to stderr. Bad input: one line, exit status 2.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pmc_jax.errors import UserError

_COMMANDS = {
    "finetune": "make the target model that knows the data, under output.dir/target",
    "unlearn": "the whole job: (fine-tune,) evaluate, unlearn by PMC, evaluate, export",
    "evaluate": "greedy answers of model.path, their ROUGE-L recall, unlearn quality and utility",
    "sample": "pmc.num_samples answers of model.path to each forget question, as JSON Lines",
    "export": "the newest checkpoint of output.dir as a Hugging Face folder, output.dir/model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="pmc",
        description="Partial Model Collapse: make a language model forget.",
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
    version = importlib.metadata.version("pmc_jax")
    parser.add_argument("--version", action="version", version=f"pmc_jax {version}")
    options = parser.parse_intermixed_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"pmc: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "pmc: interrupted; the same command goes on from the last checkpoint", file=sys.stderr
        )
        return 130


def _run(options: argparse.Namespace) -> int:
    from pmc_jax.config import load_config

    config = load_config(options.config, options.overrides)
    _quiet_libraries()
    from pmc_jax import jobs  # the libraries behind it take seconds to import

    _keep_compilations()

    def say(text: str) -> None:
        print(text, flush=True)

    if options.command == "finetune":
        jobs.run_finetune(config, overwrite=options.overwrite, say=say)
    elif options.command == "unlearn":
        jobs.run_unlearn(config, overwrite=options.overwrite, say=say)
    elif options.command == "evaluate":
        say(json.dumps(jobs.run_evaluate(config, say=say)))
    elif options.command == "sample":
        for row in jobs.run_sample(config):
            say(json.dumps(row, ensure_ascii=False))
    else:
        jobs.run_export(config, overwrite=options.overwrite, say=say)
    return 0


def _quiet_libraries() -> None:
    """Our warnings to stderr; the chatter of libraries nowhere."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="pmc: %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("absl").setLevel(logging.ERROR)


def _keep_compilations() -> None:
    """Compiled programs are kept between runs, unless jax was told where already."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmc_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))


if __name__ == "__main__":
    sys.exit(main())
