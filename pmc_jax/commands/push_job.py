"""Runs `pmc push`: checks the run and the repository, and uploads the model in one commit."""

import contextlib
import fnmatch
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.artifacts.log import table
from pmc_jax.errors import UserError, first_of, reason

# A model folder may also hold copies of other files of the source model, which may be private.
_UPLOADED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "preprocessor_config.json"),
    *("processor_config.json", "README.md", "LICENSE*", "NOTICE*", "USE_POLICY*"),
)
_EMPTY = (".gitattributes", "README.md")  # files of a repository that holds no model yet
_WARNING = (
    "Copies elsewhere stay: downloads, forks and duplicates of earlier weights, and adapters that "
    "name them as their base. Ask their owners to delete them."
)


def run_push(
    folder: Path,
    repository: str,
    *,
    public: bool,
    squash_history: bool,
    allow_not_forgotten: bool,
    say: Callable[[str], None],
) -> None:
    """Uploads the model of a finished run to the Hub.

    Args:
        folder: folder of the run.
        repository: OWNER/NAME of the repository, which is created if it does not exist.
        public: whether everyone may read a new repository. An existing one keeps its visibility,
            which must be the same.
        squash_history: whether to replace the files of an existing repository and to remove its
            history after the upload.
        allow_not_forgotten: whether to upload a model that still tells a secret.
        say: function that prints a text.

    Raises:
        UserError: the run is not finished, its model is missing, changed or not unlearned, or tells
            a secret; the repository holds earlier commits or has the other visibility; or the Hub
            refuses the token or cannot be reached.
    """
    _check_name(repository)
    if not (folder / run_files.RESULTS).is_file():
        raise UserError(
            f"{folder}: the folder holds no finished run. Run pmc unlearn until it has finished."
        )
    with run_folder.locked(folder):
        files, left_out = _model_files(folder, allow_not_forgotten)
        api = HfApi(token=_token(repository), library_name="pmc_jax")
        with _hub_errors(repository, api.endpoint):
            found = _find(api, repository)
            if found is not None:
                _check_repository(api, found, public, squash_history)
        rows = [(path.name, f"{path.stat().st_size:,}") for path in files]
        say(table(rows, ("file", "bytes")))
        if left_out:
            say(f"not uploaded: {', '.join(left_out)}")
        address = f"{api.endpoint}/{repository}"
        say(f"uploading to {address} ({'public' if public else 'private'})")
        with _hub_errors(repository, api.endpoint):
            _upload(api, repository, files, found, public)
        if found is not None and squash_history:
            what = f"{repository}: the model is uploaded, but the history is not removed"
            with _hub_errors(what, api.endpoint):
                api.super_squash_history(repository, commit_message=_message(len(files)))
    say(f"pmc uploaded {folder / run_files.MODEL} to {address}")
    say(_WARNING)


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
        is_whole = "/" in repository
    except HFValidationError:
        is_whole = False
    if not is_whole:
        raise UserError(
            f"{repository}: a repository cannot have this name. Write OWNER/NAME with letters, "
            "digits, '-', '_' and '.', for example my-name/my-model."
        )


def _model_files(folder: Path, allow_not_forgotten: bool) -> tuple[list[Path], list[str]]:
    """Returns the files of a finished run's model that are uploaded, and the names of the others.

    Raises:
        UserError: the model of the run may not be uploaded.
    """
    results, model = manifest.read_results(folder), folder / run_files.MODEL
    if results["step"] == 0 or not model.is_dir():
        raise UserError(
            f"{folder}: the run has no unlearned model in {run_files.MODEL}/. Run pmc unlearn with "
            "more epochs, or pmc export."
        )
    changed = manifest.changes(folder, run_files.MODEL)
    if changed := [*changed, *manifest.changes(folder, run_files.RESULTS)]:
        raise UserError(
            f"{folder}: these files are not those that the run wrote and measured: "
            f"{first_of(changed, 3)}. Run pmc verify {folder}."
        )
    forgotten = results["forgotten"]
    if not allow_not_forgotten and forgotten["forgotten"] != forgotten["questions"]:
        raise UserError(
            f"{folder}: the model has not forgotten every question at every measured level "
            f"({forgotten['headline']}). Unlearn with other settings, or pass "
            "--allow-not-forgotten."
        )
    paths = sorted(path for path in model.rglob("*") if not path.is_dir())
    files = [path for path in paths if path.parent == model and _is_uploaded(path)]
    return files, [str(path.relative_to(model)) for path in paths if path not in files]


