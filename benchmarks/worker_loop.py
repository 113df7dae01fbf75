"""Main loop of a worker of `pairs.Worker`: reads a file of arguments, then runs per stdin line."""

import json
import sys
from collections.abc import Callable, Mapping


def serve(begin: Callable[[dict], Callable[[], dict]], versions: Mapping[str, str]) -> None:
    """Calls `begin` with the arguments, then calls the function that it returns per stdin line."""
    with open(sys.argv[1]) as file:
        once = begin(json.load(file))
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once()), flush=True)
