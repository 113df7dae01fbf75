"""Meshes, and the table from logical axes to mesh axes; on abstract devices where eight are
needed.
"""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from pmc_jax.errors import UserError
from pmc_jax.mesh import AXES, SAMPLE_RULES, TRAIN_RULES, Layout, layout, make_mesh


def abstract(data: int, fsdp: int, tensor: int, rules=TRAIN_RULES) -> Layout:
    return layout(AbstractMesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3), rules)


def test_one_device():
    mesh = make_mesh(devices=jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert mesh.axis_types == (AxisType.Auto,) * 3
    assert layout(mesh, TRAIN_RULES).row_multiple == 1


class TestSizes:
    """Sizes are checked before the mesh is made, so stand-ins for devices are enough."""

    @pytest.fixture(autouse=True)
    def stand_ins(self, monkeypatch):
        monkeypatch.setattr(
            jax, "make_mesh", lambda sizes, axes, **_: dict(zip(axes, sizes, strict=True))
        )

    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [
            ({}, (8, 1, 1)),
            ({"data": 2, "fsdp": -1}, (2, 4, 1)),
            ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
            ({"data": 1, "tensor": -1}, (1, 1, 8)),
            ({"data": -1, "tensor": 8}, (1, 1, 8)),
        ],
    )
    def test_fill_the_devices(self, sizes, expected):
        assert tuple(make_mesh(**sizes, devices=range(8)).values()) == expected

    @pytest.mark.parametrize(
        "sizes", [{"tensor": 3}, {"data": 2, "fsdp": 2}, {"data": 16}, {"fsdp": 16}], ids=str
    )
    def test_that_do_not_fit_name_the_divisors(self, sizes):
        with pytest.raises(UserError, match=r"8 devices; .*\[1, 2, 4, 8\]") as error:
            make_mesh(**sizes, devices=range(8))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "sizes", [{"fsdp": -1}, {"tensor": 0}, {"data": -2}, {"data": 1, "fsdp": -8}], ids=str
    )
    def test_that_make_no_sense(self, sizes):
        with pytest.raises(UserError, match="positive, at most one of them -1"):
            make_mesh(**sizes, devices=range(8))


def test_spec_follows_the_table():
    on = abstract(2, 2, 2)
    both = ("data", "fsdp")
    assert on.spec(("rows", None), (8, 5)) == PartitionSpec(both, None)
    assert on.spec(("vocab", "embed"), (10, 6)) == PartitionSpec(("tensor",), ("fsdp",))
    assert on.spec((), ()) == PartitionSpec()
    assert on.row_multiple == 4
    sampling = abstract(2, 2, 2, SAMPLE_RULES)
    assert sampling.spec(("vocab", "embed"), (10, 6)) == PartitionSpec(("tensor",), None)


def test_spec_replicates_what_does_not_divide():
    on = abstract(2, 2, 2)
    assert on.spec(("vocab", "embed"), (9, 6)) == PartitionSpec(None, ("fsdp",))
    # By the product of the axes: 2 rows divide neither half-way nor over four devices.
    assert on.spec(("rows", None), (2, 5)) == PartitionSpec(None, None)


def test_spec_uses_no_mesh_axis_twice():
    on = abstract(2, 2, 2)
    assert on.spec(("heads", "mlp"), (4, 4)) == PartitionSpec(("tensor",), None)
    # What an axis could not take is free for the next one.
    assert on.spec(("heads", "mlp"), (3, 4)) == PartitionSpec(None, ("tensor",))
    spec = on.spec(("rows", "embed", "vocab", "heads"), (8, 8, 8, 8))
    assert spec == PartitionSpec(("data", "fsdp"), None, ("tensor",), None)


def test_spec_needs_a_name_for_each_dimension():
    with pytest.raises(ValueError, match="zip"):
        abstract(1, 1, 1).spec(("rows",), (2, 3))


def test_layout_is_a_static_argument():
    mesh = make_mesh(devices=jax.devices()[:1])
    one, other = layout(mesh, TRAIN_RULES), layout(mesh, dict(reversed(TRAIN_RULES.items())))
    assert one == other and hash(one) == hash(other)
    assert one != layout(mesh, SAMPLE_RULES)


def test_put_keeps_values_and_dtype():
    on = layout(make_mesh(devices=jax.devices()[:1]), TRAIN_RULES)
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    placed = on.put(x, "rows", None)
    np.testing.assert_array_equal(placed, x)
    assert placed.dtype == np.int32 and placed.sharding.is_equivalent_to(
        on.sharding(("rows", None), x.shape), 2
    )
