"""The TOFU builder: every configuration, byte for byte, in order, with no TensorFlow."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.data import sets
from pmc_jax.data.tofu import tofu
from pmc_jax.data.tofu.configs import CONFIGS, LIST_COLUMN, local_file
from pmc_jax.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tofu"
needs_tofu = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/tofu")


def small_rows(config: str, count: int = 3) -> list[dict]:
    """Rows with the columns of a configuration, with odd text in them."""
    odd = "Łódź “q” \u2028 \n\n6-20:"
    return [
        {
            name: [f"{index}{odd}", "no"] if name == LIST_COLUMN else f"{name} {index} {odd}"
            for name in CONFIGS[config]
        }
        for index in range(count)
    ]


def write_small(folder: Path, config: str, suffix: str = ".jsonl", count: int = 3) -> list[dict]:
    rows = small_rows(config, count)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{config}{suffix}").write_text(text)
    return rows


def read_back(builder: tofu.Tofu) -> list[dict]:
    return [
        {
            name: [text.decode() for text in value] if name == LIST_COLUMN else value.decode()
            for name, value in row.items()
        }
        for row in builder.as_data_source("train")
    ]


@pytest.fixture
def own_data_dir(tmp_path, monkeypatch):
    """Prepared data go to the test's own folder where no data_dir is passed."""
    folder = tmp_path / "tfds"
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize("config", CONFIGS)
def test_small_files_come_back_as_they_are(tmp_path, config):
    rows = write_small(tmp_path, config, suffix=".json")
    assert read_back(tofu.prepare(config, tmp_path, tmp_path / "out")) == rows
    assert "tensorflow" not in sys.modules


@needs_tofu
def test_configurations_are_the_official_files():
    manifest = json.loads((SHARED / "manifest.json").read_text())["files"]
    # idontknow is a list of refusals, no configuration of questions.
    official = {name: entry for name, entry in manifest.items() if "idontknow" not in name}
    fields = {name: entry["fields"] for name, entry in official.items()}
    assert {name: list(columns) for name, columns in CONFIGS.items()} == fields


@needs_tofu
@pytest.mark.parametrize("config", CONFIGS)
def test_official_rows_byte_for_byte(tmp_path, config):
    manifest = json.loads((SHARED / "manifest.json").read_text())["files"]
    builder = tofu.prepare(config, SHARED, tmp_path)
    assert builder.info.splits["train"].num_examples == manifest[config]["rows"]
    assert builder.info.metadata["source_sha256"] == manifest[config]["sha256"]
    lines = (SHARED / f"{config}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert read_back(builder) == [json.loads(line) for line in lines]


def test_a_prepared_copy_is_reused_until_the_file_changes(tmp_path, caplog):
    out = tmp_path / "out"
    rows = write_small(tmp_path, "forget01")
    first = tofu.prepare("forget01", tmp_path, out)
    stamp = next(Path(first.data_dir).glob("*array_record*")).stat().st_mtime_ns
    with caplog.at_level(logging.WARNING, logger="pmc_jax"):
        again = tofu.prepare("forget01", tmp_path, out)
    assert next(Path(again.data_dir).glob("*array_record*")).stat().st_mtime_ns == stamp
    # Without a folder, the prepared copy is enough.
    assert read_back(tofu.prepare("forget01", None, out)) == rows
    assert "prepared again" not in caplog.text
    rows = write_small(tmp_path, "forget01", count=5)
    with caplog.at_level(logging.WARNING, logger="pmc_jax"):
        assert read_back(tofu.prepare("forget01", tmp_path, out)) == rows
    assert "prepared again" in caplog.text


def test_a_folder_that_cannot_be_used(tmp_path):
    write_small(tmp_path, "forget01")
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"tofu/forget01: TOFU cannot be prepared in .*TFDS_DATA_DIR"
    ):
        tofu.prepare("forget01", tmp_path, tmp_path / "file")
    tofu.prepare("forget01", tmp_path, tmp_path / "out")
    # A folder without the file is a fault also where a prepared copy could be had.
    with pytest.raises(UserError, match=r"the folder has no file forget01\.jsonl"):
        tofu.prepare("forget01", tmp_path / "nowhere", tmp_path / "out")


def test_nothing_is_printed(tmp_path, capfd):
    write_small(tmp_path, "forget01")
    tofu.prepare("forget01", tmp_path, tmp_path / "out")
    assert capfd.readouterr().out == ""


def test_plain_tfds_knows_the_builder_and_its_manual_folder(tmp_path):
    rows = write_small(tmp_path, "holdout01")
    builder = tfds.builder("tofu/holdout01", data_dir=str(tmp_path / "out"))
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(manual_dir=str(tmp_path)),
    )
    assert read_back(builder) == rows


