"""Runs `pmc chat`: reads lines, and streams the answers of one or two models.

The output has plain lines without cursor movement, so that every terminal and a pipe can show it.
The continuation lines of an answer are indented, so no answer can look like another model's.
"""

import collections
import contextlib
import dataclasses
import functools
import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import jax

from pmc_jax.commands.inputs import load_model
from pmc_jax.commands.recorded import recorded_config, source_model
from pmc_jax.config.evaluate import LevelsConfig
from pmc_jax.config.run import Config, model_path
from pmc_jax.data.check import text_fault
from pmc_jax.data.lines import stdin_lines
from pmc_jax.data.visible import is_visible
from pmc_jax.distributed import preemption
from pmc_jax.errors import UserError, escaped
from pmc_jax.sampling.chat_session import ChatSession
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import Sampler

_INDENT = 10  # columns before the text of an answer
_EMPTY = "(empty answer)"
_SPEAKERS = {"/before": ["before"], "/after": ["after"], "/both": ["before", "after"]}
_HELP = """\
/prefill TEXT     the next answer begins with TEXT
/samples N [T]    N sampled answers at temperature T, counted; /samples 0: one greedy answer
/before, /after   only this model answers
/both             both models answer
/new              begin a new conversation
/help             show this list
/quit             end, like Ctrl-D; Ctrl-C stops an answer
//TEXT            ask the question /TEXT"""

_log = logging.getLogger(__name__)


def run_chat(config: Config, folder: Path | None) -> int:
    """Answers the lines of stdin until it ends.

    Args:
        config: settings. `model.path` is the model, or the unlearned model of the run.
        folder: output folder of a finished run, whose model before unlearning answers too if it
            still exists; None for one model.

    Returns:
        The exit status: 130 after Ctrl-C, 2 if a line from a pipe was invalid, and 0 otherwise.

    Raises:
        UserError: a model cannot be loaded.
    """
    paths = {"answer": model_path(config)}
    if folder is not None:
        paths = {"after": model_path(config)}
        try:
            fix = "Only the model after unlearning answers"
            paths = {"before": source_model(recorded_config(folder), folder, fix=fix)[0], **paths}
        except UserError as error:
            _log.warning("%s", error)
    chat = _Chat({name: _session(config, path) for name, path in paths.items()}, config)
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        return 2 * chat.answer_all(stdin_lines(), echo=True)
    models = ", ".join(f"{name} = {escaped(path)}" for name, path in paths.items())
    print(f"{models}\n/help lists the commands, Ctrl-D ends.")
    try:
        with preemption.on_interrupt(chat.interrupt):
            chat.answer_all(_terminal_lines(), echo=False)
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        print()


def _session(config: Config, path: str) -> ChatSession:
    lm = load_model(config, path)
    generator = TextGenerator.of(lm, config.model)
    weights = generator.snapshot(lm.model)
    # Only the snapshot is needed from here on, so the memory of the model becomes free.
    shapes = jax.eval_shape(lambda model: model, lm.model)
    generator = dataclasses.replace(generator, lm=dataclasses.replace(lm, model=shapes))
    del lm
    gc.collect()  # Reference cycles hold the model.
    limits = config.evaluate.max_new_tokens, config.evaluate.batch_size
    return ChatSession(generator, weights, *limits, config.seed)


