"""`pmc chat`: conversations through a pipe and in a terminal."""

import io
import itertools
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
import tiny_runs as tiny
from jax import monitoring

from pmc_jax import ModelConfig, cli, load
from pmc_jax.commands import start
from pmc_jax.commands.chat_job import _GrowingText
from pmc_jax.sampling.chat_session import ChatSession
from pmc_jax.sampling.generator import TextGenerator

QUESTIONS = [row["question"] for row in tiny.FORGET]
FIRST, SECOND = QUESTIONS[:2]


def chat(monkeypatch, *lines: str, config: str = "out") -> tiny.Done:
    """Pipes lines to `pmc chat`."""
    content = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    return tiny.pmc("chat", config=config)


@pytest.fixture
def session(taught) -> ChatSession:
    lm = load(taught.out / "model")
    generator = TextGenerator.of(lm, ModelConfig())
    return ChatSession(generator, generator.snapshot(lm.model), max_new_tokens=8, batch_size=8)


def test_both_models_answer_each_line_of_a_pipe(taught, monkeypatch):
    monkeypatch.chdir(taught.folder)
    files, compiled = tiny.digest(taught.folder), []

    def listen(event: str, seconds: float, **details) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details["fun_name"])

    monitoring.register_event_duration_secs_listener(listen)
    try:
        done = chat(monkeypatch, FIRST, SECOND, "/new", "/after", "", SECOND, "/quit", FIRST)
    finally:
        monitoring.unregister_event_duration_listener(listen)
    logged = {row["question"]: row for row in taught.log("answer") if row["split"] == "forget"}
    first, second, _, _, again = re.split(r"\n\n|(?<=\))\n", done.out.rstrip("\n"))
    assert first.splitlines() == [
        f"question: {FIRST}",
        f"before:   {logged[FIRST]['before']}",
        f"after:    {logged[FIRST]['after']}",
    ]
    assert again == f"question: {SECOND}\nafter:    {logged[SECOND]['after']}"
    # The second turn sees the first turn.
    assert second.splitlines()[1:] != [f"{m + ':':10}{logged[SECOND][m]}" for m in logged[SECOND]]
    assert done.status == 0 and done.said == [] and "/quit" not in done.out
    # One program serves both models and all turns.
    assert [name for name in compiled if "prefill" in name or "decode" in name] in (
        ["jit(prefill)", "jit(decode)"],
        ["prefill", "decode"],
    )
    assert tiny.digest(taught.folder) == files


def test_one_model_or_both_answer_as_the_commands_say(taught, monkeypatch):
    monkeypatch.chdir(taught.folder)
    done = chat(monkeypatch, "/before", FIRST, "/after", "/new", FIRST, "/both", "/new", FIRST)
    logged = next(row for row in taught.log("answer") if row["question"] == FIRST)
    before, after = (f"{name + ':':10}{logged[name]}" for name in ("before", "after"))
    asked, begun = f"question: {FIRST}", f"{'':10}(new conversation)"
    said = [f"{'':10}(answers: {names})" for names in ("before", "after", "before, after")]
    assert [line for line in done.lines if line] == [
        *(said[0], asked, before),
        *(said[1], begun, asked, after),
        *(said[2], begun, asked, before, after),
    ]
    assert done.status == 0 and before.split(":")[1].split() != after.split(":")[1].split()


def test_an_answer_grows_token_by_token(session):
    whole = session.ask(FIRST).texts[0]
    for prefill in ("", whole.split()[0]):
        session.messages.clear()
        texts: list[str] = []
        reply = session.ask(FIRST, prefill=prefill, on_text=texts.append)
        assert texts[-1] == reply.texts[0] == whole
        sizes = [len(text.split()) for text in texts]
        assert all(whole.startswith(text) for text in texts)
        assert sizes[0] == 1 + bool(prefill) and sizes[-1] >= 4
        assert all(next_ - size in (0, 1) for size, next_ in itertools.pairwise(sizes))


def test_samples_prefill_and_invalid_lines(taught, monkeypatch):
    monkeypatch.chdir(taught.folder)
    lines = ["/samples 6 0.5", f"/prefill {tiny.WORDS[7]}", FIRST, "/samples 0", "//", "/nothing"]
    done = chat(monkeypatch, *lines, "/samples 1 0", "/new x", "/both", "\udcff")
    assert "before:   6 samples at temperature 0.5\n" in done.out
    counted = re.findall(rf"^ +(\d+) x {tiny.WORDS[7]}\b", done.out, re.MULTILINE)
    assert sum(map(int, counted)) == 12
    assert "question: /\n" in done.out and "(answers: before, after)" in done.out
    assert done.status == 2 and len(done.said) == 4
    tiny.assert_names("".join(done.said), "/help", "line 7: /samples: ", "/new: ", "not valid text")


def test_a_full_context_window_leaves_out_the_oldest_turns(inputs, monkeypatch):
    long = [" ".join(tiny.WORDS * 4), " ".join(tiny.WORDS * 3)]
    done = chat(monkeypatch, *long, " ".join(tiny.WORDS * 7), config="run.yaml")
    first, second, third = done.out.rstrip().split("\n\n")
    assert "left out" not in first and done.status == 2
    assert "(context window full: oldest turns left out: 1)" in second
    assert third == f"question: {' '.join(tiny.WORDS * 7)}\nanswer:"
    tiny.assert_names(done.said[0], "350 prompt tokens", "window of 256", "leaves 248")


