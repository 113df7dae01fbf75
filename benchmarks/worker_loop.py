"""Runs the main loop of the scripts that `pairs.Worker` starts."""

import json
import sys
from collections.abc import Callable, Mapping


def serve(begin: Callable[[dict], Callable[[], dict]], versions: Mapping[str, str]) -> None:
    """Serves measurements: prints the versions, then measures once for each line on stdin.

    Args:
        begin: function that takes the arguments of the worker and returns the measuring function.
        versions: version of each package, by name.
    """
    with open(sys.argv[1]) as file:
        once = begin(json.load(file))
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once()), flush=True)
