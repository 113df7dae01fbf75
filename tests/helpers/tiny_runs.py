"""Complete tiny runs, with a tiny model, rows of invented words, settings and commands."""

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from golden_models import model_folder
from host_runs import without_bars
from PIL import Image
from safetensors.numpy import load_file

from pmc_jax import PMCConfig, cli
from pmc_jax.artifacts.figure import Figure
from pmc_jax.artifacts.log import read_log
from pmc_jax.commands import start
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.errors import UserError
from pmc_jax.scoring.abstention import abstentions
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.unlearning.admission import Admission
from pmc_jax.unlearning.selection import Selector

# These words are the vocabulary of the model. Settings, messages and binary files contain none of
# them by chance.
WORDS = tuple(
    f"{a}{b}{c}"
    for a in ("Zorb", "Quax")
    for b in ("ol", "imp", "um", "ed", "yk")
    for c in ("ant", "ish", "over", "ula", "erk")
)
STEPS = 24  # A run with `write_settings` has this number of steps.
# With the settings of the published algorithm, no question waits and no sample is rejected.
PUBLISHED = {
    "num_samples": 5,
    "private_words": True,
    "temperature": 1.0,
    "epochs": 15,
    "temperature_decay_tokens": 0,
    "top_k": 0,
    "top_p": 0.95,
    "lambda_retain": 1.25,
    "retain_rows": 1,
    "steps_per_round": 1,
    "max_train_score": None,
    "question_word_dropout": 0,
    "answer_prefix": 0,
    "max_attempts": 1,
    **{"min_words": 0, "max_repetition": 1.0, "max_perplexity": None, "extra_lines": True},
    **{"prefer": "first", "threshold": 0.0},
}
# With these settings the model memorises the forget rows and the retain rows.
FINETUNE = {
    "data": ["forget.jsonl", "retain.jsonl"],
    "epochs": 40,
    "batch_size": 14,
    "learning_rate": 1e-2,
}


def grouped(**settings: Any) -> dict[str, Any]:
    """Groups settings of `pmc` that are given by the last part of their names.

    The name `num_samples`, for example, stands for `sampling.num_samples`. Settings of `stop` are
    given in their group.
    """
    groups: dict[str, Any] = {}
    for name, value in settings.items():
        owners = [
            group.name
            for group in dataclasses.fields(PMCConfig)
            if group.name != "stop" and hasattr(getattr(PMCConfig(), group.name), name)
        ]
        assert len(owners) <= 1, f"{name} is in {owners}"
        (groups.setdefault(owners[0], {}) if owners else groups)[name] = value
    return groups


def pmc_config(**settings: Any) -> PMCConfig:
    """Returns the default settings of `pmc` with changes, which are named as in `grouped`."""
    return PMCConfig(**grouped(**settings))


def published(**settings: Any) -> PMCConfig:
    """Returns the published settings of `pmc` with changes, which are named as in `grouped`."""
    return pmc_config(**PUBLISHED | settings)


def write_model(folder: Path) -> Path:
    """Writes the folder of a two-layer Llama model whose tokens are `WORDS`."""
    model_folder(folder, "default")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    renamed = {f"w{i}": word for i, word in enumerate(WORDS)}
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {renamed.get(t, t): i for t, i in vocabulary.items()}
    path.write_text(json.dumps(tokenizer))
    return folder


def rows(count: int, seed: int, *, question: int = 4, answer: int = 5) -> list[dict[str, str]]:
    """Returns random rows whose questions and answers have the given numbers of words."""
    rng = np.random.default_rng(seed)

    def text(size: int) -> str:
        return " ".join(rng.choice(WORDS, size))

    return [{"question": text(question), "answer": text(answer)} for _ in range(count)]


FORGET = rows(6, seed=1)
RETAIN = rows(8, seed=2)
AGAIN = [
    {"question": f"{row['question']} {word}", "answer": row["answer"]}
    for row, word in zip(FORGET, WORDS, strict=False)
]


