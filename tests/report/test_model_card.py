"""The model card of an exported model: what it states and what it keeps to itself."""

import hashlib
import json

import gguf
import pytest
import report_cases as cases
import tiny_runs as tiny
import yaml

from pmc_jax.config.run import Config
from pmc_jax.report.model_card import write

SECRETS = dict(
    pmc={
        "score": {"weights": {"forbidden": 1}, "forbidden_file": "Zorbolant.txt"},
        "schedule": {"lambda_retain": 7.5},
        "answer": "abstain",
    },
    model={"path": "/home/Quaxish/model"},
    data={"forget": "Zorbolant.csv"},
    report={"request": {"reference": "R-Zorbant", "responsible": "Quaxula"}},
)


def card(path) -> tuple[dict, str]:
    """Returns the front matter and the text of a model card."""
    _, front, text = path.read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_it_states_figures_settings_and_digests_and_no_private_text(model, tmp_path):
    results = json.loads((cases.write_run(tmp_path / "run") / "results.json").read_text())
    source = {"path": "/home/Quaxish/model", "sha256": "a" * 64}
    write(model, Config(**SECRETS), source, 24, results)
    front, text = card(model / "README.md")
    assert front["library_name"] == "transformers" and "pmc" in front["tags"]
    assert "base_model" not in front and "license" not in front  # Nothing states them.
    for part in ("a" * 64, "11 of 12", "| 40.0 | 77.9 |", "| 97.0 % | 95.1 % |", "pmc verify"):
        assert part in text, part
    for line in ("`pmc.schedule.lambda_retain`: 7.5", '`pmc.answer`: "abstain"', "`seed`: 0"):
        assert f"- {line}\n" in text
    for word in ("Zorb", "Quax", "/home"):
        assert word not in text and word not in str(front)


def test_base_and_licence_are_those_of_the_source(model, tmp_path):
    source = tmp_path / "models--org--name" / "snapshots" / "1"
    source.mkdir(parents=True)
    (source / "README.md").write_text("---\nlicense: other\nlicense_name: own\n---\nHello")
    (model / "README.md").write_text("Hello")
    write(model, Config(model={"path": "org/name"}), {"path": str(source), "sha256": "a"}, 3, None)
    front, text = card(model / "README.md")
    assert front["base_model"] == "org/name" and front["license"] == "other"
    assert front["license_name"] == "own" and "license_link" not in front
    assert (model / "SOURCE_README.md").read_text() == "Hello"
    assert "not the result of a run" in text and "Figures" not in text


@pytest.mark.parametrize(
    "content", [b"---\n- a\n---", b"\xff---\n", b"---\nlicense: [x\n---", b"", None]
)
def test_a_source_card_of_another_form_states_no_licence(content, model, tmp_path):
    if content is not None:
        (tmp_path / "README.md").write_bytes(content)
    write(model, Config(model={"path": "x"}), {"path": str(tmp_path), "sha256": "a"}, 3, None)
    assert "license" not in card(model / "README.md")[0]


@pytest.mark.parametrize("stated", ["apache-2.0", None, "a\x1bb"])
def test_the_licence_of_a_gguf_file_is_on_the_card(stated, model, tmp_path):
    source = str(tmp_path / "model.gguf")
    writer = gguf.GGUFWriter(source, "llama")
    if stated is not None:
        writer.add_license(stated)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write(model, Config(model={"path": source}), {"path": source, "sha256": "a"}, 3, None)
    front, _ = card(model / "README.md")
    found = {name: front[name] for name in front if "license" in name}
    assert found == ({"license": stated} if stated == "apache-2.0" else {})


def test_a_run_and_its_exports_write_the_same_card(finished):
    made = tiny.digest(finished / "out" / "model")
    results = hashlib.sha256((finished / "out" / "results.json").read_bytes()).hexdigest()
    assert results in (finished / "out" / "model" / "README.md").read_text()
    tiny.succeed("export", "--overwrite", config="out")
    assert tiny.digest(finished / "out" / "model") == made
    tiny.succeed("export", "--partial", config="out")
    (step,) = (finished / "out").glob("model-step-*")
    assert "not the result of a run" in (step / "README.md").read_text()
    assert tiny.succeed("verify", config="out").status == 0
