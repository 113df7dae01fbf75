"""The log of a run: log.jsonl, TensorBoard scalars, loss.png; and progress bars and tables.

TensorBoard receives numbers only. Text of the data or of the model reaches log.jsonl only through
the `texts` argument of `RunLog.event`, which is dropped unless `log.text` is set.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from pmc_jax.artifacts.figure import MIN_POINTS, Figure, Line, Panel, num_points
from pmc_jax.artifacts.files import plain
from pmc_jax.distributed import multihost

_logger = logging.getLogger(__name__)

# The values of "scalars" lines that loss.png shows: key, title, y label.
LOSS_PANELS = (
    (
        "selected_score",
        "Score of the selected answers (likeness to the original ones)",
        "mean score",
    ),
    ("collapse_loss", "Collapse loss (on the model's own selected answers)", "loss per token"),
    ("retain_loss", "Retain loss (on the retain answers)", "loss per token"),
)


class RunLog(contextlib.AbstractContextManager):
    """Appends to `folder/log.jsonl` (one strict JSON object per line) and `folder/tensorboard`.

    Every line has a "kind", is flushed when written, and has null for non-finite numbers.

    Args:
        folder: created if absent. None: writes nothing, for all but the first process of a job and
            for library use without an output folder.
        text: whether to write the `texts` of `event`.
    """

    def __init__(self, folder: str | os.PathLike | None, text: bool = False):
        self._text = text
        self._file = self._board = None
        self._is_torn = self._has_warned = False
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path = self._folder / "log.jsonl"
            written = self._path.read_bytes() if self._path.exists() else b""
            if written and not written.endswith(b"\n"):  # half a line, after a kill
                rewrite_log(self._path, read_log(self._path))
            self._file = self._open()
            # Imported here: tensorboardX imports torch where that is installed.
            from pmc_jax.artifacts.tensorboard import ScalarEvents

            self._board = ScalarEvents(self._folder / "tensorboard")

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, step: int, **values: float | None) -> None:
        """Writes a line of kind "scalars", and each value to TensorBoard under its key.

        Values that are None are left out; TensorBoard also skips non-finite values.
        """
        numbers = {key: float(value) for key, value in values.items() if value is not None}
        self._write({"kind": "scalars", "step": int(step), **numbers})
        if self._board is not None:
            try:
                self._board.add(int(step), numbers)
            except OSError as error:
                self._warn(error.strerror)

    def event(self, kind: str, *, texts: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Writes a line of any kind.

        Args:
            kind: the line's "kind".
            texts: values that quote the data or the model; dropped unless the log has text.
            **values: JSON values, including numpy numbers and arrays; `step` if the line has one.
        """
        self._write({"kind": kind, **values, **(texts if texts and self._text else {})})

    def resume(self, step: int, *, key: str = "step") -> None:
        """Removes lines that an interrupted run logged after `step`, from which it resumes.

        Removes lines with a greater `key` and a half-written last line; keeps lines without a step.
        TensorBoard hides events after `step`.
        """
        self._filter(lambda row: row.get(key) is None or row[key] <= step)
        if self._board is not None and key == "step":
            self._board.purge(int(step) + 1)

    def drop(self, kind: str) -> None:
        """Removes the lines of a kind, which the resumed run writes again."""
        self._filter(lambda row: row["kind"] != kind)

    def close(self) -> None:
        """Flushes and closes both logs; a second call does nothing."""
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()
        self._file = self._board = None

    def _write(self, row: dict) -> None:
        if self._file is None:
            return
        line = json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            # Ends the partial line that a full disk has left.
            line = b"\n" + line if self._is_torn else line
            self._is_torn = self._file.write(line) < len(line)
            reason = "the disk is full"
        except OSError as error:
            self._is_torn, reason = True, error.strerror
        if self._is_torn:
            self._warn(reason)

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            _logger.warning("%s: cannot be written, the run continues: %s", self._folder, reason)
        self._has_warned = True

    def _filter(self, keep: Callable[[dict], bool]) -> None:
        if self._file is not None:
            self._file.close()
            rewrite_log(self._path, filter(keep, read_log(self._path)))
            self._file = self._open()

    def _open(self) -> BinaryIO:
        # Unbuffered, because a buffer would write a failed line again later.
        return self._path.open("ab", buffering=0)


def rewrite_log(path: Path, rows: Iterable[dict]) -> None:
    """Replaces a log.jsonl by these lines atomically: writes a temporary file and renames it."""
    aside = path.with_suffix(".jsonl.tmp")
    with aside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_log(path: str | os.PathLike) -> list[dict]:
    """The lines of a log.jsonl; skips lines that are not JSON objects (half-written)."""
    rows = []
    # Bytes, because a kill can also cut a character in two.
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            _logger.warning("%s line %d is not complete and is left out", path, number)
    return rows


def plot_loss(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draws loss.png, 1200 pixels wide: the panels of `LOSS_PANELS` over a common step axis.

    Each panel shows all logged values and, from 50 values on, their running mean. A panel with
    fewer than three values is omitted; without any panel the function writes no file and logs why.

    Args:
        rows: lines of a log, e.g. from `read_log`; a panel skips rows without its key.
        path: the PNG file to write.
    """
    rows = [row for row in rows if row.get("step") is not None]
    panels = []
    for (key, title, label), colour in zip(LOSS_PANELS, ("run1", "run5", "run4"), strict=True):
        lines = _loss_lines(rows, key, colour)
        if num_points(lines) >= MIN_POINTS:
            low = None if any(min(line.y) < 0 for line in lines) else 0
            panels.append(Panel(lines, "step", label, title, bounds=(low, None)))
    if not panels:
        _logger.info("%s: not drawn, no score or loss has %d values or more", path, MIN_POINTS)
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
    # Centred, over fewer values at both ends.
    mean = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    return [
        Line("value", steps, values, colour, width=1.0, alpha=0.35),
        Line(f"mean of {width}", steps, mean, colour, width=2.4),
    ]


def progress(work: Iterable | int, label: str, unit: str, *, enabled: bool = True) -> tqdm:
    """A progress bar on stderr with rate and remaining time.

    Args:
        work: an iterable, or a total; the caller then calls `.update(n)` and closes the bar.
        label: name of the work.
        unit: unit of the count, e.g. "question".
        enabled: False draws nothing; only the first process draws.
    """
    enabled = enabled and multihost.is_first()
    source = {"total": work} if isinstance(work, int) else {"iterable": work}
    unit = f" {unit}"  # tqdm writes the unit straight after the number
    return tqdm(
        **source, desc=label, unit=unit, file=sys.stderr, disable=not enabled, dynamic_ncols=True
    )


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """A plain-text table: headers, a rule, one line per row; numbers right-aligned, text left.

    Floats have 4 significant digits (pass a string for another format); None is "-".

    Raises:
        ValueError: a row does not have one value per header.
    """
    for number, row in enumerate(rows):
        if len(row) != len(headers):
            raise ValueError(f"table row {number} has {len(row)} cells for {len(headers)} headers")
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