def _terminal_lines() -> Iterator[str]:
    """Yields the lines that a user types, stripped of surrounding white space.

    If Python has GNU readline, a line can be edited. Its history is never written to a file.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")
    sys.stdin.reconfigure(errors="surrogateescape")
    with contextlib.suppress(EOFError):
        while True:
            yield input("> ").strip()


class _AnswerStopped(Exception):
    """Ctrl-C has stopped an answer."""


class _Interrupt:
    """Reaction to Ctrl-C: the first one stops an answer, and every other one ends the chat."""

    def __init__(self):
        self._is_answering = self._is_requested = False

    def __call__(self) -> None:
        if not self._is_answering or self._is_requested:
            raise KeyboardInterrupt
        self._is_requested = True

    def check(self) -> None:
        if self._is_requested:
            raise _AnswerStopped

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        self._is_answering, self._is_requested = True, False
        try:
            yield
        finally:
            self._is_answering = False


class _Chat:
    """State of a chat: its sessions, and what the commands have changed.

    Args:
        sessions: the session of each model by the name of the model.
        config: settings, of which `evaluate` is read.
    """

    def __init__(self, sessions: Mapping[str, ChatSession], config: Config):
        self.interrupt = _Interrupt()
        self._sessions, self._settings = sessions, config.evaluate
        self._active = list(sessions)
        self._levels = config.evaluate.levels
        self._is_sampled, self._prefill = False, ""

    def answer_all(self, lines: Iterable[str], *, echo: bool) -> bool:
        """Answers lines until they end or one of them is /quit.

        Args:
            lines: questions and commands.
            echo: whether to print each question above its answers.

        Returns:
            Whether a line was invalid.
        """
        failed = False
        for number, line in enumerate(lines, 1):
            if line == "/quit":
                break
            if not line:
                continue
            try:
                if fault := text_fault(line):
                    raise UserError(f"the line {fault}. Change the line.")
                if line.startswith("/") and not line.startswith("//"):
                    self._obey(*line.split(maxsplit=1))
                else:
                    self._answer(line.removeprefix("/"), echo)
            except UserError as error:
                where = f"stdin, line {number}: " if echo else ""
                print(f"pmc: error: {where}{error}", file=sys.stderr)
                failed = True
        return failed

    def _obey(self, command: str, argument: str = "") -> None:
        """Executes a command."""
        if command == "/prefill":
            self._prefill = argument
            _note("the next answer begins with this text" if argument else "no prefill")
        elif command == "/samples":
            self._set_samples(argument)
        elif command not in ("/new", "/help", *_SPEAKERS):
            raise UserError("this command does not exist. /help lists the commands.")
        elif argument:
            raise UserError(f"{command}: this command takes no text. Put the text on a new line.")
        elif command == "/help":
            print(_HELP)
        elif command == "/new":
            for session in self._sessions.values():
                session.messages.clear()
            _note("new conversation")
        else:
            names, loaded = _SPEAKERS[command], ", ".join(self._sessions)
            if not self._sessions.keys() >= {*names}:
                raise UserError(f"{command}: this chat has only the model {loaded}.")
            self._active = names
            _note(f"answers: {', '.join(names)}")

    def _set_samples(self, argument: str) -> None:
        number, _, temperature = argument.partition(" ")
        if number == "0":
            self._is_sampled = False
            _note("greedy answers")
            return
        try:
            drawn = float(temperature) if temperature else self._settings.levels.temperature
            self._levels = LevelsConfig(num_samples=int(number), temperature=drawn)
        except ValueError:
            raise UserError(
                "/samples: write /samples N or /samples N T, with an integer N from 0 to 10000 and "
                "a temperature T above 0."
            ) from None
        self._is_sampled = True
        _note(self._how())

    def _how(self) -> str:
        number = self._levels.num_samples
        return f"{number} sample{'s' * (number > 1)} at temperature {self._levels.temperature:g}"

    def _answer(self, question: str, echo: bool) -> None:
        """Prints the answers of the active models to a question."""
        prefill, self._prefill = self._prefill, ""
        if echo:
            print(f"{'question:':{_INDENT}}{escaped(question)}")
        with self.interrupt.answering():
            try:
                for name in self._active:
                    self._answer_by(name, question, prefill)
            except _AnswerStopped:
                _note("stopped")
            finally:
                print()

    def _answer_by(self, name: str, question: str, prefill: str) -> None:
        """Prints the answers of one model."""
        print(f"{name + ':':{_INDENT}}", end="", flush=True)
        ask = functools.partial(self._sessions[name].ask, question, prefill=prefill)
        try:
            if self._is_sampled:
                print(self._how(), end="", flush=True)
                levels, check = self._levels, lambda text: self.interrupt.check()
                sampler = Sampler(levels.temperature)
                reply = ask(sampler, num_samples=levels.num_samples, on_text=check)
            else:
                text = _GrowingText(self.interrupt.check)
                reply = ask(on_text=text.update)
                text.end(reply.texts[0])
        finally:
            print()
        if self._is_sampled:
            for answer, count in collections.Counter(reply.texts).most_common():
                print(f"{count:>{_INDENT - 3}} x {_indented(answer) or _EMPTY}")
        if reply.num_cut:
            limit = f"{self._settings.max_new_tokens} tokens, see evaluate.max_new_tokens"
            _note(f"{reply.num_cut} of {len(reply.texts)} cut after {limit}")
        if reply.num_left_out:
            _note(f"context window full: oldest turns left out: {reply.num_left_out}")


class _GrowingText:
    """Text of an answer on the terminal, of which each call prints what is new."""

    def __init__(self, check: Callable[[], None]):
        self._check, self._shown = check, ""

    def update(self, text: str) -> None:
        self._check()
        self._show(text.rstrip("\ufffd"))  # The last character may still lack some of its bytes.

    def end(self, text: str) -> None:
        self._show(text if is_visible(text) else _EMPTY)

    def _show(self, text: str) -> None:
        if not text.startswith(self._shown):  # The tokenizer has changed earlier text.
            print(f"\n{'':{_INDENT}}", end="")
            self._shown = ""
        print(_indented(text[len(self._shown) :]), end="", flush=True)
        self._shown = text


def _indented(text: str) -> str:
    """Returns a text of a model for the terminal, which it cannot control."""
    return escaped(text, keep="\n\t").replace("\n", f"\n{'':{_INDENT}}")


def _note(text: str) -> None:
    print(f"{'':{_INDENT}}({text})")
