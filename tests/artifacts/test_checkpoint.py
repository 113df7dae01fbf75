"""Checkpoints: bit-equal restoring, safety under donation, and damage of the newest one."""

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.errors import UserError

HOST = {"scores": [0.1, 1e-300, None], "answers": {"id 1": "é\n", "id 2": ""}, "epoch": 3}


def _state(seed=0):
    """A training state in small: weights of two dtypes, an optax state, a step, a key."""
    weights = jax.random.normal(jax.random.key(seed), (5, 7), jnp.float32)
    params = {"w": weights, "b": weights[0].astype(jnp.bfloat16), "empty": {}}
    return {
        "params": params,
        "optimizer": optax.adamw(optax.constant_schedule(1e-3)).init(params),
        "step": jnp.int32(seed),
        "key": jax.random.key_data(jax.random.key(seed)),
        "pair": (jnp.array([-0.0, jnp.nan, jnp.inf], jnp.float32), None),
    }


def _abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def _bits(state):
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with checkpoints 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step), {"step": step})
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "checkpoints")


def test_restored_state_is_bit_equal(tmp_path):
    state = _state()
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.restore_latest(_abstract(state)) is None
        checkpoints.save(12, state, HOST)
        assert checkpoints.latest() == 12
        restored, host = checkpoints.restore(12, _abstract(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert _bits(restored) == _bits(state)
    assert host == HOST


def test_another_object_finds_the_newest(folder):
    with Checkpoints(folder, keep=3) as checkpoints:
        assert checkpoints.latest() == 3
        step, state, host = checkpoints.restore_latest(_abstract(_state()))
        older, _ = checkpoints.restore(1, _abstract(_state()))
    assert (step, host) == (3, {"step": 3})
    assert _bits(state) == _bits(_state(3))
    assert _bits(older) == _bits(_state(1))


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    replace = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    state = {"big": jnp.arange(1 << 20, dtype=jnp.float32), "small": jnp.arange(3)}
    abstract, before = _abstract(state), _bits(state)
    replace(jax.tree.map(jnp.copy, state))  # compiled now, so that nothing delays it below
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(1, state, {})
        state = jax.block_until_ready(replace(state))
        after = _bits(state)
        checkpoints.save(2, state, {})
        for leaf in jax.tree.leaves(state):
            leaf.delete()
        checkpoints.wait()
        assert _bits(checkpoints.restore(1, abstract)[0]) == before
        assert _bits(checkpoints.restore(2, abstract)[0]) == after


def test_host_values_may_change_as_soon_as_save_returns(tmp_path):
    state, host = {"x": jnp.zeros(3)}, {"scores": list(range(100_000))}
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, state, host)
        host["scores"].clear()
        assert checkpoints.restore(1, _abstract(state))[1] == {"scores": list(range(100_000))}
        with pytest.raises(TypeError):
            checkpoints.save(2, state, {"scores": np.zeros(3)})
        assert checkpoints.latest() == 1


def test_every_save_is_written_and_the_last_are_kept(tmp_path):
    state = {"x": jnp.zeros(1000)}
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step in range(5):  # each while the one before is being written
            checkpoints.save(step, state, {})
        checkpoints.wait()
        assert sorted(os.listdir(tmp_path / "c")) == ["3", "4"]
        with pytest.raises(ValueError, match="the step must be above 4"):
            checkpoints.save(4, state, {})


def test_no_thread_is_left(tmp_path):
    before = {*threading.enumerate()}
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step in range(3):
            checkpoints.save(step, _state(step), HOST)
        checkpoints.restore_latest(_abstract(_state()))
    left = {*threading.enumerate()} - before
    for thread in left:
        thread.join(20)  # It ends by itself, but not always at once.
    assert not [thread for thread in left if thread.is_alive()]


def test_folders_are_private(folder):
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o700}


def _truncate_data(path):
    files = list((path / "state").rglob("d/*"))
    assert files
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


def _empty(path):
    shutil.rmtree(path)
    path.mkdir()


def _edit(path: Path, change) -> None:
    """Changes the host values of a checkpoint without a change of their digest."""
    file = path / "host" / "data.json"
    host = json.loads(file.read_text())
    change(host)
    file.write_text(json.dumps(host))


