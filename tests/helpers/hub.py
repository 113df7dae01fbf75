"""A stand-in for the Hugging Face Hub on this machine: repositories, commits and large files."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_stand_in"


@dataclasses.dataclass
class Repository:
    """Repository with the files of its newest commit and the titles of all commits."""

    private: bool = True
    files: dict[str, bytes] = dataclasses.field(default_factory=lambda: {".gitattributes": b""})
    commits: list[str] = dataclasses.field(default_factory=lambda: ["initial commit"])
    tags: list[str] = dataclasses.field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1("/".join(self.commits).encode()).hexdigest()


class Hub:
    """State of the stand-in.

    Attributes:
        repositories: repositories by OWNER/NAME.
        requests: method and path of each request.
        failing: mapping from a part of a path to the status with which requests fail.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failing: dict[str, int] = {}
        self.endpoint = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """Returns the status and the JSON value with which the Hub answers a request."""
        for part, status in self.failing.items():
            if part in path:
                return status, {"error": "the question is Zorbolant"}
        if path.startswith("/objects/"):
            self.objects[path.rpartition("/")[2]] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"warnings": [{"message": "empty"}], "errors": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/(\w+/[\w-]+)\.git/info/lfs/objects/batch", path):
            return 200, {"objects": [self._upload_of(o) for o in json.loads(body)["objects"]]}
        match = re.fullmatch(r"/api/models/(\w+/[\w-]+)(?:/([a-z-]+)(?:/main)?)?", path)
        repository = self.repositories.get(match[1]) if match else None
        if repository is None:
            return 404, {"error": "Repository not found"}
        return self._in_repository(repository, match[1], match[2], body)

    def _create(self, wanted: dict) -> tuple[int, object]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "me":
            return 403, {"error": "no rights"}
        self.repositories[name] = Repository(wanted["visibility"] == "private")
        return 200, {"url": f"{self.endpoint}/{name}", "name": name}

    def _upload_of(self, wanted: dict) -> dict:
        href = f"{self.endpoint}/objects/{wanted['oid']}"
        return wanted | {"actions": {"upload": {"href": href, "header": {}}}}

    def _in_repository(
        self, repository: Repository, name: str, what: str | None, body: bytes
    ) -> tuple[int, object]:
        if what is None:
            files = [{"rfilename": file} for file in repository.files]
            info = {"id": name, "sha": repository.sha, "private": repository.private}
            return 200, info | {"siblings": files}
        if what == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.sha}
            tags = [main | {"name": tag, "ref": f"refs/tags/{tag}"} for tag in repository.tags]
            return 200, {"branches": [main], "tags": tags, "converts": [], "pullRequests": []}
        if what == "commits":
            at = {"date": "2026-11-30T12:00:00.000Z", "authors": [], "message": ""}
            return 200, [{"id": repository.sha, "title": t, **at} for t in repository.commits]
        if what == "preupload":
            return 200, {"files": [self._mode(file) for file in json.loads(body)["files"]]}
        if what == "super-squash":
            repository.commits = [json.loads(body)["message"]]
            return 200, {}
        assert what == "commit"
        return self._commit(repository, [json.loads(line) for line in body.splitlines()])

    def _mode(self, file: dict) -> dict:
        mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, repository: Repository, lines: list[dict]) -> tuple[int, object]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, repository.sha):
                    return 412, {"error": "the branch has changed"}
                repository.commits.insert(0, value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.objects[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del repository.files[value["path"]]
        return 200, {"commitUrl": f"{self.endpoint}/me/x/commit/0", "commitOid": "0"}


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """Starts a stand-in on a free port of this machine and yields its state."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, value = 200, {}
            if is_known or path.startswith("/objects/"):
                status, value = hub.answer(self.command, path, body)
            else:
                status, value = 401, {"error": "Invalid credentials in Authorization header"}
            content = json.dumps(value).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            if status == 401:
                self.send_header("X-Error-Message", value["error"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
