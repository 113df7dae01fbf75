"""Downloads a file of a dataset on the Hugging Face Hub into the cache of huggingface_hub.

The address of a file is hf://datasets/OWNER/NAME[@REVISION]/FILE. The library reads the cache, the
login and the endpoint from its environment variables (HF_HOME, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE).
"""

import functools
import shlex
from pathlib import Path

from pmc_jax.errors import UserError, reason

SCHEME = "hf://"
_TIMEOUT_SECONDS = 5.0


@functools.cache  # A process reads one version of a file, even if a branch of the dataset moves.
def download(address: str) -> Path:
    """Returns the path of a file in the cache, which is downloaded if the cache lacks it.

    Args:
        address: address of the file.

    Raises:
        UserError: the address is not valid, or the file cannot be downloaded.
    """
    import huggingface_hub  # The import takes long.
    from huggingface_hub import errors

    try:
        uri = huggingface_hub.parse_hf_uri(address)
    except ValueError:
        uri = None
    if uri is None or uri.type != "dataset" or "/" not in uri.id or not uri.path_in_repo:
        raise UserError(
            f"{address} is not the address of a file. Use hf://datasets/OWNER/NAME/FILE or "
            "hf://datasets/OWNER/NAME@REVISION/FILE."
        )
    how = dict(repo_type="dataset", revision=uri.revision, etag_timeout=_TIMEOUT_SECONDS)
    try:
        return Path(huggingface_hub.hf_hub_download(uri.id, uri.path_in_repo, **how))
    except errors.GatedRepoError:
        fault = "access to the dataset must be granted. Request access on its page, then log in"
    except errors.RepositoryNotFoundError:
        fault = "no public dataset has this name. Correct the name or, if it is private, log in"
    except errors.RevisionNotFoundError:
        fault = "the dataset has no such revision. Correct the revision, or run"
    except errors.RemoteEntryNotFoundError:
        fault = "the dataset has no such file. Correct the name of the file, or run"
    except errors.LocalEntryNotFoundError:
        fault = "the file is not in the cache, and the Hugging Face Hub cannot be reached. Run"
    except Exception as error:  # Several libraries raise their own errors.
        fault = f"the download failed ({reason(error)}). Run"
    if fault.endswith("log in"):
        raise UserError(f"{address}: {fault}: run hf auth login, or set HF_TOKEN.")
    command = ["hf", "download", uri.id, uri.path_in_repo, "--repo-type", "dataset"]
    command += ["--revision", uri.revision] if uri.revision else []
    raise UserError(
        f"{address}: {fault} {shlex.join(command)} --local-dir DIR where the Hub can be reached, "
        "copy DIR, and set the path of the file in DIR."
    )