def _is_uploaded(path: Path) -> bool:
    is_plain = path.is_file() and not path.is_symlink()
    return is_plain and any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _UPLOADED)


def _token(repository: str) -> str:
    token = get_token()
    if not token:
        raise UserError(
            f"{repository}: no token of the Hugging Face Hub was found. Run hf auth login, or set "
            "HF_TOKEN to a token that may write."
        )
    return token


def _find(api: HfApi, repository: str) -> ModelInfo | None:
    """Returns the repository, or None if it does not exist."""
    try:
        return api.model_info(repository)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _check_repository(api: HfApi, found: ModelInfo, public: bool, squash_history: bool) -> None:
    """Checks that an existing repository has the visibility and that no earlier weights remain.

    Raises:
        UserError: the upload would publish the model, or would leave earlier weights behind.
    """
    name = found.id
    if found.private == public:
        is_now, fix = ("private", "Leave out") if public else ("public", "Pass")
        raise UserError(
            f"{name}: the repository is {is_now}. {fix} --public, or use the name of a new "
            "repository."
        )
    refs = api.list_repo_refs(name, include_pull_requests=True)
    groups = (refs.branches, refs.tags, refs.converts, refs.pull_requests or [])
    others = [ref.name for group in groups for ref in group if ref.name != "main"]
    if others:
        raise UserError(
            f"{name}: the repository has other branches, tags or pull requests "
            f"({first_of(others, 3)}), which may hold earlier weights. Delete them, or use the "
            "name of a new repository."
        )
    names = [file.rfilename for file in found.siblings or []]
    is_used = len(api.list_repo_commits(name)) > 1 or any(n not in _EMPTY for n in names)
    if is_used and not squash_history:
        raise UserError(
            f"{name}: the repository holds earlier commits, so its history would still hold "
            "earlier weights. Use the name of a new repository, or pass --squash-history, which "
            "removes the earlier files and the history."
        )


def _upload(
    api: HfApi, repository: str, files: Sequence[Path], found: ModelInfo | None, public: bool
) -> None:
    """Uploads the files in one commit, which also removes all other files."""
    if found is None:
        api.create_repo(repository, private=not public)
    present = [file.rfilename for file in found.siblings or []] if found is not None else []
    kept = {".gitattributes", *(path.name for path in files)}
    operations = [CommitOperationAdd(path.name, path) for path in files]
    operations += [CommitOperationDelete(name) for name in present if name not in kept]
    parent = None if found is None else found.sha
    message = _message(len(files))
    with warnings.catch_warnings(action="ignore"):  # The Hub comments on the model card.
        api.create_commit(repository, operations, commit_message=message, parent_commit=parent)


def _message(files: int) -> str:
    return f"Model after pmc unlearn ({files} files)"


@contextlib.contextmanager
def _hub_errors(what: str, endpoint: str) -> Iterator[None]:
    """Converts an error of the Hub's client to a `UserError` whose message begins with `what`."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise UserError(f"{what}: HF_HUB_OFFLINE is set. Unset this variable.") from None
    except HfHubHTTPError as error:
        why = _why(error, error.response.status_code)
        raise UserError(f"{what}: {why}") from None
    except HTTPError as error:
        raise UserError(
            f"{what}: {endpoint} cannot be reached ({type(error).__name__}). Check the network and "
            "HF_ENDPOINT."
        ) from None
    except (RuntimeError, ValueError) as error:  # The libraries for large files raise these errors.
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{what}: the upload failed ({reason(error)}). Run the same command again."
        ) from None


def _why(error: HfHubHTTPError, status: int) -> str:
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return (
            "the repository or its owner does not exist, or the token may not see it. Check the "
            "name, and use a token of this owner that may write."
        )
    if status == 401:
        return "the Hub does not accept the token. Run hf auth login, or correct HF_TOKEN."
    if status == 403 or isinstance(error, GatedRepoError):
        return "the token may not write to this repository. Use a token of OWNER that may write."
    if status in (409, 412):
        return (
            "the repository exists and the token may not see it, or another program has changed it "
            "at the same time. Check the name, and run the same command again."
        )
    return f"the Hub answers with the status {status}. Run the same command again later."