def write_rows(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def write_inputs(folder: Path, **sections: dict[str, Any]) -> Path:
    """Writes the inputs of a run to a folder.

    The inputs are `model/`, `forget.jsonl`, `again.jsonl` (paraphrased forget rows),
    `retain.jsonl` and `run.yaml`. Paths in the settings are relative to the folder.
    """
    write_model(folder / "model")
    for name, content in (("forget", FORGET), ("again", AGAIN), ("retain", RETAIN)):
        write_rows(folder / f"{name}.jsonl", content)
    write_settings(folder / "run.yaml", **sections)
    return folder


def write_settings(path: Path, **sections: dict[str, Any]) -> Path:
    """Writes the settings of a run of `STEPS` steps, with `sections` in place of whole sections."""
    forget, again, retain = ({"path": f"{name}.jsonl"} for name in ("forget", "again", "retain"))
    evaluate = {"forget": forget, "forget_paraphrased": again, "retain": retain}
    settings = {
        "model": {"path": "model"},
        "data": {"forget": forget, "retain": retain, "evaluate": evaluate},
        "pmc": {"num_samples": 8, "epochs": 16, "max_new_tokens": 8, "temperature": 1.3},
        "train": {"batch_size": 4, "learning_rate": 3e-3},
        # Sampled and elicited answers take seconds, so only tests of these levels measure them.
        "evaluate": {"max_new_tokens": 8, "levels": {"measured": ["said"]}},
        "output": {"dir": "out"},
    }
    settings |= sections
    settings["pmc"] = grouped(**PUBLISHED | settings["pmc"])
    path.write_text(json.dumps(settings))
    return path


@dataclasses.dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def said(self) -> list[str]:
        """Lines on stderr without progress bars."""
        return without_bars(self.err)


def pmc(command: str, *arguments: str, config: str = "run.yaml") -> Done:
    """Runs a command in this process, with a settings file in the current folder.

    Figures are empty, because drawing them takes half the time of a tiny run. The tests of figures
    and pages draw them, and so do the runs in processes of their own.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        # The original function would enable the compilation cache for later tests.
        mock.patch.object(start, "keep_compilations"),
        mock.patch.object(Figure, "_save", _save_empty),
    ):
        status = cli.main([command, config, *arguments])
    return Done(status, out.getvalue(), err.getvalue())


def _save_empty(figure: Figure, file: Any, *how: Any, format: str, **others: Any) -> None:
    if format == "svg":
        file.write('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    else:
        Image.new("RGB", figure.size).save(file, format)


def succeed(command: str, *arguments: str, config: str = "run.yaml") -> Done:
    done = pmc(command, *arguments, config=config)
    assert done.status == 0, done.err
    return done


@dataclasses.dataclass(frozen=True)
class Run:
    """Finished run.

    Attributes:
        folder: folder that holds the inputs and the run folder `out`.
        done: exit status and output of the command.
    """

    folder: Path
    done: Done

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def log(self, kind: str) -> list[dict[str, Any]]:
        return log(self.out, kind)


def run(folder: Path, *overrides: str, **sections: dict[str, Any]) -> Run:
    """Writes the inputs of a run to a folder, as `write_inputs` does, and runs `pmc unlearn`."""
    write_inputs(folder, **sections)
    with contextlib.chdir(folder):
        return Run(folder, succeed("unlearn", *overrides))


def crash(
    patch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    calls: int,
    error: BaseException | None = None,
) -> None:
    """Replaces a function by a function that raises an error after `calls` successful calls."""
    original, left = getattr(owner, name), [calls]

    def crashing(*args, **kwargs):
        if not left[0]:
            raise error or RuntimeError("power cut")
        left[0] -= 1
        return original(*args, **kwargs)

    patch.setattr(owner, name, crashing)


@contextlib.contextmanager
def crashing(owner: Any, name: str, calls: int) -> Iterator[None]:
    """Makes a function raise an error after `calls` calls, and checks that the block raises it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        crash(patch, owner, name, calls)
        yield


def results(folder: str | Path = "out") -> dict[str, Any]:
    return json.loads((Path(folder) / "results.json").read_text())


def log(folder: str | Path, kind: str) -> list[dict[str, Any]]:
    """Returns the lines of a kind from the log of a run."""
    return [row for row in read_log(Path(folder) / "log.jsonl") if row["kind"] == kind]


def weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Returns the weights of an exported model by name."""
    return load_file(Path(folder) / "model.safetensors")


def same_weights(one: str | Path, other: str | Path) -> bool:
    """Returns whether two exported models have the same names, dtypes and bits."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        array.dtype == second[name].dtype and array.tobytes() == second[name].tobytes()
        for name, array in first.items()
    )


def digest(folder: Path) -> dict[str, str]:
    """Returns a digest of each file in a folder by relative path; subfolders are listed too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refused(command: str, *arguments: str, config: str = "run.yaml") -> str:
    """Runs a command with invalid input and returns its message.

    Checks that the exit status is 2, that the message is one line and that no file is written.
    """
    before = digest(Path())
    done = pmc(command, *arguments, config=config)
    assert done.status == 2
    assert len(done.said) == 1 and done.said[0].startswith("pmc: error: "), done.err
    assert done.out == ""
    assert digest(Path()) == before, "The command has written files."
    return done.said[0].removeprefix("pmc: error: ")


def fault(call, *arguments, **keywords) -> str:
    """Returns the message of the `UserError` that a call must raise, which must be one line."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_names(message: str, *parts: str) -> None:
    """Asserts that a message contains all parts."""
    for part in parts:
        assert part in message, message


def selector(
    pmc: PMCConfig, forget: ForgetSet, originals: Sequence[str], retain: RetainSet, **options: Any
) -> Selector:
    """Returns the selector of a run whose questions name no subject."""
    rules = dict(said=(), subjects=[()] * len(forget), abstentions=abstentions())
    admission = Admission(pmc, forget, originals, retain, words=vocabulary(), **rules)
    options = dict(admission=admission, encode=list, seed=0, score=None) | options
    return Selector(pmc, forget, originals, retain, **options)
