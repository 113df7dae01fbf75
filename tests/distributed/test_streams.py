"""Output that cannot be written or shown ends no command and moves no cursor."""

import json
import logging
import os
import subprocess
import sys

import pytest

from pmc_jax.commands import start
from pmc_jax.distributed import streams
from pmc_jax.errors import UserError, escaped

CONTROLS = "\x1b[2J\n\r\t\0\x7f\x9b\u2028\u202e\udcff"


def pmc(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Runs pmc in a shell, which redirects its output."""
    command = f'exec "$0" -m pmc_jax.cli "$@" {shell}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.fixture
def settings(tmp_path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 3\n")
    return str(path)


@pytest.mark.parametrize("words", [("config", "FILE"), ("config", "--help"), ("--version",)])
@pytest.mark.parametrize("shell", [">&-", "2>&-", ">/dev/full", ">/dev/full 2>/dev/full"])
def test_a_stream_that_cannot_be_written_is_no_traceback(words, shell, settings):
    words = [settings if word == "FILE" else word for word in words]
    done = pmc(*words, shell=shell)
    is_full = shell.startswith(">/dev/full")
    assert done.returncode == (2 if is_full else 0)
    lines = done.stderr.splitlines()
    if shell == ">/dev/full":
        assert len(lines) == 1 and "No space left on device" in lines[0]
    else:
        assert not lines


@pytest.mark.parametrize("words", [("config", "FILE"), ("unlearn", "--help")])
def test_a_reader_that_closes_the_pipe_gets_no_more(words, settings):
    reader, writer = os.pipe()
    os.close(reader)
    words = [settings if word == "FILE" else word for word in words]
    command = [sys.executable, "-m", "pmc_jax.cli", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "name", ["é日😀.yaml", "a\x1b[2J\nb.yaml", "a\u202eb.yaml", "a\udcff.yaml"]
)
def test_the_name_of_a_file_is_one_line_on_any_terminal(name):
    done = pmc("config", name, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2
    assert done.stderr.startswith("pmc: error: ") and done.stderr.count("\n") == 1
    assert done.stderr.strip().isprintable() and done.stderr.isascii()


def test_control_characters_are_escaped_as_in_json():
    assert not set(escaped(CONTROLS)) & set(CONTROLS) - set("[2J")
    assert json.loads(f'"{escaped(CONTROLS)}"') == CONTROLS
    assert escaped("é 日 😀 می\u200cخواهم") == "é 日 😀 می\u200cخواهم"
    assert json.loads(f'"{escaped("a😀é", all_characters=True)}"') == "a😀é"
    assert "\n" not in str(UserError("one\ntwo"))


def test_a_stream_shows_what_it_can(tmp_path):
    handle = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with streams.open_stream(handle, "latin-1") as stream:
        print("é 日 \x1b[31m", end="\r", file=stream)
        stream.write("\n\x1b[A")
    os.close(handle)
    assert (tmp_path / "out").read_bytes() == b"\xe9 \\u65e5 \\u001b[31m\r\n\x1b[A"


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_all():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    counter = [
        sys.executable,
        "-c",
        "import sys, time; time.sleep(0.2); print(len(sys.stdin.read()))",
    ]
    with subprocess.Popen(counter, stdin=reader, stdout=subprocess.PIPE) as process:
        os.close(reader)
        stream = streams.open_stream(writer, None)
        stream.write("x" * 300_000)
        stream.flush()
        os.close(writer)
        assert int(process.communicate()[0]) == 300_000


def test_a_warning_is_one_line():
    record = logging.LogRecord("", logging.WARNING, "", 0, "%s: damaged", ("a\nb",), None)
    assert start.OneLine("pmc: %(message)s").format(record) == "pmc: a\\u000ab: damaged"
