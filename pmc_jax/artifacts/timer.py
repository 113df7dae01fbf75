"""Stopwatch for the wall time of each stage of a run."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Tracing events are excluded, because they nest and would be counted twice.
_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
UNLEARNING_STAGES = ("sample", "score", "train")
STAGES = ("finetune", *UNLEARNING_STAGES, "evaluate", "compile", "other")


class Stopwatch:
    """Stopwatch for the exclusive wall time of each stage, for one thread.

    `with watch.stage("train"):` adds the time of its block to the stage "train". An inner stage
    pauses the outer stage, and time outside of all stages belongs to "other". The times of all
    stages therefore add up to the total time.

    Args:
        clock: function that returns a monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._running = ["other"]
        self._since = clock()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds the times that the method `seconds` returned before the run was interrupted."""
        for name in STAGES:
            self._spent[name] += float(seconds.get(name, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of a `with` block to a stage.

        Raises:
            ValueError: the stage is unknown.
        """
        if name not in STAGES:
            raise ValueError(f"the stage {name!r} is unknown. Use one of: {', '.join(STAGES)}.")
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    @contextmanager
    def compiling_apart(self) -> Iterator[None]:
        """Adds the time that jax spends on compilation in a `with` block to the stage "compile"."""
        from jax import monitoring

        thread = threading.get_ident()

        def listener(event: str, seconds: float, **_: Any) -> None:
            if event in _COMPILE_EVENTS and threading.get_ident() == thread:
                self._charge()
                self._spent[self._running[-1]] -= seconds
                self._spent["compile"] += seconds

        monitoring.register_event_duration_secs_listener(listener)
        try:
            yield
        finally:
            monitoring.unregister_event_duration_listener(listener)

    def seconds(self) -> dict[str, float]:
        """Returns the time of each stage until now in seconds, and their sum as "total"."""
        self._charge()
        return {**self._spent, "total": sum(self._spent.values())}

    def _charge(self) -> None:
        now = self._clock()
        self._spent[self._running[-1]] += now - self._since
        self._since = now
