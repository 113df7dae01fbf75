"""Writes scalars as TensorBoard events immediately, without a background thread or a queue.

After a failed write, the next value is written to a new file, and the incomplete file is kept.
"""

import contextlib
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from pmc_jax.artifacts.trackers import FINETUNE, UNLEARN


class TensorBoard:
    """TensorBoard event files of a run.

    Args:
        folder: folder of the event files. Its subfolder `finetune` holds those of the fine-tuning,
            whose steps are counted separately.
    """

    def __init__(self, folder: Path):
        folders = {UNLEARN: folder, FINETUNE: folder / FINETUNE}
        self._events = {stage: ScalarEvents(path) for stage, path in folders.items()}

    def add(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite values of one step.

        Raises:
            OSError: a value cannot be written.
        """
        self._events[stage].add(step, values)

    def resume(self, stage: str, step: int, sent: Collection[tuple[str, int]]) -> None:
        """Hides the events after the step from which a stage resumes.

        If the stage starts again, its event files are removed.
        """
        self._events[stage].purge(step + 1) if step else self._events[stage].remove()

    def close(self) -> None:
        for events in self._events.values():
            events.close()


class ScalarEvents:
    """Writer of TensorBoard event files in one folder.

    Args:
        folder: folder of the event files. The folder is created with the first file, and may
            already hold event files of earlier runs.
    """

    def __init__(self, folder: Path):
        self._folder, self._writer, self._purge_step = folder, None, None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite values of one step.

        Raises:
            OSError: a value cannot be written.
        """
        try:
            if self._writer is None:
                self._open()
            for name, value in values.items():
                if math.isfinite(value):
                    self._write(step, summary=scalar(name, value))
            self._writer.flush()
            self._purge_step = None
        except OSError:
            self.close()
            raise

    def purge(self, step: int) -> None:
        """Makes TensorBoard hide the events of this step and of later steps in earlier files."""
        self.close()
        self._purge_step = step

    def remove(self) -> None:
        """Removes all event files of this folder."""
        self.close()
        for path in self._folder.glob("events*"):
            path.unlink()

    def close(self) -> None:
        """Closes the current file. A second call does nothing."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._writer = None

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # The number makes the name unique, because two files may be opened in the same second.
        number = len(list(self._folder.iterdir()))
        self._writer = EventsWriter(str(self._folder / "events"), f".{number}")
        if self._purge_step is not None:
            self._write(self._purge_step, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step: int, **content) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
