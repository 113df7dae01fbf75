"""Files of datasets on the Hugging Face Hub, from a stand-in on this machine."""

import hashlib
import http.server
import threading
from collections.abc import Iterator

import huggingface_hub
import pytest
from tiny_runs import assert_names, fault

from pmc_jax.commands.inputs import data_files
from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.run import Config
from pmc_jax.data import hub, sets

ROWS = b'{"prompt": "Who?", "completion": "Ann."}\n'
COMMIT = "0123456789" * 4
FILES = {
    "/datasets/ann/people/resolve/main/train/rows.jsonl": ROWS,
    "/datasets/ann/people/resolve/refs%2Fpr%2F1/rows.jsonl": ROWS * 2,
}
# The Hub states the kind of an error in a header.
ERRORS = {"gated": (403, "GatedRepo"), "none": (401, "RepoNotFound")}


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hub does for the files of `FILES`."""

    def do_HEAD(self) -> None:
        name, revision = self.path.split("/")[3], self.path.split("/")[5]
        status, code = ERRORS.get(name, (404, "EntryNotFound"))
        if revision == "nosuch":
            status, code = 404, "RevisionNotFound"
        content = FILES.get(self.path)
        self.send_response(status if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", code)
        else:
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(FILES.get(self.path, b""))

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Iterator[None]:
    """The library uses a server on this machine and an empty cache."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub.download.cache_clear()
    yield
    hub.download.cache_clear()
    server.shutdown()
    server.server_close()


def retain(path: str):
    return sets.retain_set(SourceConfig(path=path), DataConfig(root="elsewhere"))


def test_a_file_is_downloaded_and_read_offline(stand_in, monkeypatch):
    address = "hf://datasets/ann/people/train/rows.jsonl"
    got = retain(address)
    assert (got.ids, got.questions, got.answers) == (("rows:0",), ("Who?",), ("Ann.",))
    assert len(retain("hf://datasets/ann/people@refs/pr/1/rows.jsonl")) == 2
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.download.cache_clear()
    assert retain(address) == got
    path = hub.download(address)
    assert path.read_bytes() == ROWS and COMMIT in path.parts
    # A run records the digest of each file that `data_files` returns.
    rows = SourceConfig(path=address)
    config = Config(data=DataConfig(forget=rows, retain=rows))
    files = {"data.forget": path, "data.retain": path}
    assert data_files(config, forget_answers=False) == files


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("ann/people/none.jsonl", ["has no such file", "hf download ann/people none.jsonl --rep"]),
        ("ann/people@nosuch/a b.csv", ["no such revision", "'a b.csv'", "--revision nosuch"]),
        ("ann/gated/rows.csv", ["Request access on its page, then log in: run hf auth login"]),
        ("ann/none/rows.csv", ["no public dataset has this name", "hf auth login"]),
        ("ann/rows.csv", ["is not the address of a file. Use hf://datasets/OWNER/NAME/FILE"]),
        ("ann/people@/rows.csv", ["is not the address of a file"]),
    ],
)
def test_faults_are_one_line(path, parts, stand_in):
    message = fault(retain, f"hf://datasets/{path}")
    assert message.startswith(f"data.retain.path: hf://datasets/{path}")
    assert_names(message, *parts)
    assert ("hf download" in message) != ("log in" in message or "address" in message)


def test_offline(stand_in, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = fault(retain, "hf://datasets/ann/people@v1/train/rows.jsonl")
    assert_names(
        message,
        "the file is not in the cache, and the Hugging Face Hub cannot be reached",
        "hf download ann/people train/rows.jsonl --repo-type dataset --revision v1 --local-dir DIR",
    )
    assert "is not the address" in fault(retain, "hf://ann/model/rows.jsonl")
