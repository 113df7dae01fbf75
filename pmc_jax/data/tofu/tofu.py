"""Builder `Tofu` for tensorflow-datasets without TensorFlow, and the function `prepare`.

Rows are written as array_record in the order of the file, so row n of a split is row n of the
official file. Ids contain the row number, because TOFU repeats a question. Read the rows with
`builder.as_data_source("train")`, which returns text as UTF-8 bytes.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from pmc_jax.data.check import check_values
from pmc_jax.data.files import read_table
from pmc_jax.data.tofu.configs import CONFIGS, GET_TOFU, HUB_REPO, LIST_COLUMN, local_file
from pmc_jax.errors import UserError, reason

_log = logging.getLogger(__name__)
_SHA_KEY = "source_sha256"
_CITATION = """\
@inproceedings{maini2024tofu,
  title={{TOFU}: A Task of Fictitious Unlearning for {LLM}s},
  author={Maini, Pratyush and Feng, Zhili and Schwarzschild, Avi and Lipton, Zachary C. and
          Kolter, J. Zico},
  booktitle={Conference on Language Modeling},
  year={2024}
}"""


class Tofu(tfds.core.GeneratorBasedBuilder):
    """Builder of TOFU. Each official configuration has one split, "train".

    Args:
        source_dir: folder that holds `<config>.jsonl` or `<config>.json`. With None, the builder
            searches the manual folder of the download configuration, and then downloads the file
            from the Hugging Face Hub.
        **kwargs: arguments of `tfds.core.GeneratorBasedBuilder`, such as `config` and `data_dir`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (The base class expects a dict.)
    BUILDER_CONFIGS = [  # noqa: RUF012 (The base class expects a list.)
        tfds.core.BuilderConfig(name=name, description=f"TOFU's file {name}.json")
        for name in CONFIGS
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put the JSON files of {HUB_REPO} in the manual folder."

    def __init__(self, *, source_dir: str | Path | None = None, **kwargs: Any):
        self._source_dir = None if source_dir is None else Path(os.path.expanduser(source_dir))
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Question-answer pairs on fictitious authors, for machine unlearning.",
            homepage="https://locuslab.github.io/tofu",
            license="MIT",
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    name: tfds.features.Sequence(tfds.features.Text())
                    if name == LIST_COLUMN
                    else tfds.features.Text()
                    for name in CONFIGS[self.builder_config.name]
                }
            ),
            metadata=tfds.core.MetadataDict(),
            # By default, tfds orders rows by a hash of their keys.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        path = self._find_source(dl_manager)
        self.info.metadata[_SHA_KEY] = _sha256(path)
        return {"train": self._generate_examples(path)}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = CONFIGS[self.builder_config.name]
        table = read_table(path, columns)
        check_values(table, columns, range(len(table.rows)), lists=[LIST_COLUMN])
        yield from enumerate(table.rows)

    def _find_source(self, dl_manager: tfds.download.DownloadManager) -> Path:
        name = self.builder_config.name
        if self._source_dir is not None:
            return _file_in(self._source_dir, name)
        # tfds raises AssertionError if no manual folder is set.
        with contextlib.suppress(AssertionError):
            path = local_file(Path(dl_manager.manual_dir), name)
            if path is not None:
                return path
        return _download(name)


def prepare(
    config_name: str, source_dir: str | Path | None = None, data_dir: str | Path | None = None
) -> Tofu:
    """Prepares one configuration of TOFU as array_record, unless a prepared copy exists.

    If the file in `source_dir` differs from the file of the prepared copy, the configuration is
    prepared again and a warning is logged.

    Args:
        config_name: a key of `pmc_jax.data.tofu.configs.CONFIGS`, such as "forget10".
        source_dir: folder of the official files. None uses a prepared copy, or downloads the files
            from the Hugging Face Hub if there is no copy.
        data_dir: folder for the prepared data of tensorflow-datasets. None selects the folder in
            `TFDS_DATA_DIR`, or ~/tensorflow_datasets if this variable is not set.

    Returns:
        The builder, ready for `as_data_source("train")`.

    Raises:
        UserError: the configuration is unknown, its file is malformed or is not in `source_dir`,
            the file cannot be downloaded, or `data_dir` cannot be written.
    """
    if config_name not in CONFIGS:
        near = difflib.get_close_matches(config_name, CONFIGS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"tofu/{config_name}: TOFU has no such configuration. Did you mean '{near}'? Use one "
            f"of these: {', '.join(CONFIGS)}."
        )
    with _quiet():
        builder = Tofu(
            config=config_name,
            source_dir=source_dir,
            data_dir=None if data_dir is None else str(data_dir),
            file_format="array_record",
        )
    mode = tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
    path = None if source_dir is None else _file_in(source_dir, config_name)
    is_old = path is not None and builder.is_prepared()
    if is_old and builder.info.metadata.get(_SHA_KEY) != _sha256(path):
        message = "%s: TOFU is prepared again, because the content of %s has changed."
        _log.warning(message, builder.data_dir, path)
        mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
    config = tfds.download.DownloadConfig(download_mode=mode, try_download_gcs=False)
    try:
        with _quiet():
            builder.download_and_prepare(download_config=config)
    except OSError as error:
        raise UserError(
            f"tofu/{config_name}: TOFU cannot be prepared in {builder.data_dir} "
            f"({reason(error)}). Set TFDS_DATA_DIR to a folder that can be written."
        ) from error
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the output of tfds, because stdout is reserved for the command's results."""
    discarded = io.StringIO()
    with contextlib.redirect_stdout(discarded), contextlib.redirect_stderr(discarded):
        yield


def _file_in(folder: str | Path, config_name: str) -> Path:
    path = local_file(folder, config_name)
    if path is None:
        names = f"{config_name}.jsonl or {config_name}.json"
        raise UserError(
            f"{folder}: the folder has no file {names}. Set source_dir to a folder with the files "
            f"of the Hugging Face dataset {HUB_REPO}."
        )
    return path


def _download(config_name: str) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.hf_hub_download(HUB_REPO, f"{config_name}.json", repo_type="dataset")
        )
    except Exception as error:  # The errors of huggingface_hub share no base class.
        raise UserError(
            f"tofu/{config_name}: the file cannot be downloaded from the Hugging Face dataset "
            f"{HUB_REPO} ({reason(error)}). {GET_TOFU}."
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
