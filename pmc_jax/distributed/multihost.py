"""Several processes, one a host, that run the same job: who is who, and what they tell each other.

Every process passes the same calls of this module in the same order, as it passes the same device
programs. Host values travel through the key-value store of jax's distributed runtime and not
through the devices: a float64 stays one, and nobody waits for a program that still runs. In one
process each function gives back what it was given. How processes start is in `launch.py`, how one
learns that another is gone in `watch.py`.
"""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmc_jax.errors import UserError

if TYPE_CHECKING:  # the command line answers before the libraries are imported
    import jax
    import numpy as np

# How long one process waits for another that is alive: it may write a large model meanwhile.
_BARRIER_SECONDS = 1800.0
_PIECE = 1 << 20
# Token ids gathered at once: they are on every device for that time.
_BLOCK = 1 << 22

_numbers = itertools.count()
_said: list[str] = []  # keys of broadcasts that some process may not have read yet


def count() -> int:
    """How many processes run this job; starts no backend where there is one alone."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """The number of this process, from 0."""
    import jax

    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes the files and speaks to the user."""
    return index() == 0


def store() -> Any:
    """The client of the key-value store; jax has no public name for it."""
    from jax._src import distributed

    return distributed.global_state.client


def gather(value: Any) -> list[Any]:
    """What every process gave, in their order: JSON values, of any size, floats bit for bit.

    Raises:
        UserError: a process did not come within `PMC_BARRIER_SECONDS`.
    """
    if count() == 1:
        return [value]
    client, number, me = store(), next(_numbers), index()
    folder = f"pmc/gather/{number}"
    text = json.dumps(value).encode()
    pieces = [text[i : i + _PIECE] for i in range(0, len(text), _PIECE)]
    for i, piece in enumerate(pieces):
        client.key_value_set_bytes(f"{folder}/{me}/{i}", piece)
    client.key_value_set(f"{folder}/{me}/pieces", str(len(pieces)))
    barrier(f"gather {number}")
    found = []
    for process in range(count()):
        if process == me:
            found.append(json.loads(text))
            continue
        pieces = int(client.key_value_try_get(f"{folder}/{process}/pieces"))
        parts = [client.key_value_try_get_bytes(f"{folder}/{process}/{i}") for i in range(pieces)]
        found.append(json.loads(b"".join(parts)))
    if is_first():
        # At this barrier all had read what was said before it, and what was gathered before.
        while _said:
            client.key_value_delete(_said.pop())
        _said.append(f"{folder}/")
    return found


def broadcast_from_first(make: Callable[[], Any]) -> Any:
    """What `make` returns in the first process, a JSON value; the others do not call it.

    Raises:
        UserError: the first process did not say it within `PMC_BARRIER_SECONDS`.
    """
    if count() == 1:
        return make()
    client, key = store(), f"pmc/said/{next(_numbers)}"
    if is_first():
        value = make()
        client.key_value_set(key, json.dumps(value))
        _said.append(key)
        return value
    try:
        return json.loads(client.blocking_key_value_get(key, _barrier_milliseconds()))
    except Exception as error:
        raise _late(error, "0", "its decision") from None


def first_ahead(make: Callable[[], Any]) -> Any:
    """What `make` returns in this process; the first process makes it before all others."""
    if not is_first():
        barrier("the first process's work")
    made = make()
    if is_first():
        barrier("the first process's work")
    return made


def barrier(name: str) -> None:
    """Returns when every process has come here.

    Raises:
        UserError: one did not come within `PMC_BARRIER_SECONDS`; it names the missing ones.
    """
    if count() == 1:
        return
    try:
        store().wait_at_barrier(f"pmc {name}", _barrier_milliseconds())
    except Exception as error:
        missing = [line.strip() for line in str(error).splitlines() if line.strip().isdigit()]
        raise _late(error, ", ".join(missing) or "?", name) from None


def _late(error: Exception, processes: str, name: str) -> Exception:
    """What a wait that failed means to the user; faults of another kind stay as they are."""
    if "DEADLINE_EXCEEDED" not in str(error):
        return error
    return UserError(
        f"process {processes} of {count()} did not come to {name} within "
        f"{_barrier_milliseconds() / 1000:g} s; look at its log, or raise PMC_BARRIER_SECONDS"
    )


def owns(number: int) -> bool:
    """Whether work of this number is this process's: every process has the same share."""
    return number % count() == index()


def map_sharded(make: Callable[[int], Sequence[int]], size: int) -> list[list[int]]:
    """`[make(0), ..., make(size - 1)]`, lists of token ids, each made by one process alone."""
    if count() == 1:
        return [list(make(i)) for i in range(size)]
    import numpy as np

    own = [list(make(i)) for i in range(size) if owns(i)]
    width = max([1, *(longest for longest in gather(max(map(len, own), default=0)))])
    most = -(-size // count())
    block = max(1, min(most, _BLOCK // (width * count())))
    found: list[list[int]] = [[] for _ in range(size)]
    for begin in range(0, most, block):
        padded = np.full((block, width + 1), -1, np.int32)
        for row, tokens in zip(padded, own[begin : begin + block], strict=False):
            row[: len(tokens)], row[-1] = tokens, len(tokens)
        for process, part in enumerate(_gather_array(padded)):
            for i, row in enumerate(part[part[:, -1] >= 0], begin):
                found[i * count() + process] = row[: row[-1]].tolist()
    return found


def _gather_array(array: "np.ndarray") -> "np.ndarray":
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array)


def host_array(array: "jax.Array") -> "np.ndarray":
    """The whole of a sharded array; with several processes all of them must ask."""
    import numpy as np

    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _barrier_milliseconds() -> int:
    return int(1000 * seconds_of("PMC_BARRIER_SECONDS", _BARRIER_SECONDS))


def seconds_of(variable: str, default: float) -> float:
    """A time from the environment.

    Raises:
        UserError: it is no positive number.
    """
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"{variable}={text}: expected a number of seconds above 0")
    return seconds
