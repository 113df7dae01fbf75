"""Host-side communication of a multi-process job, one process per host: gather, broadcast, barrier.

Every process must make the same calls in the same order, as it runs the same device programs.
Values are sent through the key-value store of jax's distributed runtime, not through the devices:
a float64 stays a float64, and no call waits for a device program. In a single process every
function returns its own value. `launch` starts the processes; `watchdog` detects a dead one.
"""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmc_jax.errors import UserError

if TYPE_CHECKING:  # the command line must respond before the libraries are imported
    import jax
    import numpy as np

# One process waits this long for another that is alive and may be writing a large model.
_BARRIER_SECONDS = 1800.0
_PIECE_BYTES = 1 << 20

_numbers = itertools.count()
_unread: list[str] = []  # keys that other processes may not have read yet


def count() -> int:
    """Number of processes in this job; starts no backend in a single process."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """The index of this process, from 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes the files and prints messages."""
    return index() == 0


def store() -> Any:
    """The client of the key-value store; jax has no public API for it."""
    from jax._src import distributed

    return distributed.global_state.client


def gather(value: Any) -> list[Any]:
    """Gathers JSON values of any size from all processes, in their order; floats bit for bit.

    Raises:
        UserError: a process did not call this within `PMC_BARRIER_SECONDS`.
    """
    if count() == 1:
        return [value]
    client, number, this = store(), next(_numbers), index()
    folder = f"pmc/gather/{number}"
    text = json.dumps(value).encode()
    starts = range(0, len(text), _PIECE_BYTES)
    for i, start in enumerate(starts):
        client.key_value_set_bytes(f"{folder}/{this}/{i}", text[start : start + _PIECE_BYTES])
    client.key_value_set(f"{folder}/{this}/pieces", str(len(starts)))
    barrier(f"gather {number}")
    values = []
    for process in range(count()):
        if process == this:
            values.append(json.loads(text))
            continue
        pieces = int(client.key_value_try_get(f"{folder}/{process}/pieces"))
        parts = [client.key_value_try_get_bytes(f"{folder}/{process}/{i}") for i in range(pieces)]
        values.append(json.loads(b"".join(parts)))
    if is_first():
        # All processes are past the barrier, so they have read all earlier keys.
        while _unread:
            client.key_value_delete(_unread.pop())
        _unread.append(f"{folder}/")
    return values


def broadcast(make: Callable[[], Any]) -> Any:
    """Calls `make` in the first process only; returns its JSON value in every process.

    Raises:
        UserError: the first process did not return within `PMC_BARRIER_SECONDS`.
    """
    if count() == 1:
        return make()
    client, number = store(), next(_numbers)
    key = f"pmc/broadcast/{number}"
    if is_first():
        value = make()
        client.key_value_set(key, json.dumps(value))
        _unread.append(key)
        return value
    try:
        return json.loads(client.blocking_key_value_get(key, _barrier_milliseconds()))
    except Exception as error:
        raise _timed_out(error, "0", f"broadcast {number}") from None


def first_ahead(make: Callable[[], Any]) -> Any:
    """Calls `make` in every process, in the first one before all others; returns its value."""
    if not is_first():
        barrier("first process ready")
    made = make()
    if is_first():
        barrier("first process ready")
    return made


def barrier(name: str) -> None:
    """Waits until every process has called this.

    Raises:
        UserError: `PMC_BARRIER_SECONDS` have passed; the message names the missing processes.
    """
    if count() == 1:
        return
    try:
        store().wait_at_barrier(f"pmc {name}", _barrier_milliseconds())
    except Exception as error:
        missing = [line.strip() for line in str(error).splitlines() if line.strip().isdigit()]
        raise _timed_out(error, ", ".join(missing) or "?", f"barrier '{name}'") from None


def _timed_out(error: Exception, processes: str, where: str) -> Exception:
    """Turns the timeout of a wait into a message for the user; returns other errors unchanged."""
    if "DEADLINE_EXCEEDED" not in str(error):
        return error
    return UserError(
        f"timed out after {_barrier_milliseconds() / 1000:g} s waiting for process {processes} of "
        f"{count()} at {where}; look at its log, or raise PMC_BARRIER_SECONDS"
    )


def owns(number: int) -> bool:
    """Whether this process does work item `number`; items are assigned round-robin."""
    return number % count() == index()


def map_sharded(make: Callable[[int], Sequence[int]], size: int) -> list[list[int]]:
    """Returns `[make(0), ..., make(size - 1)]`, lists of token ids; one process makes each call."""
    by_process = gather([list(make(i)) for i in range(size) if owns(i)])
    return [by_process[i % count()][i // count()] for i in range(size)]


def host_array(array: "jax.Array") -> "np.ndarray":
    """Copies a complete sharded array to the host; all processes must call this."""
    import numpy as np

    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _barrier_milliseconds() -> int:
    return int(1000 * seconds_of("PMC_BARRIER_SECONDS", _BARRIER_SECONDS))


def seconds_of(variable: str, default: float) -> float:
    """Reads a time in seconds from an environment variable.

    Raises:
        UserError: the variable is not a positive number.
    """
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"{variable}={text}: expected a number of seconds above 0")
    return seconds
