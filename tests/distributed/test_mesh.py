"""Meshes, and the table from logical axes to mesh axes; on abstract devices where eight are
needed.
"""

import types

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, PartitionSpec
from tiny_cases import TINY

from pmc_jax.config import sharding
from pmc_jax.config.sharding import LOGICAL_AXES
from pmc_jax.distributed import mesh as mesh_module
from pmc_jax.distributed.mesh import AXES, SAMPLE_RULES, TRAIN_RULES, Layout, layout, make_mesh
from pmc_jax.errors import UserError
from pmc_jax.models.parameters import parameters


def abstract(
    data: int, fsdp: int, tensor: int, rules=TRAIN_RULES, slices=1, changed=None
) -> Layout:
    sizes = (slices, data, fsdp, tensor)
    return layout(AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 4), rules, changed)


def test_one_device():
    mesh = make_mesh(devices=jax.devices()[:1])
    assert dict(mesh.shape) == {"slice": 1, "data": 1, "fsdp": 1, "tensor": 1}
    assert mesh.axis_types == (AxisType.Auto,) * 4
    assert layout(mesh, TRAIN_RULES).row_multiple == 1


def test_only_an_indivisible_size_is_called_unsharded():
    both = abstract(1, 1, 2, changed={"heads": ("tensor",), "embed": ("tensor",)})
    assert both.unsharded_dims(("heads", "embed"), (4, 6)) == []
    assert both.unsharded_dims(("heads", "embed"), (3, 6)) == ["heads 3"]


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
        assert tuple(make_mesh(**sizes, devices=range(8)).values()) == (1, *expected)

    @pytest.mark.parametrize(
        "sizes", [{"tensor": 3}, {"data": 2, "fsdp": 2}, {"data": 16}, {"fsdp": 16}], ids=str
    )
    def test_that_do_not_fit_name_the_divisors(self, sizes):
        with pytest.raises(UserError, match=r"number of devices \(8\)\. .*\[1, 2, 4, 8\]") as error:
            make_mesh(**sizes, devices=range(8))
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "sizes", [{"fsdp": -1}, {"tensor": 0}, {"data": -2}, {"data": 1, "fsdp": -8}], ids=str
    )
    def test_that_make_no_sense(self, sizes):
        with pytest.raises(UserError, match=r"positive .* one of data, fsdp and tensor may be -1"):
            make_mesh(**sizes, devices=range(8))


