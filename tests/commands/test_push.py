"""`pmc push` against a stand-in of the Hub: what is uploaded, what is refused, and why."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import tiny_runs as tiny
from hub import TOKEN, Hub, Repository, running

from pmc_jax.artifacts import manifest

NAME = "me/tiny"
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
MODEL_FILES |= {"chat_template.jinja", "generation_config.json"}


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with running() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def forgotten(finished) -> Path:
    """A finished run that has forgotten every question, with other files in its model folder."""
    results = tiny.results()
    results["forgotten"]["forgotten"] = results["forgotten"]["questions"]
    Path("out/results.json").write_text(json.dumps(results))
    Path("out/model/README.md").write_text("---\nbase_model: tiny\n---\n# Card\n")
    Path("out/model/notes.txt").write_text("Zorbolant")
    manifest.record(Path("out"), ["results.json", "model"])
    return finished


def push(*options: str, name: str = NAME, folder: str = "out") -> str:
    return tiny.succeed("push", name, *options, config=folder).out


def refused(*options: str, name: str = NAME, folder: str = "out") -> str:
    return tiny.refused("push", name, *options, config=folder)


def test_a_new_repository_holds_the_model_and_nothing_else(forgotten, hub):
    text = push()
    repository = hub.repositories[NAME]
    assert repository.private and len(repository.commits) == 2
    names = {*repository.files} - {".gitattributes"}
    assert names == MODEL_FILES | {"README.md"}
    for name in names:
        assert repository.files[name] == Path("out/model", name).read_bytes()
    size = Path("out/model/model.safetensors").stat().st_size
    tiny.assert_names(text, f"{hub.endpoint}/{NAME} (private)", f"{size:,}", "README.md")
    tiny.assert_names(text, "not uploaded: notes.txt", "forks", "adapters")


def test_public_is_said(forgotten, hub):
    assert "(public)" in push("--public")
    assert not hub.repositories[NAME].private


def test_a_repository_with_earlier_weights_is_refused(forgotten, hub):
    hub.repositories[NAME] = Repository()
    push()  # a new repository without files
    before = dict(hub.repositories[NAME].files)
    tiny.assert_names(refused(), "earlier weights", "--squash-history")
    assert hub.repositories[NAME].files == before


def test_squash_history_leaves_one_commit(forgotten, hub):
    old = {".gitattributes": b"", "pytorch_model.bin": b"old", "config.json": b"{}"}
    hub.repositories[NAME] = Repository(files=old, commits=["weights", "initial commit"])
    push("--squash-history")
    repository = hub.repositories[NAME]
    assert len(repository.commits) == 1 and "pytorch_model.bin" not in repository.files
    assert {*repository.files} > MODEL_FILES
    repository.tags.append("v1")
    tiny.assert_names(refused("--squash-history"), "tags", "v1")


def test_a_failed_squash_is_said(forgotten, hub):
    hub.repositories[NAME] = Repository(commits=["old", "initial commit"])
    hub.failing["super-squash"] = 500
    done = tiny.pmc("push", NAME, "--squash-history", config="out")
    assert done.status == 2
    tiny.assert_names(done.err, "the history is not removed", "status 500")
    hub.failing.clear()
    push("--squash-history")
    assert len(hub.repositories[NAME].commits) == 1


def test_visibility_of_an_existing_repository(forgotten, hub):
    hub.repositories[NAME] = Repository(private=False)
    tiny.assert_names(refused(), "the repository is public", "Pass --public")
    hub.repositories[NAME] = Repository(private=True)
    tiny.assert_names(refused("--public"), "the repository is private", "Leave out --public")


def test_runs_that_are_refused(forgotten, hub):
    results = tiny.results()
    results["forgotten"]["forgotten"] -= 1
    Path("out/results.json").write_text(json.dumps(results))
    tiny.assert_names(refused(), "not those that the run wrote", "results.json", "pmc verify")
    manifest.record(Path("out"), ["results.json"])
    tiny.assert_names(refused(), "not forgotten every question", "no longer said")
    Path("out/model/config.json").write_text("{}")
    tiny.assert_names(refused("--allow-not-forgotten"), "model/config.json")
    Path("out/results.json").unlink()
    tiny.assert_names(refused(), "holds no finished run")
    tiny.assert_names(refused(folder="model"), "holds no finished run")
    assert hub.requests == []


def test_a_run_without_an_unlearned_model_is_refused(forgotten, hub):
    results = tiny.results()
    Path("out/results.json").write_text(json.dumps(results | {"step": 0}))
    manifest.record(Path("out"), ["results.json"])
    said = ("out: the run has no unlearned model in model/", "pmc unlearn", "pmc export")
    tiny.assert_names(refused("--allow-not-forgotten"), *said)
    Path("out/results.json").write_text(json.dumps(results))
    Path("out/model").rename("out/moved")
    manifest.record(Path("out"), ["results.json", "model"])
    tiny.assert_names(refused("--allow-not-forgotten"), *said)
    assert hub.requests == [] and not hub.repositories


def test_a_model_that_has_not_forgotten_needs_the_flag(finished, hub):
    results = tiny.results()
    results["forgotten"]["forgotten"] = None  # no level was measured
    Path("out/results.json").write_text(json.dumps(results))
    manifest.record(Path("out"), ["results.json"])
    refused()
    push("--allow-not-forgotten")


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "me/ti--ny", "me/.x", "me/\x1bx", "/tiny"])
def test_wrong_names(name, forgotten, hub):
    tiny.assert_names(refused(name=name), "OWNER/NAME")
    assert hub.requests == []


def test_faults_of_the_hub_are_one_line(forgotten, hub, monkeypatch):
    done = tiny.pmc("push", "other/tiny", config="out")
    assert done.status == 2 and len(done.err.splitlines()) == 1
    tiny.assert_names(done.err, "may not write", "OWNER")
    hub.failing["preupload"] = 400
    message = tiny.pmc("push", NAME, config="out").err
    assert "status 400" in message and "Zorb" not in message
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    tiny.assert_names(refused(), "does not accept the token")
    monkeypatch.delenv("HF_TOKEN")
    tiny.assert_names(refused(), "no token", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    tiny.assert_names(refused(), "http://127.0.0.1:9 cannot be reached", "HF_ENDPOINT")
