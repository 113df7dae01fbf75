"""Wall time of a run by stage, in seconds."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Tracing events are left out: they nest, and would be counted twice.
_COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
UNLEARNING_STAGES = ("sample", "score", "train")
STAGES = ("finetune", *UNLEARNING_STAGES, "evaluate", "compile", "other")


class Stopwatch:
    """Exclusive wall time by stage, for one thread.

    `with watch.stage("train"):` charges the time of its block to "train"; an inner stage pauses the
    outer one; time outside all stages is "other". So the stages add up to the total.

    Args:
        clock: monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._running = ["other"]
        self._since = clock()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds the seconds of the run before an interruption, as `seconds` returned them."""
        for name in STAGES:
            self._spent[name] += float(seconds.get(name, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charges the time of the block to a stage.

        Raises:
            ValueError: unknown stage.
        """
        if name not in STAGES:
            raise ValueError(f"unknown stage {name!r}; the stages are {', '.join(STAGES)}")
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    @contextmanager
    def compiling_apart(self) -> Iterator[None]:
        """Charges the time that jax spends lowering and compiling in the block to "compile"."""
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
        """Seconds of every stage until now, and "total", their sum."""
        self._charge()
        return {**self._spent, "total": sum(self._spent.values())}

    def _charge(self) -> None:
        now = self._clock()
        self._spent[self._running[-1]] += now - self._since
        self._since = now