def devices(*slices: int) -> list:
    """Stand-ins for TPU chips of these slices, two rows of two on each."""
    return [
        types.SimpleNamespace(
            id=4 * s + i,
            slice_index=s,
            process_index=s,
            platform="tpu",
            device_kind="TPU v4",
            coords=(i % 2, i // 2, 0),
            core_on_chip=0,
        )
        for s in slices
        for i in range(4)
    ]


class TestSlices:
    @pytest.fixture(autouse=True)
    def stand_ins(self, monkeypatch):
        monkeypatch.setattr(jax, "make_mesh", lambda sizes, axes, *, devices, **_: sizes)
        monkeypatch.setattr(mesh_module, "Mesh", lambda devices, axes, **_: devices)

    @pytest.mark.parametrize("slices", [2, -1])
    def test_are_those_of_the_devices(self, slices):
        shuffled = [*devices(1, 0)[::2], *devices(1, 0)[1::2]]
        mesh = make_mesh(1, 2, -1, slices=slices, devices=shuffled)
        assert mesh.shape == (2, 1, 2, 2)
        slice_indices = np.vectorize(lambda device: device.slice_index)(mesh)
        assert (slice_indices == np.arange(2)[:, None, None, None]).all()
        assert len({device.id for device in mesh.flat}) == 8

    def test_of_devices_that_know_none_are_cut_in_order(self):
        mesh = make_mesh(2, -1, slices=2, devices=range(8))
        np.testing.assert_array_equal(mesh, np.arange(8).reshape(2, 2, 2, 1))
        assert make_mesh(slices=-1, devices=range(8)) == (1, 8, 1, 1)

    def test_may_be_processes(self):
        hosts = [
            types.SimpleNamespace(id=i, process_index=i % 2, platform="gpu", device_kind="")
            for i in range(8)
        ]
        mesh = make_mesh(slices=2, devices=hosts)
        assert [device.process_index for device in mesh.flat] == [0] * 4 + [1] * 4

    @pytest.mark.parametrize(
        ("sizes", "chips", "words"),
        [
            ({"slices": 3}, range(8), r"mesh\.slices: .* not a multiple of 3.*\[1, 2, 4, 8\]"),
            (
                {"slices": 2, "tensor": 8},
                range(8),
                r"'tensor': 8.*devices per slice \(4\)\. .*\[1, 2, 4\]",
            ),
            (
                {"slices": 2, "data": 4, "fsdp": 2},
                range(8),
                r"devices per slice \(4\)\. .*\[1, 2, 4\]",
            ),
            ({"slices": 0}, range(8), "positive"),
            ({"slices": -2}, range(8), "positive"),
            (
                {},
                devices(0, 1),
                r"the value is 1, but the devices form 2 slices\. Set mesh\.slices to 2",
            ),
            ({"slices": 4}, devices(0, 1), r"4, but the devices form 2 slices\. Set"),
            (
                {"slices": 2},
                devices(0, 1)[:6],
                r"equal numbers of devices, but they have \[2, 4\] devices",
            ),
        ],
        ids=str,
    )
    def test_that_do_not_fit(self, sizes, chips, words):
        with pytest.raises(UserError, match=words) as error:
            make_mesh(**sizes, devices=chips)
        assert "\n" not in str(error.value)


def test_spec_follows_the_table():
    on = abstract(2, 2, 2)
    by_row = ("slice", "data", "fsdp")
    assert on.spec(("rows", None), (8, 5)) == PartitionSpec(by_row, None)
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
    assert spec == PartitionSpec(("slice", "data", "fsdp"), None, ("tensor",), None)


def test_slices_hold_rows_and_copies_of_weights():
    on = abstract(1, 2, 2, slices=2)
    assert on.row_multiple == 4
    assert on.spec(("rows", None), (8, 5)) == PartitionSpec(("slice", "data", "fsdp"), None)
    weights = [on.spec(p.axes, p.shape) for p in parameters(TINY).values()]
    assert not [spec for spec in weights if "slice" in str(spec)]


def test_rows_of_the_table_may_be_changed():
    on = abstract(2, 2, 2, changed={"mlp": ("fsdp", "tensor"), "rows": ("data",)})
    assert on.spec((None, "mlp"), (3, 8)) == PartitionSpec(None, ("fsdp", "tensor"))
    assert on.spec(("rows", "embed"), (8, 8)) == PartitionSpec(("data",), ("fsdp",))
    assert on.row_multiple == 2
    assert abstract(2, 2, 2, changed={"rows": ()}).row_multiple == 1
    assert abstract(2, 2, 2, changed={}) == abstract(2, 2, 2)


def test_a_mesh_of_other_axes_is_refused():
    with pytest.raises(
        UserError, match="the axes must be slice, data, fsdp, tensor, but they are x"
    ):
        layout(jax.make_mesh((1,), ("x",), devices=jax.devices()[:1]), TRAIN_RULES)


def test_every_logical_axis_is_in_both_tables_and_described():
    assert tuple(SAMPLE_RULES) == tuple(TRAIN_RULES) == LOGICAL_AXES
    for name in LOGICAL_AXES:
        assert f"\n    {name} " in sharding.__doc__
    used = {axis for p in parameters(TINY).values() for axis in p.axes if axis}
    assert used <= set(LOGICAL_AXES)


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


@pytest.mark.parametrize("refusal", [NotImplementedError, AssertionError])
def test_devices_that_jax_does_not_order_by_itself_are_laid_out_all_the_same(refusal, monkeypatch):
    """Sizes that part a dimension of a torus, and v4 chips of two devices."""

    def refuse(*arguments, **options):
        if not options.get("allow_split_physical_axes") or refusal is AssertionError:
            raise refusal
        return np.array(arguments[1]).reshape(arguments[0])

    monkeypatch.setattr(jax, "make_mesh", refuse)
    monkeypatch.setattr(mesh_utils, "create_device_mesh", refuse)
    mesh = make_mesh(1, 1, -1, devices=jax.devices()[:1])
    assert dict(mesh.shape) == {"slice": 1, "data": 1, "fsdp": 1, "tensor": 1}
    assert mesh.axis_types == (AxisType.Auto,) * 4