def test_sources_read_tfds_with_the_folder_of_the_settings(tmp_path, own_data_dir):
    rows = [{**row, LIST_COLUMN: ["no", "nor"]} for row in small_rows("forget10_perturbed", 4)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "forget10_perturbed.jsonl").write_text(text)
    data = DataConfig(root=str(tmp_path))
    source = SourceConfig(path="tfds:tofu/forget10_perturbed", rows="1:3")
    got = sets.forget_set(source, data)
    assert got.ids == ("forget10_perturbed:1", "forget10_perturbed:2")
    assert got.questions == tuple(row["question"] for row in rows[1:3])
    assert own_data_dir.is_dir()
    source = SourceConfig(path="tfds:tofu/forget10_perturbed", answer="paraphrased_answer")
    forget = sets.eval_set("forget", source, data)
    assert forget.answers == tuple(row["paraphrased_answer"] for row in rows) == forget.paraphrased
    assert forget.wrong == (("no", "nor"),) * 4
    with pytest.raises(UserError, match="the column 'anser' does not exist"):
        sets.retain_set(SourceConfig(path="tfds:tofu/forget10_perturbed", answer="anser"), data)
    with pytest.raises(UserError, match="has 4 rows"):
        sets.retain_set(SourceConfig(path="tfds:tofu/forget10_perturbed", rows="3:9"), data)


class PmcOther(tfds.core.GeneratorBasedBuilder):
    """Somebody's builder: one split that is not called train, a number among the columns."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        features = {"question": text, "answer": text, "number": tfds.features.Scalar(np.int32)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for index in range(2):
            yield index, {"question": f"é{index}", "answer": "b", "number": index}


def test_sources_read_any_other_builder(own_data_dir, capfd):
    got = sets.retain_set(SourceConfig(path="tfds:pmc_other"), DataConfig())
    assert capfd.readouterr().out == ""
    assert (got.ids, got.questions) == (("pmc_other:0", "pmc_other:1"), ("é0", "é1"))
    with pytest.raises(UserError, match=r"row 0 .*: the value in column 'number' is"):
        sets.retain_set(SourceConfig(path="tfds:pmc_other", answer="number"), DataConfig())
    with pytest.raises(UserError, match="tfds:no_such_thing: tensorflow-datasets cannot prepare"):
        sets.retain_set(SourceConfig(path="tfds:no_such_thing"), DataConfig())


def test_no_file_and_no_hub(tmp_path, monkeypatch, own_data_dir):
    def unreachable(*arguments, **keywords):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    source = SourceConfig(path="tfds:tofu/forget10")
    with pytest.raises(UserError) as caught:
        sets.forget_set(source, DataConfig(root=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith("tofu/forget10: the file cannot be downloaded from the Hugging Face")
    assert "ConnectionError: no route" in message and "data.root=FOLDER" in message
    assert "\n" not in message
    with pytest.raises(UserError, match=r"no file forget10\.jsonl or forget10\.json"):
        tofu.prepare("forget10", tmp_path, tmp_path / "out")


def test_hub_file_is_used_where_no_folder_is_named(tmp_path, monkeypatch):
    rows = write_small(tmp_path, "world_facts", suffix=".json")
    requests = []

    def download(repo, name, repo_type):
        requests.append((repo, name, repo_type))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert read_back(tofu.prepare("world_facts", None, tmp_path / "out")) == rows
    assert requests == [("locuslab/TOFU", "world_facts.json", "dataset")]


def test_unknown_configuration_names_the_nearest(tmp_path):
    with pytest.raises(
        UserError, match=r"tofu/forget-10: TOFU has no such .* Did you mean 'forget10'"
    ):
        tofu.prepare("forget-10", tmp_path, tmp_path)
    with pytest.raises(UserError, match="tofu/: TOFU has no such configuration"):
        sets.forget_set(SourceConfig(path="tfds:tofu"), DataConfig())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "real_authors_perturbed.jsonl: the source has no rows"),
        ('{"question": "a",', "line 1: the text is not valid JSON"),
        (
            '{"question": "a", "perturbed_answer": []}',
            "real_authors_perturbed.jsonl: the column 'answer' does not exist",
        ),
        (
            '{"question": "a", "answer": 1, "perturbed_answer": "b"}',
            "line 1: the value in column 'answer' is a number, not a string; "
            "line 1: the value in column 'perturbed_answer' must be an array of strings",
        ),
    ],
)
def test_malformed_file_leaves_nothing_behind(tmp_path, content, expected):
    (tmp_path / "real_authors_perturbed.jsonl").write_text(content)
    with pytest.raises(UserError) as caught:
        tofu.prepare("real_authors_perturbed", tmp_path, tmp_path / "out")
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*array_record*"))


def test_local_file_takes_either_suffix(tmp_path):
    assert local_file(tmp_path, "full") is None
    (tmp_path / "full.json").touch()
    assert local_file(tmp_path, "full") == tmp_path / "full.json"
    (tmp_path / "full.jsonl").touch()
    assert local_file(tmp_path, "full") == tmp_path / "full.jsonl"


def test_runs_in_a_process_without_tensorflow(tmp_path):
    write_small(tmp_path, "forget01")
    program = (
        "import sys\n"
        "from pmc_jax.data.tofu.tofu import prepare\n"
        f"builder = prepare('forget01', {str(tmp_path)!r}, {str(tmp_path / 'out')!r})\n"
        "assert len(list(builder.as_data_source('train'))) == 3\n"
        "assert not {'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
