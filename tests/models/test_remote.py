"""Model folders behind gs://, with a folder of this machine in the place of the bucket."""

import importlib.util
import json

import fsspec
import numpy as np
import pytest
import tiny_runs as tiny
from etils.epath import backend
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from golden_models import model_folder, one_device
from safetensors.numpy import load_file, save_file

from pmc_jax.artifacts.digests import file_digest
from pmc_jax.errors import UserError
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import find, load
from pmc_jax.models.remote import RemoteSafetensors, remote_folder
from pmc_jax.models.safetensors_folder import SINGLE_FILE, SafetensorsFolder

ADDRESS = "gs://bucket/model"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder that stands for gs://, and the ranges (begin, bytes) read of weights."""
    ranges = []

    class Bucket(DirFileSystem):
        protocol = ("gs", "gcs")
        cachable = False

        def __init__(self, **kwargs):
            super().__init__(path=str(tmp_path), fs=LocalFileSystem())

        def _join(self, path):
            return super()._join(path.removeprefix("gs://"))

        def open(self, path, mode="rb", **kwargs):
            file = super().open(path, mode, **kwargs)
            if path.endswith(".safetensors"):
                plain = file.f.read

                def read(size=-1):
                    ranges.append((file.f.tell(), size))
                    return plain(size)

                file.read = read
            return file

    def filesystem(self, name):
        return Bucket() if name == "gcs" else fsspec.filesystem(name)

    monkeypatch.setattr(type(backend.fsspec_backend), "_get_filesystem", filesystem)
    return tmp_path, ranges


@pytest.mark.parametrize("case", ["default", "linear", "phi3"])
def test_the_same_model_as_from_this_machine(bucket, case):
    folder = model_folder(bucket[0] / "bucket" / "model", case)
    here, there = (load(x, mesh=one_device().mesh) for x in (folder, ADDRESS))
    assert there.config == here.config and there.source_dtype == here.source_dtype
    assert there.tokenizer("w3 w17")["input_ids"] == here.tokenizer("w3 w17")["input_ids"]
    for name, array in here.model.arrays().items():
        np.testing.assert_array_equal(array, there.model.arrays()[name])


def test_carried_tensors_and_every_dtype(bucket):
    folder = model_folder(bucket[0] / "bucket" / "model", "gemma3_text")
    text = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    tensors = load_file(folder / SINGLE_FILE)
    tensors = {f"language_model.{name}": array for name, array in tensors.items()}
    tensors |= {
        "vision_tower.mask": np.tril(np.ones((1, 1, 4, 4), bool)),
        "vision_tower.scale": np.array(-1e4, np.float16),
    }
    save_file(tensors, folder / SINGLE_FILE)
    for source, out in ((ADDRESS, bucket[0] / "out"), (folder, bucket[0] / "again")):
        export_hf(load(source, mesh=one_device().mesh), out)
        after = load_file(out / SINGLE_FILE)
        assert after.keys() == tensors.keys()
        for name, array in tensors.items():
            assert after[name].dtype == array.dtype and after[name].shape == array.shape, name
            assert after[name].tobytes() == array.tobytes(), name


def test_rows_that_are_not_asked_for_stay_there(bucket):
    folder, ranges = bucket
    (folder / "bucket").mkdir()
    array = np.arange(120, dtype=np.float32).reshape(10, 3, 4)
    save_file({"a": np.zeros(7, np.int8), "b": array}, folder / "bucket" / SINGLE_FILE)
    tensor = RemoteSafetensors(remote_folder("gs://bucket") / SINGLE_FILE).get_slice("b")
    ranges.clear()
    block = tensor[slice(4, 6), slice(0, 3), slice(1, 3)]
    np.testing.assert_array_equal(block, array[4:6, :, 1:3])
    assert [size for _, size in ranges] == [2 * 3 * 4 * 4]


def test_the_digest_tells_versions_apart(bucket):
    folder = model_folder(bucket[0] / "bucket" / "model", "default")
    first = file_digest(ADDRESS)
    assert file_digest(ADDRESS) == first
    (folder / "generation_config.json").write_text("{}")
    assert file_digest(ADDRESS) != first


