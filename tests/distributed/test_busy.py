"""Work without a progress bar is named once it takes long, and only then."""

import threading

import pytest
from host_runs import without_bars

from pmc_jax.distributed import busy, multihost


@pytest.fixture
def silent(monkeypatch) -> None:
    monkeypatch.setattr(busy, "_SILENT_SECONDS", 0.01)


def _wait_for_the_bar() -> None:
    (thread,) = (t for t in threading.enumerate() if getattr(t, "_target", None) is busy._show)
    thread.join(0.5)


def test_long_work_is_named(silent, capsys):
    with pytest.raises(KeyError), busy.busy("read the data"):
        _wait_for_the_bar()
        raise KeyError
    shown = capsys.readouterr().err
    assert shown.strip().startswith("read the data: 0/1 [00:0") and without_bars(shown) == []
    assert shown.endswith("\n")


def test_short_work_is_not_named(capsys):
    for _ in range(3):
        with busy.busy("read the data"):
            pass
    assert capsys.readouterr().err == ""


def test_only_the_first_process_names_it(silent, capsys, monkeypatch):
    monkeypatch.setattr(multihost, "index", lambda: 1)
    with busy.busy("read the data"):
        threading.Event().wait(0.1)
    assert capsys.readouterr().err == ""
