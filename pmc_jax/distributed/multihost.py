"""Host-side communication between the processes of a job: gather, broadcast and barrier.

A job has one process per host. All processes must make the same calls in the same order. Values are
sent through the key-value store of jax's distributed runtime and not through the devices, so
float64 values keep their precision and no call waits for a device program. Only `host_array` sends
arrays through the devices. In a single process, no call communicates. `launch` connects the
processes, and `watchdog` detects failed processes.
"""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmc_jax.errors import UserError

if TYPE_CHECKING:  # The command line must respond before the libraries are imported.
    import jax
    import numpy as np

# This limit is high because a process may wait while another process writes a large model.
_BARRIER_SECONDS = 1800.0
_PIECE_BYTES = 1 << 20

_numbers = itertools.count()
_unread: list[str] = []  # Other processes may not have read these keys yet.


def count() -> int:
    """Returns the number of processes in this job.

    In a single process, the call does not start a jax backend.
    """
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Returns the index of this process, from 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Returns whether this is the first process, which writes files and prints messages."""
    return index() == 0


def store() -> Any:
    """Returns the client of jax's key-value store. jax has no public API for this client."""
    from jax._src import distributed

    return distributed.global_state.client


def gather(value: Any) -> list[Any]:
    """Sends the value of this process to all processes, and returns the values of all processes.

    The values are ordered by process. Values may have any size, and floats keep all bits.

    Args:
        value: value of this process, which JSON can represent.

    Raises:
        UserError: a process did not call this function within `PMC_BARRIER_SECONDS` seconds.
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
        # All processes have passed the barrier, so they have read all earlier keys.
        while _unread:
            client.key_value_delete(_unread.pop())
        _unread.append(f"{folder}/")
    return values


def broadcast(make: Callable[[], Any]) -> Any:
    """Calls `make` in the first process only, and returns its JSON result in every process.

    Raises:
        UserError: `make` did not return within `PMC_BARRIER_SECONDS` seconds.
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
    """Calls `make` in the first process, and then in all other processes at the same time.

    Returns the result of the call in this process.
    """
    if not is_first():
        barrier("first process ready")
    made = make()
    if is_first():
        barrier("first process ready")
    return made


def barrier(name: str) -> None:
    """Waits until every process has called this function.

    Args:
        name: name of the barrier, which is the same in all processes.

    Raises:
        UserError: a process did not call this function within `PMC_BARRIER_SECONDS` seconds. The
            message names the missing processes.
    """
    if count() == 1:
        return
    try:
        store().wait_at_barrier(f"pmc {name}", _barrier_milliseconds())
    except Exception as error:
        missing = [line.strip() for line in str(error).splitlines() if line.strip().isdigit()]
        raise _timed_out(error, ", ".join(missing) or "unknown", f"barrier '{name}'") from None


def _timed_out(error: Exception, processes: str, where: str) -> Exception:
    """Returns a UserError for a timeout, and any other error unchanged.

    Args:
        error: error of the key-value store.
        processes: indices of the missing processes, as text.
        where: call that failed, for the message.
    """
    if "DEADLINE_EXCEEDED" not in str(error):
        return error
    return UserError(
        f"{where}: this process has waited {_barrier_milliseconds() / 1000:g} s for other "
        f"processes (index {processes}). Read their logs, or raise PMC_BARRIER_SECONDS."
    )


def owns(number: int) -> bool:
    """Returns whether this process handles a work item. Items are assigned round-robin.

    Args:
        number: number of the work item, from 0.
    """
    return number % count() == index()


def map_sharded(make: Callable[[int], Sequence[int]], size: int) -> list[list[int]]:
    """Returns the lists of integers `[make(0), ..., make(size - 1)]` in every process.

    The calls of `make` are divided among the processes.
    """
    by_process = gather([list(make(i)) for i in range(size) if owns(i)])
    return [by_process[i % count()][i // count()] for i in range(size)]


def host_array(array: "jax.Array") -> "np.ndarray":
    """Copies a sharded array to the memory of every host, and returns the complete array.

    All processes must call this function.
    """
    import numpy as np

    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _barrier_milliseconds() -> int:
    return int(1000 * seconds_of("PMC_BARRIER_SECONDS", _BARRIER_SECONDS))


def seconds_of(variable: str, default: float) -> float:
    """Reads a number of seconds from an environment variable, or returns `default` if it is unset.

    Raises:
        UserError: the value is not a positive finite number.
    """
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(
            f"{variable}={text}: the value is not a positive, finite number of seconds. Set "
            f"{variable} to a number above 0, such as {default:g}."
        )
    return seconds