def test_the_whole_command(bucket, monkeypatch):
    """The same weights as from this machine, and the same digests when it is started again."""
    folder, _ = bucket
    monkeypatch.chdir(folder)
    tiny.write_inputs(folder)
    tiny.succeed("unlearn", "output.dir=here", "pmc.schedule.epochs=1")
    tiny.succeed("unlearn", "output.dir=there", "pmc.schedule.epochs=1", "model.path=gs://model")
    here, there = (folder / name / "model" / SINGLE_FILE for name in ("here", "there"))
    assert here.read_bytes() == there.read_bytes()
    (folder / "there" / "results.json").unlink()
    again = tiny.succeed(
        "unlearn", "output.dir=there", "pmc.schedule.epochs=1", "model.path=gs://model"
    )
    assert "the run resumes" in again.out


def cut(folder):
    data = (folder / SINGLE_FILE).read_bytes()
    (folder / SINGLE_FILE).write_bytes(data[:-100])


def header(change):
    def breaks(folder):
        data = (folder / SINGLE_FILE).read_bytes()
        (folder / SINGLE_FILE).write_bytes(change(data))

    return breaks


BROKEN = {
    "cut short": (cut, [SINGLE_FILE, "truncated"]),
    "no header": (lambda f: (f / SINGLE_FILE).write_text("<html>"), [SINGLE_FILE, "damaged"]),
    "empty": (lambda f: (f / SINGLE_FILE).write_bytes(b""), [SINGLE_FILE, "damaged"]),
    "huge header": (header(lambda d: b"\xff" * 8 + d[8:]), [SINGLE_FILE, "damaged"]),
    "false offsets": (header(lambda d: d.replace(b"[0,", b"[8,", 1)), [SINGLE_FILE, "damaged"]),
    "false dtype": (header(lambda d: d.replace(b'"F32"', b'"F64"')), [SINGLE_FILE, "damaged"]),
    "unknown dtype": (header(lambda d: d.replace(b'"F32"', b'"X32"')), [SINGLE_FILE, "damaged"]),
    "no tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        ["tokenizer cannot be read"],
    ),
    "no config": (lambda f: (f / "config.json").unlink(), ["lacks config.json"]),
    "a GGUF file": (
        lambda f: (f / "config.json").rename(f / "m.gguf"),
        ["lacks config.json", "complete model folder"],
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_folder(bucket, fault):
    breaks, parts = BROKEN[fault]
    breaks(model_folder(bucket[0] / "bucket" / "model", "default"))
    with pytest.raises(UserError) as error:
        load(ADDRESS, mesh=one_device().mesh)
    message = str(error.value)
    assert "\n" not in message and ADDRESS in message
    assert all(part in message for part in parts), message


def test_addresses_that_are_no_folder(bucket, monkeypatch):
    for address, part in {
        "gs://bucket/absent": "folder does not exist",
        "ftp://host/model": "Use gs:// or s3://",
    }.items():
        with pytest.raises(UserError, match=part):
            find(address)
    if importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(UserError, match="pip install s3fs"):
        find("s3://bucket/model")


def test_a_bucket_that_refuses(bucket, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Anonymous caller\nhas no access")

    monkeypatch.setattr(DirFileSystem, "isdir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(RuntimeError: Anonymous caller\)"):
        find(ADDRESS)


def test_files_that_cannot_be_reached_are_not_called_damaged(bucket, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Anonymous caller")

    model_folder(bucket[0] / "bucket" / "model", "default")
    monkeypatch.setattr(DirFileSystem, "open", refuse)
    with pytest.raises(UserError, match=r"^gs://.*safetensors: the address cannot be read"):
        SafetensorsFolder(ADDRESS)
    with pytest.raises(UserError, match=r"config.json: the file cannot be read \(Runt.* caller\)"):
        load(ADDRESS, mesh=one_device().mesh)
