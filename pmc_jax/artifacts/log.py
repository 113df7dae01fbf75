"""Writes the log of a run and shows progress bars and tables.

The log consists of log.jsonl, the scalars that trackers receive and the plot loss.png. Trackers
receive only numbers. Texts of the data and of the model reach log.jsonl only through the argument
`texts` of `RunLog.event`, which is ignored unless the setting `log.text` is true.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from pmc_jax.artifacts import trackers
from pmc_jax.artifacts.figure import MIN_POINTS, Figure, Line, Panel, num_points
from pmc_jax.artifacts.files import plain
from pmc_jax.config import reading
from pmc_jax.distributed import multihost

_logger = logging.getLogger(__name__)

# Each panel of loss.png has the key of a value in "scalars" lines, a title and a y label.
LOSS_PANELS = (
    (
        "selected_score",
        "Score of the selected answers (similarity to the original answers)",
        "mean score",
    ),
    ("collapse_loss", "Collapse loss (on the replacement answers)", "loss per token"),
    ("retain_loss", "Retain loss (on the retain answers)", "loss per token"),
)


class RunLog(contextlib.AbstractContextManager):
    """Log that appends to `folder/log.jsonl` and sends scalars to trackers.

    Each line of log.jsonl is a JSON object with the key "kind". A line is flushed when it is
    written, and non-finite numbers are written as null.

    Args:
        folder: folder of the log, which is created if it does not exist. None writes nothing. The
            commands pass a folder in the first process of a job only.
        text: whether to write the argument `texts` of `event`.
        names: names of the trackers (see `trackers.open_trackers`).
        settings: settings of the run that trackers may record.

    Raises:
        UserError: a tracker cannot be opened.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None,
        text: bool = False,
        names: Sequence[str] = ("tensorboard",),
        settings: Mapping[str, float | str] = MappingProxyType({}),
    ):
        self._text = text
        self._file: BinaryIO | None = None
        self._trackers: list[trackers.Tracker] = []
        self._is_torn = self._has_warned = False
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path = self._folder / "log.jsonl"
            written = reading.read_bytes(self._path) if self._path.exists() else b""
            # A killed process can leave an incomplete line.
            if written and not written.endswith(b"\n"):
                rewrite_log(self._path, read_log(self._path))
            self._file = self._open()
            self._trackers = trackers.open_trackers(names, self._folder, settings)

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, **values: float | None) -> None:
        """Writes the values of one step as a line of kind "scalars" and sends them to trackers.

        Values that are None are skipped. Trackers also skip non-finite values.
        """
        numbers = {key: float(value) for key, value in values.items() if value is not None}
        self._write({"kind": "scalars", "step": int(step), **numbers})
        self.track(step, **numbers)

    def finetune(self, step: int, **values: float) -> None:
        """Writes the values of a step of fine-tuning as a line and sends them to trackers."""
        self._write({"kind": "finetune", "finetune_step": int(step), **values})
        self._send(trackers.FINETUNE, step, {f"finetune_{n}": v for n, v in values.items()})

    def track(self, step: int, **values: float | None) -> None:
        """Sends the values of one step of unlearning to trackers and writes no line."""
        self._send(trackers.UNLEARN, step, values)

    def _send(self, stage: str, step: int, values: Mapping[str, float | None]) -> None:
        numbers = {
            name: float(value)
            for name, value in values.items()
            if value is not None and name in trackers.SCALARS[stage]
        }
        for tracker in self._trackers:
            try:
                tracker.add(stage, int(step), numbers)
            except OSError as error:
                self._warn(error.strerror)

    def event(self, kind: str, *, texts: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Writes a line of the given kind.

        Args:
            kind: value of the key "kind".
            texts: values that quote the data or the model, which are ignored unless the log was
                created with `text=True`.
            **values: values of other keys such as `step`: JSON values, numpy numbers or arrays.
        """
        self._write({"kind": kind, **values, **(texts if texts and self._text else {})})

    def resume(self, step: int, *, key: str = "step") -> None:
        """Removes the lines that an interrupted run logged after the step from which it resumes.

        An incomplete last line is also removed. Trackers continue the curves of the run.

        Args:
            step: step from which the run resumes.
            key: key of the number that is compared with `step`, which is "step" or
                "finetune_step"; lines without this key are kept.
        """
        if self._file is None:
            return
        later = [row for row in read_log(self._path) if (row.get(key) or 0) > step]
        self._filter(lambda row: row.get(key) is None or row[key] <= step)
        stage = trackers.FINETUNE if key == "finetune_step" else trackers.UNLEARN
        prefix = "finetune_" if stage == trackers.FINETUNE else ""
        sent = {(f"{prefix}{name}", row[key]) for row in later for name in row}
        for tracker in self._trackers:
            tracker.resume(stage, int(step), sent)

    def drop(self, kind: str) -> None:
        """Removes all lines of a kind, so that the caller can write them again."""
        self._filter(lambda row: row["kind"] != kind)

    def close(self) -> None:
        """Closes log.jsonl and the trackers; a second call does nothing."""
        for sink in (self._file, *self._trackers):
            if sink is not None:
                sink.close()
        self._file, self._trackers = None, []

    def _write(self, row: dict) -> None:
        if self._file is None:
            return
        line = json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            # A full disk can leave an incomplete line, which the newline ends.
            line = b"\n" + line if self._is_torn else line
            self._is_torn = self._file.write(line) < len(line)
            reason = "the disk is full"
        except OSError as error:
            self._is_torn, reason = True, error.strerror
        if self._is_torn:
            self._warn(reason)

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            _logger.warning(
                "%s: the log could not be written (%s). The run continues. Check the disk.",
                self._folder,
                reason,
            )
        self._has_warned = True

    def _filter(self, keep: Callable[[dict], bool]) -> None:
        if self._file is not None:
            self._file.close()
            rewrite_log(self._path, filter(keep, read_log(self._path)))
            self._file = self._open()

    def _open(self) -> BinaryIO:
        # The file is unbuffered, because a buffer would write a failed line again later.
        return self._path.open("ab", buffering=0)


def rewrite_log(path: Path, rows: Iterable[dict]) -> None:
    """Replaces all lines of a log.jsonl file atomically."""
    aside = path.with_suffix(".jsonl.tmp")
    with aside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_log(path: str | os.PathLike) -> list[dict]:
    """Returns the lines of a log.jsonl file as dicts.

    Damaged lines, such as incomplete lines, are skipped with a warning.
    """
    return read_objects(path, _is_line)


def read_objects(path: str | os.PathLike, fits: Callable[[dict], bool]) -> list[dict]:
    """Returns the lines of a file of JSON objects.

    Lines that are not JSON objects, and objects that `fits` rejects, are skipped with a warning.
    """
    rows = []
    # The file is read as bytes, because a killed process can leave an incomplete character.
    for number, line in enumerate(reading.read_bytes(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and fits(row):
            rows.append(row)
        elif line.strip():
            _logger.warning(
                "%s: line %d is damaged, so it is skipped. A process that was killed can leave "
                "such a line.",
                *(path, number),
            )
    return rows


def _is_line(row: dict) -> bool:
    """Returns whether an object has the form of a line of a log."""
    kind = row.get("kind")
    if not isinstance(kind, str):
        return False
    values = [v for k, v in row.items() if k != "kind"] if kind == "scalars" else [row.get("step")]
    return all(value is None or _is_number(value) for value in values)


def plot_loss(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draws the scores and losses of a run over its steps, as a PNG file 1200 pixels wide.

    `LOSS_PANELS` lists the panels. Each panel shows all logged values of its key and, if there are
    at least 50 values, their running mean. A panel with fewer than three values is omitted. If all
    panels are omitted, no file is written and a log message gives the reason.

    Args:
        rows: lines of a log, such as `read_log` returns; a panel skips rows without its key.
        path: PNG file to write.
    """
    rows = [row for row in rows if row.get("step") is not None]
    panels = []
    for (key, title, label), colour in zip(LOSS_PANELS, ("run1", "run5", "run4"), strict=True):
        lines = _loss_lines(rows, key, colour)
        if num_points(lines) >= MIN_POINTS:
            low = None if any(min(line.y) < 0 for line in lines) else 0
            panels.append(Panel(lines, "step", label, title, bounds=(low, None)))
    if not panels:
        _logger.info(
            "%s: the plot is not drawn, because no score or loss has at least %d values.",
            path,
            MIN_POINTS,
        )
        return
    figure = Figure("loss", "", "", panels, size=(864, 240 * len(panels)), share_x=True)
    Path(path).write_bytes(figure.png(dpi=100))


def _loss_lines(rows: Sequence[Mapping[str, Any]], key: str, colour: str) -> list[Line]:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    if not points:
        return []
    steps, values = np.array(points, np.float64).T
    if len(values) < 50:
        return [Line("value", steps, values, colour, marker="o")]
    width = max(5, len(values) // 40)
    window = np.ones(width)
    # The mean is centred and covers fewer values at both ends.
    mean = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    return [
        Line("value", steps, values, colour, width=1.0, alpha=0.35),
        Line(f"mean of {width}", steps, mean, colour, width=2.4),
    ]


def progress(
    work: Iterable | int, label: str, unit: str, *, enabled: bool = True, delay: float = 0.0
) -> tqdm:
    """Returns a progress bar on stderr that shows the rate and the remaining time.

    Only the first process of a job draws the bar.

    Args:
        work: iterable whose items are counted, or the total count. With a total, the caller calls
            `.update(n)` and closes the bar.
        label: text to the left of the bar.
        unit: unit of the count, such as "question".
        enabled: whether to draw the bar.
        delay: seconds before the bar is drawn for the first time.
    """
    enabled = enabled and multihost.is_first()
    source = {"total": work} if isinstance(work, int) else {"iterable": work}
    unit = f" {unit}"  # tqdm writes no space between the number and the unit.
    how = dict(file=sys.stderr, disable=not enabled, dynamic_ncols=True, delay=delay)
    return tqdm(**source, desc=label, unit=unit, **how)


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Formats rows as a plain-text table with headers and a rule.

    Columns of numbers are right-aligned, and other columns are left-aligned. Floats have 4
    significant digits, strings keep their format, and None is shown as "-".

    Raises:
        ValueError: the number of values in a row differs from the number of headers.
    """
    for number, row in enumerate(rows):
        if len(row) != len(headers):
            raise ValueError(
                f"table: row {number} has the wrong number of cells ({len(row)} for {len(headers)} "
                "headers). Pass one value per header."
            )
    columns = []
    for header, *values in zip(headers, *rows, strict=True):
        texts = [str(header), *map(_format, values)]
        width = max(map(len, texts))
        texts.insert(1, "-" * width)
        is_numeric = bool(rows) and all(value is None or _is_number(value) for value in values)
        columns.append([t.rjust(width) if is_numeric else t.ljust(width) for t in texts])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _format(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
