"""Shows a label and the elapsed time on stderr while work without a progress bar runs."""

import contextlib
import sys
import threading
from collections.abc import Iterator

from tqdm import tqdm

from pmc_jax.distributed import multihost

_SILENT_SECONDS = 3.0
_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}]"


@contextlib.contextmanager
def busy(label: str) -> Iterator[None]:
    """Shows a label and the elapsed time on stderr if a `with` block takes more than 3 seconds.

    Only the first process of a job shows them.
    """
    # Without jax, this process is not yet a part of a job.
    if "jax" in sys.modules and not multihost.is_first():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(label, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1)


def _show(label: str, ended: threading.Event) -> None:
    if ended.wait(_SILENT_SECONDS):
        return
    with tqdm(total=1, desc=label, bar_format=_FORMAT, file=sys.stderr) as bar:
        while not ended.wait(1):
            bar.refresh()
        bar.update()
