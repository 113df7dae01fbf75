"""Writes TensorBoard scalars immediately, without a background thread or a queue.

After a failed write, the next value is written to a new file, and the incomplete file is kept.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


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
