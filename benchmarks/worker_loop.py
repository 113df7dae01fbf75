"""The worker's side of `pairs.Worker`: arguments in a file, then a run for every line on stdin."""

import json
import sys
from collections.abc import Callable, Mapping


def serve(begin: Callable[[dict], Callable[[], dict]], versions: Mapping[str, str]) -> None:
    """Calls `begin` with the arguments; what it returns does the work once and gives figures."""
    with open(sys.argv[1]) as file:
        once = begin(json.load(file))
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once()), flush=True)
