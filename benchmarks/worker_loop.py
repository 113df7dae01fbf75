"""Main loop of a worker of `pairs.Worker`: reads its arguments, then runs once per stdin line."""

import json
import sys
from collections.abc import Callable, Mapping


def serve(begin: Callable[[dict], Callable[[], dict]], versions: Mapping[str, str]) -> None:
    """Calls `begin` with the arguments, and the function that it returns once per stdin line."""
    with open(sys.argv[1]) as file:
        once = begin(json.load(file))
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once()), flush=True)