DAMAGES = {
    "data truncated": _truncate_data,
    "manifest missing": lambda path: (path / "state" / "manifest.ocdbt").unlink(),
    "metadata truncated": lambda path: os.truncate(path / "state" / "_METADATA", 40),
    "state missing": lambda path: shutil.rmtree(path / "state"),
    "host missing": lambda path: (path / "host" / "data.json").unlink(),
    "host edited": lambda path: _edit(path, lambda host: host["values"].update(step=7)),
    "host of another type": lambda path: _edit(path, lambda host: host.update(values=[])),
    "host without a digest": lambda path: _edit(path, lambda host: host.pop("sha256")),
    "host no object": lambda path: (path / "host" / "data.json").write_text("3"),
    "arrays edited": lambda path: _edit(path, lambda host: host["arrays"].clear()),
    "host truncated": lambda path: os.truncate(path / "host" / "data.json", 9),
    "folder empty": _empty,
}


# Orbax leaves half-done reads behind; python reports them when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_newest_falls_back_and_is_written_again(folder, caplog, damage):
    damage(folder / "3")
    with Checkpoints(folder, keep=3) as checkpoints:
        step, state, host = checkpoints.restore_latest(_abstract(_state()))
        assert (step, host) == (2, {"step": 2})
        assert _bits(state) == _bits(_state(2))
        assert "checkpoint of step 3 cannot be read" in caplog.text
        assert checkpoints.latest() == 2
        checkpoints.save(3, _state(9), {"step": 9})
        step, state, host = checkpoints.restore_latest(_abstract(_state()))
    assert (step, host) == (3, {"step": 9})
    assert _bits(state) == _bits(_state(9))
    gc.collect()


def test_half_written_folder_is_no_checkpoint(folder):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    with Checkpoints(folder, keep=3) as checkpoints:
        assert checkpoints.latest() == 2
        checkpoints.save(3, _state(3), {})
    assert sorted(os.listdir(folder)) == ["1", "2", "3"]


def test_nothing_readable_is_an_error_and_nothing_is_deleted(folder, caplog):
    for path in folder.iterdir():
        DAMAGES["host missing"](path)
    with (
        Checkpoints(folder, keep=3) as checkpoints,
        pytest.raises(UserError, match=r"no checkpoint can be read \(steps 1, 2, 3") as caught,
    ):
        checkpoints.restore_latest(_abstract(_state()))
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(folder)) == ["1", "2", "3"]
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"step": jax.ShapeDtypeStruct((), jnp.float32)}, 'was "int32[]" and is now "float32[]"'),
        ({"step": jax.ShapeDtypeStruct((2,), jnp.int32)}, 'was "int32[]" and is now "int32[2]"'),
        ({"more": jax.ShapeDtypeStruct((2,), jnp.int32)}, "['more'] was absent"),
        ({"key": {}}, "['key'] was \"uint32[2]\" and is now absent"),
    ],
)
def test_state_of_another_model_is_no_damage(folder, change, fault):
    abstract = {**_abstract(_state()), **change}
    with Checkpoints(folder, keep=3) as checkpoints:
        with pytest.raises(UserError, match="step 3 holds the state of another model") as caught:
            checkpoints.restore_latest(abstract)
        assert checkpoints.latest() == 3
    assert fault in str(caught.value)
    assert sorted(os.listdir(folder)) == ["1", "2", "3"]


def test_bad_arguments(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the checkpoint folder cannot be used"):
        Checkpoints(tmp_path / "file", keep=1)
    with pytest.raises(UserError, match="at least 1"):
        Checkpoints(tmp_path / "c", keep=0)


SHARDED = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from pmc_jax.artifacts.checkpoint import Checkpoints

def mesh(*shape):
    return jax.make_mesh(shape, ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)

def on(mesh, tree):
    specs = {"w": P("fsdp", "tensor"), "b": P("tensor"), "step": P(), "copied": P(None, "fsdp")}
    return {name: NamedSharding(mesh, specs[name]) for name in tree}

host = {
    "w": np.arange(128, dtype=np.float32).reshape(16, 8),
    "b": np.arange(8).astype(jnp.bfloat16),
    "step": np.int32(5),
    "copied": np.arange(64, dtype=np.int32).reshape(4, 16),
}
here, there = on(mesh(2, 4), host), on(mesh(8, 1), host)
state = jax.device_put(host, here)
step = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0, out_shardings=here)
equal = []
with Checkpoints(sys.argv[1], keep=1) as checkpoints:
    checkpoints.save(1, state, {})
    jax.block_until_ready(step(state))
    for shardings in (here, there):
        abstract = {
            name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=shardings[name])
            for name, value in host.items()
        }
        restored, _ = checkpoints.restore(1, abstract)
        for name, leaf in restored.items():
            equal.append(leaf.sharding == shardings[name] and leaf.dtype == host[name].dtype)
            equal.append(np.asarray(leaf).tobytes() == host[name].tobytes())
print(json.dumps([len(jax.devices()), equal]))
"""


def test_eight_devices_keep_their_shardings_and_may_change_them(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SHARDED, str(tmp_path / "c")],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [8, [True] * 16]
