"""Runs probes over models, keeps their rows, and makes the measures of them.

Models are loaded one after the other. Rows are kept in a folder as they come, `NAME.PROBE.jsonl`:
its first line is a digest of everything that they depend on, every other one a key and its row. A
folder that holds rows of the same digest is gone on with; other rows are replaced.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.log import progress, read_log, rewrite_log
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import to_dict
from pmc_jax.config.schema import flatten
from pmc_jax.distributed import multihost, preemption
from pmc_jax.evaluation.context import EvalContext, LoadedModel
from pmc_jax.evaluation.registry import MEASURES
from pmc_jax.evaluation.result import Rows
from pmc_jax.evaluation.tasks import PROBES

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Place:
    """A model to be evaluated that need not be loaded yet.

    Attributes:
        path: where it is, for people.
        sha256: of its files.
        load: its name -> the model.
        known: rows that are there already, such as answers that a run has asked for.
    """

    path: str
    sha256: str
    load: Callable[[str], LoadedModel]
    known: Rows = dataclasses.field(default_factory=dict)


def evaluate(
    places: Mapping[str, Place],
    material: EvalContext,
    measures: Sequence[str],
    *,
    folder: Path | None = None,
    watch: Stopwatch | None = None,
    bars: bool = False,
) -> dict[str, Any]:
    """Everything that `measures` say of the models.

    Args:
        places: by name: `after`, and where there are some `before` and `reference`, which the
            numbers of the others are compared with.
        folder: where rows are kept and found again; None = nowhere.

    Returns:
        What `evaluation.json` holds, see docs/evaluation.md.

    Raises:
        UserError: questions or rows that are too long, a text that cannot be read.
        Preempted: the process was asked to stop; the same call goes on where it was.
    """
    watch = watch or Stopwatch()
    wanted = ["quality", *measures]
    probes = list(dict.fromkeys(p for name in wanted for p in MEASURES[name].probes))
    begin = watch.seconds()["total"]
    rows = {
        name: _collect(name, place, material, probes, folder, watch, bars)
        for name, place in places.items()
    }
    found, missing = {}, {}
    for name in wanted:
        measure = MEASURES[name]
        if lacking := measure.lacking(material):
            missing[name] = lacking
            continue
        others = rows.get("reference"), rows.get("before")
        found[name] = {
            model: dataclasses.asdict(measure.summarise(own, *others, material.settings))
            for model, own in rows.items()
        }
    return {
        "schema": SCHEMA,
        "models": {n: {"path": p.path, "sha256": p.sha256} for n, p in places.items()},
        "measures": found,
        "not_computed": missing,
        "labels": {
            name: {key: dataclasses.asdict(label) for key, label in MEASURES[name].labels.items()}
            for name in found
        },
        "settings": to_dict(material.settings) | {"seed": material.seed},
        "seconds": watch.seconds()["total"] - begin,
        "versions": run_folder.versions(),
    }


def _collect(
    name: str,
    place: Place,
    material: EvalContext,
    probes: Sequence[str],
    folder: Path | None,
    watch: Stopwatch,
    bars: bool,
) -> dict[str, dict[str, Any]]:
    """EvalTask -> key -> row, of one model."""
    subject, found = None, {}
    for probe_name in probes:
        probe = PROBES[probe_name]
        digest = _digest(probe_name, place.sha256, material)
        with _Store(folder, f"{name}.{probe_name}", digest) as store:
            store.add(place.known.get(probe_name, {}))
            if store.complete:
                found[probe_name] = store.rows
                continue
            subject = subject or place.load(name)
            keys = probe.keys(subject, material)
            left = [key for key in keys if key not in store.rows]
            bar = progress(len(keys), f"{name}: {probe_name}", "row", enabled=bars)
            with bar, watch.stage("evaluate"):
                bar.update(len(keys) - len(left))
                for rows in probe.run(subject, material, left) if left else ():
                    store.add(rows)
                    bar.update(len(rows))
                    preemption.check()
            found[probe_name] = {key: store.rows[key] for key in keys}
            store.finish()
    return found


def _digest(probe: str, model: str, material: EvalContext) -> str:
    """Of everything that the rows of a probe depend on."""
    settings, used = flatten(to_dict(material.settings)), PROBES[probe]
    sets = [material.sets[name] for name in used.sets if name in material.sets]
    return run_folder.settings_digest(
        {
            "probe": probe,
            "schema": SCHEMA,
            "model": model,
            "sets": {s.name: run_folder.data_digest(s) for s in sets},
            "retain": None if material.retain is None else run_folder.data_digest(material.retain),
            "settings": {
                name: value for name, value in settings.items() if name.startswith(used.settings)
            },
            "seed": material.seed,
            "text": material.text,
        }
    )


class _Store:
    """Rows of one probe of one model, in a file where there is a folder.

    Attributes:
        rows: key -> row.
        complete: whether the file says that no row lacks.
    """

    def __init__(self, folder: Path | None, name: str, digest: str):
        self.rows: dict[str, Any] = {}
        self.complete = False
        self._file: BinaryIO | None = None
        self._path = None if folder is None else folder / f"{name}.jsonl"
        self._digest = digest

    def __enter__(self) -> "_Store":
        if self._path is not None:
            lines = multihost.broadcast_from_first(self._open)
            for line in lines:
                self.rows |= line.get("rows", {})
                self.complete |= line.get("complete", False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rows: Mapping[str, Any]) -> None:
        new = {key: row for key, row in rows.items() if key not in self.rows}
        self.rows |= new
        if new:
            self._write({"rows": new})

    def finish(self) -> None:
        """Says that no row lacks."""
        self.complete = True
        self._write({"complete": True})

    def _open(self) -> list[dict[str, Any]]:
        """Opens the file; the lines after the first, where that says the same digest."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = read_log(self._path) if self._path.exists() else []
        kept = lines[1:] if lines and lines[0].get("digest") == self._digest else []
        rewrite_log(self._path, [{"digest": self._digest}, *kept])  # half a line may end it
        self._file = self._path.open("ab", buffering=0)
        return kept

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