def test_only_the_model_after_unlearning_answers_after_a_purge(copied, monkeypatch, caplog):
    tiny.succeed("unlearn", "--purge", config="out")
    done = chat(monkeypatch, FIRST, "/both")
    assert "before:" not in done.out and "\nafter:    " in done.out
    assert done.said == ["pmc: error: stdin, line 2: /both: this chat has only the model after."]
    assert [record.getMessage() for record in caplog.records] == [
        "out/target: the model from which the run started no longer exists. Only the model after "
        "unlearning answers."
    ]


def test_texts_cannot_control_the_terminal(inputs, monkeypatch, capsys):
    path = inputs / "model/tokenizer.json"
    for word in tiny.WORDS:
        path.write_text(path.read_text().replace(f'"{word}"', f'"{word}\\u001b[2J"'))
    done = chat(monkeypatch, f"{FIRST}\x1b]0;x\x07\u202e", config="model")
    question, answer, *_ = done.out.splitlines()
    assert question == f"question: {FIRST}\\u001b]0;x\\u0007\\u202e"
    assert answer.count("\\u001b[2J") >= 1 and "\x1b" not in done.out
    # A second line of an answer cannot look like the answer of another model.
    text = _GrowingText(lambda: None)
    for part in ("a\r", "a\r\nafter:", "a\r\nafter: \ufffd", "a\r\nafter: é", "b"):
        text.update(part)
    text.end("b\u200b")
    indent = " " * 10
    assert capsys.readouterr().out == (f"a\\u000d\n{indent}after: é\n{indent}b\u200b")


def in_terminal(monkeypatch, typed: bytes) -> tuple[int, str]:
    """Runs `pmc chat out` in this process with stdin and stdout on a terminal.

    Returns the exit status and the text on the terminal.
    """
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while b"\0" not in shown:
            shown.extend(os.read(master, 1024))

    reader = threading.Thread(target=read)
    reader.start()
    os.write(master, typed)
    with open(slave) as source, open(os.dup(slave), "w") as target, monkeypatch.context() as patch:
        patch.setattr(start, "keep_compilations", lambda: None)
        patch.setattr("sys.stdin", source)
        patch.setattr("sys.stdout", target)
        status = cli.main(["chat", "out"])
        target.write("\0")
    reader.join()
    os.close(master)
    return status, shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_stops_an_answer_and_a_second_one_ends(count, taught, monkeypatch):
    monkeypatch.chdir(taught.folder)
    original, questions = ChatSession.ask, []

    def ask(self, question, *args, on_text, **options):
        questions.append(question)

        def interrupted(text: str) -> None:
            if questions == [FIRST]:
                for _ in range(count):
                    os.kill(os.getpid(), signal.SIGINT)
            on_text(text)

        return original(self, question, *args, on_text=interrupted, **options)

    monkeypatch.setattr(ChatSession, "ask", ask)
    status, shown = in_terminal(monkeypatch, f"{FIRST}\n{SECOND}\n\x04".encode())
    if count == 2:
        assert status == 130 and questions == [FIRST] and "Traceback" not in shown
        return
    # The stopped answer is not a turn, so both models see the second question alone.
    logged = next(row for row in taught.log("answer") if row["question"] == SECOND)
    assert status == 0 and questions == [FIRST, SECOND, SECOND]
    assert "before:   \n          (stopped)\n\n> " in shown
    assert f"before:   {logged['before']}\nafter:    {logged['after']}\n\n> \n" in shown


@pytest.mark.slow
def test_the_command_in_a_terminal(taught, monkeypatch, tmp_path):
    """The user types a question, Ctrl-D or Ctrl-C; a dumb terminal receives no escape sequences."""
    monkeypatch.chdir(taught.folder)
    logged = next(row for row in taught.log("answer") if row["question"] == FIRST)
    environment = os.environ | {"TERM": "dumb", "HOME": str(tmp_path)}
    for last, expected in ((b"\x04", 0), (b"\x03", 130)):
        status, shown = typed([f"{FIRST}\n".encode(), b"/after\n", last], environment)
        assert status == expected and "\x1b" not in shown
        assert f"before:   {logged['before']}\nafter:    {logged['after']}\n\n> " in shown
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "xla" not in path.parts]


def typed(parts: Sequence[bytes], environment: dict[str, str]) -> tuple[int, str]:
    """Runs `pmc chat out` in a terminal of its own, and types a part after each prompt."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pmc_jax.cli", "chat", "out"]
    how = dict(stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment)
    # A new session makes the terminal the one whose Ctrl-C interrupts the command.
    login = "import os, sys, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    login += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", login, *command]
    process = subprocess.Popen(command, start_new_session=True, **how)
    os.close(slave)
    shown, left = b"", list(parts)
    try:
        while part := os.read(master, 1024):
            shown += part
            if left and shown.endswith(b"> "):
                os.write(master, left.pop(0))
    except OSError:  # The command has ended.
        pass
    _, err = process.communicate(timeout=60)
    os.close(master)
    assert not left, err.decode()[-2000:]
    return process.returncode, shown.decode().replace("\r\n", "\n")
