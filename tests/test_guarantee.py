"""True forget answers reach no loss, no score and no checkpoint of unlearning."""

import ast
import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_runs as tiny

import pmc_jax
from pmc_jax.artifacts.log import read_log
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.pmc_source import PMCSource

PACKAGE = Path(pmc_jax.__file__).parent
MEASURING = ("EvalSet", "FinetuneSet", "ForgetAnswerSet")
TRAINS_ON_THEM = "answer_source.py"  # of unlearning: the rows of target-based methods
# What reads true forget answers, and what brings it in.
APART = (
    "pmc_jax.commands.evaluate_job",
    "pmc_jax.evaluation.harness",
    "pmc_jax.evaluation.context",
    "pmc_jax.evaluation.tasks",
    "pmc_jax.data.columns",
    "pmc_jax.data.messages",
    "pmc_jax.data.sets",
    "pmc_jax.data.sources",
    "pmc_jax.data.files",
    "pmc_jax.commands.unlearn_job",
    "pmc_jax.commands.unlearning_run",
    "pmc_jax.commands.build",
    "pmc_jax.unlearning.answer_source",
    "pmc_jax.api",
)
# A word that is in no answer of any model here.
CANARY = "Kestrelbourne"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A model that was taught the answers, as `taught/`, and a finished run, `out/`, whose
    evaluation has all true answers.
    """
    folder = tiny.write_inputs(tmp_path_factory.mktemp("guarantee"), finetune=tiny.FINETUNE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.succeed("finetune")
        Path("out/target").rename("taught")
        Path("out").rmdir()
        tiny.write_settings(folder / "run.yaml", model={"path": "taught"})
        tiny.succeed("unlearn")
    return folder


@pytest.fixture
def run(world, tmp_path, monkeypatch):
    """Runs the same unlearning with other settings into `other/`; its output folder."""
    monkeypatch.chdir(world)

    def unlearn(*overrides: str) -> Path:
        out = tmp_path / "other"
        tiny.succeed("unlearn", *overrides, f"output.dir={out}")
        return out

    return unlearn


def _assert_the_same_unlearning(one: Path, other: Path) -> None:
    assert tiny.same_weights(one / "model", other / "model")
    assert tiny.results(one)["rounds"] == tiny.results(other)["rounds"]
    assert tiny.results(one)["tokens"] == tiny.results(other)["tokens"]
    scalars = [
        [row for row in read_log(folder / "log.jsonl") if row["kind"] == "scalars"]
        for folder in (one, other)
    ]
    assert scalars[0] == scalars[1]


def _files_with(text: str, folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_the_run_has_something_to_forget(world):
    """Else the tests below would compare runs in which nothing happens."""
    found = tiny.results(world / "out")
    assert found["before"]["splits"]["forget"]["rougeL_recall"] == 1
    assert found["after"]["splits"]["forget"]["rougeL_recall"] <= 0.5
    assert found["rounds"][0]["mean_score"] > 0
    assert not tiny.same_weights(world / "out" / "model", world / "taught")


def test_no_evaluation_gives_the_same_weights(world, run):
    out = run("data.evaluate=null")
    _assert_the_same_unlearning(world / "out", out)
    assert tiny.results(out)["before"]["splits"] == {}


def test_other_evaluation_answers_give_the_same_weights(world, run, tmp_path):
    lies = [
        {"question": row["question"], "answer": f"{CANARY} {i}"}
        for i, row in enumerate(tiny.FORGET)
    ]
    path = tiny.write_rows(tmp_path / "lies.jsonl", lies)
    out = run(f"data.evaluate.forget.path={path}")
    _assert_the_same_unlearning(world / "out", out)
    assert tiny.results(out)["before"]["splits"]["forget"]["rougeL_recall"] == 0
    assert _files_with(CANARY, out) == []


def test_evaluation_answers_are_logged_only_when_asked_for(world, run, tmp_path):
    lies = [{"question": row["question"], "answer": CANARY} for row in tiny.FORGET]
    path = tiny.write_rows(tmp_path / "lies.jsonl", lies)
    out = run(f"data.evaluate.forget.path={path}", "log.text=true")
    _assert_the_same_unlearning(world / "out", out)
    assert _files_with(CANARY, out) == ["log.jsonl"]


def test_another_length_of_evaluation_gives_the_same_weights(world, run):
    _assert_the_same_unlearning(world / "out", run("evaluate.max_new_tokens=5"))


GARBAGE = {
    "other words": lambda row: row | {"answer": f"{CANARY} in other words"},
    "numbers": lambda row: row | {"answer": 7},
    "null": lambda row: row | {"answer": None},
    "nested": lambda row: row | {"answer": {"text": [CANARY]}, "answers": [CANARY]},
    "empty": lambda row: row | {"answer": ""},
    "absent": lambda row: {"question": row["question"]},
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_the_answer_column_of_the_forget_file_is_never_read(kind, world, run, tmp_path):
    path = tiny.write_rows(tmp_path / "forget.jsonl", [GARBAGE[kind](r) for r in tiny.FORGET])
    out = run(f"data.forget.path={path}")
    _assert_the_same_unlearning(world / "out", out)
    assert _files_with(CANARY, out) == []
    one, other = (json.loads((f / "run.json").read_text())["digests"] for f in (world / "out", out))
    assert one == other


def test_pmc_opens_no_targets(world, run):
    """A file of true answers that other methods would train on need not exist."""
    _assert_the_same_unlearning(world / "out", run("data.forget_answers.path=nowhere.jsonl"))


def test_the_retain_answers_do_matter(world, run, tmp_path):
    """The comparisons above have teeth: one word of one retain answer changes the weights."""
    word = next(w for w in tiny.WORDS if w not in tiny.RETAIN[0]["answer"])
    changed = {**tiny.RETAIN[0], "answer": f"{word} {tiny.RETAIN[0]['answer'].split(' ', 1)[1]}"}
    path = tiny.write_rows(tmp_path / "retain.jsonl", [changed, *tiny.RETAIN[1:]])
    out = run(f"data.retain.path={path}", "data.evaluate=null")
    assert not tiny.same_weights(world / "out" / "model", out / "model")


def test_the_forget_set_has_no_place_for_an_answer():
    fields = [field.name for field in dataclasses.fields(ForgetSet)]
    assert fields == ["ids", "questions", "subjects"]
    with pytest.raises(TypeError, match="answers"):
        ForgetSet(ids=("a",), questions=("?",), answers=("!",))
    forget = ForgetSet(ids=("a",), questions=("?",))
    with pytest.raises(AttributeError):  # frozen: nothing can be put in later
        forget.answers = ("!",)
    assert not hasattr(forget, "answers")
    for cls in (RetainSet, FinetuneSet, EvalSet, ForgetAnswerSet):
        assert not issubclass(cls, ForgetSet) and not issubclass(ForgetSet, cls)


def test_unlearning_takes_no_other_set():
    parameters = {**inspect.signature(PMCSource).parameters}
    parameters |= inspect.signature(Unlearning).parameters
    kinds = {name: p.annotation for name, p in parameters.items()}
    assert kinds["forget"] is ForgetSet and kinds["retain"] is RetainSet
    apart = {EvalSet, FinetuneSet, ForgetAnswerSet}
    assert not apart & {k for k in kinds.values() if inspect.isclass(k)}
    names = inspect.signature(pmc_jax.unlearn).parameters
    assert not [name for name in names if "answer" in name or "truth" in name or "eval" in name]


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, imported name or None) of every import of a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def _file_of(module: str) -> Path | None:
    """The file of a module of this package."""
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*parts[1:])
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _reached_from(paths: list[Path]) -> set[Path]:
    """The files of this package that some files import, directly or not, themselves included."""
    reached, left = set(), list(paths)
    while left:
        path = left.pop()
        if path in reached:
            continue
        reached.add(path)
        for module, name in _imports(path):
            found = [_file_of(module), _file_of(f"{module}.{name}") if name else None]
            left += [file for file in found if file is not None]
    return reached


def test_unlearning_imports_no_set_with_true_forget_answers():
    files = sorted((PACKAGE / "unlearning").rglob("*.py"))
    names = {"loop.py", "pmc_source.py", "pmc.py", "store.py", "selection.py", "rollouts.py"}
    assert names <= {f.name for f in files}
    for path in _reached_from([f for f in files if f.name != TRAINS_ON_THEM]):
        for module, name in _imports(path):
            place = f"{path.relative_to(PACKAGE)} imports {name} of {module}"
            assert name not in MEASURING, place
            assert module not in APART and f"{module}.{name}" not in APART, place


def test_unlearning_names_them_nowhere():
    """Nor by attribute, such as `records.EvalSet`, nor by text."""
    for path in (PACKAGE / "unlearning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (getattr(node, "id", None), getattr(node, "attr", None))
            found = set(names) & {*MEASURING, "import_module", "__import__"}
            if path.name == TRAINS_ON_THEM:
                found -= {"ForgetAnswerSet"}
            assert not found, path


def test_the_import_graph_is_seen_whole():
    """The walk finds what is there: from the commands, evaluation and fine-tuning are reached."""
    reached = _reached_from([PACKAGE / "commands" / "unlearn_job.py"])
    names = {str(path.relative_to(PACKAGE)) for path in reached}
    assert {"evaluation/harness.py", "data/sets.py", "data/records.py"} <= names
    imported = {name for path in reached for _, name in _imports(path)}
    assert set(MEASURING) <= imported


@pytest.mark.parametrize("name", MEASURING)
def test_only_data_evaluation_and_the_commands_know_them(name):
    files = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(imported == name for _, imported in _imports(path))
    }
    shared = {"__init__.py", "data/sets.py", "api.py", "commands/inputs.py"}
    allowed = {
        "EvalSet": shared
        | {
            f"commands/{name}.py"
            for name in (
                "evaluate_job",
                "console",
                "fits",
                "unlearning_run",
                "answer_log",
                "init_job",
            )
        }
        | {
            f"evaluation/{name}.py" for name in ("harness", "context", "tasks", "quality", "levels")
        },
        "FinetuneSet": shared | {"training/finetune.py", "commands/target.py"},
        "ForgetAnswerSet": {
            "__init__.py",
            "api.py",
            "commands/build.py",
            "data/sets.py",
            "commands/inputs.py",
            f"unlearning/{TRAINS_ON_THEM}",
        },
    }
    assert files and files <= allowed[name]
