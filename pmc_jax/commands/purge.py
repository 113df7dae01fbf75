"""Implements `--purge`: removes files that can reveal the data and lists those that remain."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.commands.inputs import data_files
from pmc_jax.compare.runs import RUNS, folder_of
from pmc_jax.compare.write import JSON
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.reading import read_json
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.report import remains
from pmc_jax.report.collect import collect
from pmc_jax.report.write import write

# These folders, which the runs of a comparison share, are removed. The reference model stays,
# because it never saw the forget rows.
_SHARED = (run_files.TARGET, run_files.TARGET_CHECKPOINTS, run_files.EVALUATION)


def purge_run(folder: Path, *, say: Callable[[str], None]) -> None:
    """Removes files and texts of a finished run that can reveal the data, and lists what remains.

    Args:
        folder: output folder of the run, which the caller has locked.

    Raises:
        UserError: the run is not finished, or a file cannot be removed or written.
    """
    if not multihost.is_first():
        return
    removed = [f"{name}/" for name in manifest.purge(folder)]
    write([folder], ReportConfig(text=False))
    names = "".join(f"{name}, " for name in removed) + ("and " if removed else "")
    say(f"{folder}: pmc removed {names}the texts in the log and the report")
    (run,) = collect([folder], text=False)["runs"]
    _say_left(run["to_delete"]["by_hand"], say)


def purge_comparison(compare: CompareConfig, *, say: Callable[[str], None]) -> None:
    """Removes the files of a finished comparison that can reveal the data.

    The function removes the target model, the rows of the evaluation and the failed runs, and
    purges each finished run. It prints which other files may still reveal the data.

    Raises:
        UserError: the folder holds no finished comparison, or a file cannot be removed or written.
    """
    folder = folder_of(compare)
    if not (folder / JSON).is_file():
        raise UserError(f"{folder}: the folder holds no comparison. Run pmc compare first.")
    with run_folder.locked(folder / RUNS):
        comparison = read_json(folder / JSON, hint="Repeat the comparison.")
        if len(comparison["runs"]) + len(comparison["failed"]) < comparison["num_runs"]:
            raise UserError(
                f"{folder}: nothing was deleted. The comparison is not finished and needs the "
                "target model. Run pmc compare without --purge first."
            )
        cells = [run for run in (folder / RUNS).iterdir() if (run / run_files.RUN).is_file()]
        finished = [run for run in cells if (run / run_files.RESULTS).is_file()]
        failed = [f"{RUNS}/{run.name}" for run in cells if run not in finished]
        for run in finished:
            manifest.purge(run)
        removed = [name for name in (*_SHARED, *failed) if (folder / name).exists()]
        run_folder.remove(folder, removed)
        for run in finished:
            write([run], ReportConfig(text=False))
    shared = "".join(f"{name}/, " for name in removed) + ("and " if removed else "")
    runs = f"{len(finished)} run{'s' * (len(finished) != 1)}"
    say(f"{folder}: pmc removed {shared}the checkpoints and texts of {runs}")
    left = remains.to_delete(str(folder), [], _inputs(compare.base()), None)
    _say_left(left["by_hand"], say)
    models = [run / run_files.MODEL for run in finished]
    if kept := [str(model) for model in models if model.is_dir()]:
        names = ", ".join(kept)
        say(f"- The models of those runs whose unlearn quality you do not accept: {names}.")


def _inputs(base: Config) -> dict[str, str]:
    """Returns the path of each existing input that may reveal the data, by name."""
    files = data_files(base, forget_answers=base.data.forget_answers.path is not None)
    found = {n: str(f) for n, f in files.items() if manifest.knows_the_data(n) and f.exists()}
    if base.model.path:
        model = Path(os.path.expanduser(base.model.path))
        found["model"] = str(model.absolute()) if model.exists() else base.model.path
    return found


def _say_left(lines: Sequence[str], say: Callable[[str], None]) -> None:
    say("Delete the following files yourself, because they may still reveal the data:")
    for line in lines:
        say(f"- {line}")
