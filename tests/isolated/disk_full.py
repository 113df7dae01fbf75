"""A disk that fills up while a run writes: the run goes on, and what was whole stays whole."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs as tiny

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.training.trainer import Trainer


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leaves no room."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        free = shutil.disk_usage(disk).free
        while free > 0:
            file.write(bytes(min(free, 2**16)))
            free = shutil.disk_usage(disk).free
    return filler


def test_a_checkpoint_that_finds_no_room_is_a_warning(small_disk, caplog):
    states = [{"a": jnp.full((500, 500), float(i))} for i in range(5)]
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), states[0]
    )
    with Checkpoints(small_disk / "kept", keep=2) as checkpoints:
        checkpoints.save(1, states[1], {"n": 1})
        checkpoints.wait()
        filler = fill(small_disk)
        checkpoints.save(2, states[2], {"n": 2})
        checkpoints.wait()
        ours = [r.getMessage() for r in caplog.records if r.name == "pmc_jax.artifacts.checkpoint"]
        assert len(ours) == 1 and "step 2 could not be written" in ours[0]
        assert checkpoints.latest() == 1
        assert [path.name for path in checkpoints.folder.iterdir()] == ["1"]
        filler.unlink()
        checkpoints.save(3, states[3], {"n": 3})
        checkpoints.wait()
        fill(small_disk)
        checkpoints.save(4, states[4], {"n": 4})
    filler.unlink()
    with Checkpoints(small_disk / "kept", keep=2) as checkpoints:
        step, state, host = checkpoints.restore_latest(abstract)
    assert step == 3 and host == {"n": 3}
    np.testing.assert_array_equal(state["a"], states[3]["a"])


def test_a_run_goes_on_over_a_full_disk_and_ends_as_any(small_disk, plain, monkeypatch, caplog):
    monkeypatch.chdir(tiny.write_inputs(small_disk / "run"))
    original, steps = Trainer.step, []

    def step(self, batch):
        steps.append(len(steps) + 1)
        if 6 <= steps[-1] < 18:  # again and again: a failed checkpoint leaves room
            fill(small_disk)
        if steps[-1] == 18:
            (small_disk / "filler").unlink()
        return original(self, batch)

    monkeypatch.setattr(Trainer, "step", step)
    tiny.succeed("unlearn", "output.checkpoint_every=2")
    said = [r.getMessage() for r in caplog.records if r.name.startswith("pmc_jax")]
    assert sum("/out: the log could not be written" in line for line in said) == 1
    assert any("checkpoint of step 8 could not be written" in line for line in said)
    assert tiny.same_weights("out/model", plain.out / "model")
    assert tiny.results()["rounds"] == tiny.results(plain.out)["rounds"]
    logged = [line["step"] for line in tiny.log("out", "scalars")]
    assert logged[0] == 1 and logged[-1] == tiny.STEPS and logged == sorted({*logged})
    assert tiny.pmc("verify", config="out").status == 0


def test_no_room_for_the_export_loses_nothing(small_disk, plain, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(small_disk / "run"))
    original = Trainer.release

    def release(self):
        fill(small_disk)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "release", release)
        done = tiny.pmc("unlearn", "output.checkpoint_every=2")
    assert done.status == 2
    tiny.assert_names(done.err.splitlines()[-1], "out/model", "No space left")
    assert "Traceback" not in done.err and not Path("out/model").exists()
    (small_disk / "filler").unlink()
    done = tiny.succeed("unlearn", "output.checkpoint_every=2")
    assert f"at step {tiny.STEPS} of {tiny.STEPS}" in done.out
    assert tiny.same_weights("out/model", plain.out / "model")
