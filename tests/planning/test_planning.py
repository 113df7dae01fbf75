"""The planner's arithmetic, on programs whose cost is known; no TPU compiler is needed."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pmc_jax.config.run import Config, config_from_dict
from pmc_jax.errors import UserError
from pmc_jax.planning import topology as topologies
from pmc_jax.planning.bound import Network, bound, by_axis
from pmc_jax.planning.chips import CHIPS
from pmc_jax.planning.cost import Collective, program_cost
from pmc_jax.planning.hlo import parse
from pmc_jax.planning.plan import Planner, check_file
from pmc_jax.planning.topology import slices, topology
from pmc_jax.planning.workload import count_rows, workload

V5E = CHIPS["v5e"]


def cost_of(function, *arguments):
    return program_cost(parse(jax.jit(function).lower(*arguments).compile().as_text()))


class TestCost:
    def test_products_count_over_all_loops(self):
        w = jnp.ones((7, 32, 32))

        def layers(x):
            def layer(x, w):
                return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ w), x), None

            return jax.lax.scan(layer, x, w)[0]

        assert cost_of(layers, jnp.ones((16, 32))).flops == 7 * 3 * 2 * 16 * 32 * 32

    def test_a_batch_of_products(self):
        a, b = jnp.ones((5, 8, 16)), jnp.ones((5, 16, 4))
        assert (
            cost_of(lambda a, b: jnp.einsum("nij,njk->nik", a, b), a, b).flops == 2 * 5 * 8 * 16 * 4
        )

    def test_what_is_read_and_written(self):
        x = jnp.ones((256, 256))
        assert cost_of(lambda x: jnp.tanh(x) * 2, x).hbm == 2 * 256 * 256 * 4

    def test_of_an_array_that_is_sliced_the_slice_counts(self):
        x = jnp.ones((64, 256, 256))
        cost = cost_of(lambda x, i: jnp.tanh(x[i]), x, 3)
        assert 2 * 256 * 256 * 4 <= cost.hbm < 2.1 * 256 * 256 * 4

    def test_an_update_in_place_counts_what_is_written(self):
        text = """HloModule m
%update (p: f32[64,256], u: f32[1,256], i: s32[]) -> f32[64,256] {
  %p = f32[64,256]{1,0} parameter(0)
  %u = f32[1,256]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %c = s32[] constant(0)
  ROOT %d = f32[64,256]{1,0} dynamic-update-slice(%p, %u, %i, %c)
}
ENTRY %main (p: f32[64,256], u: f32[1,256], i: s32[]) -> f32[64,256] {
  %p = f32[64,256]{1,0} parameter(0)
  %u = f32[1,256]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = f32[64,256]{1,0} fusion(%p, %u, %i), kind=kLoop, calls=%update
}
"""
        assert program_cost(parse(text)).hbm == 2 * 256 * 4 + 4  # the row in, the row out, where

    def test_memory_on_the_chip_costs_nothing(self):
        text = """HloModule m
ENTRY %main (x: bf16[8,128]) -> bf16[8,128] {
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %s = (bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, bf16[8,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x)
  %d = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} copy-done(%s)
  %y = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} tanh(%d)
  ROOT %z = bf16[8,128]{1,0:T(8,128)(2,1)} negate(%y)
}
"""  # noqa: E501
        assert program_cost(parse(text)).hbm == 2 * 8 * 128 * 2  # fetched, and written in the end

    @pytest.mark.parametrize(
        ("window", "dims", "left", "right", "out", "flops"),
        [
            # [64,32] x [32,16], as the TPU's compiler writes a plain product.
            ("", "bf_io->bf", (64, 32), (32, 16), (64, 16), 2 * 64 * 32 * 16),
            # A batch of 4 products [8,32] x [32,16]: the batch is a dilated window.
            (
                "size=4 stride=3 lhs_dilate=4",
                "0bf_0io->0bf",
                (4, 8, 32),
                (4, 32, 16),
                (4, 8, 16),
                4 * 2 * 8 * 32 * 16,
            ),
            # Eight heads' [64,32] at once: a window that is as long as the padding.
            (
                "size=8 pad=7_7 rhs_reversal=1",
                "b0f_0io->b0f",
                (64, 1, 32),
                (8, 32, 16),
                (64, 8, 16),
                8 * 2 * 64 * 32 * 16,
            ),
        ],
    )
    def test_products_as_convolutions(self, window, dims, left, right, out, flops):
        def shape(sizes):
            return f"f32[{','.join(map(str, sizes))}]"

        text = f"""HloModule m
ENTRY %main (a: {shape(left)}, b: {shape(right)}) -> {shape(out)} {{
  %a = {shape(left)} parameter(0)
  %b = {shape(right)} parameter(1)
  ROOT %c = {shape(out)} convolution(%a, %b), window={{{window}}}, dim_labels={dims}
}}
"""
        assert program_cost(parse(text)).flops == flops

    def test_a_loop_of_the_tpu_says_nothing_of_its_trips(self):
        text = """HloModule m
%body (t: (u32[], f32[8])) -> (u32[], f32[8]) {
  %t = (u32[], f32[8]) parameter(0)
  %i = u32[] get-tuple-element(%t), index=0
  %x = f32[8] get-tuple-element(%t), index=1
  %two = u32[] constant(2)
  %j = u32[] add(%i, %two)
  %y = f32[8] tanh(%x)
  ROOT %r = (u32[], f32[8]) tuple(%j, %y)
}
%cond (t: (u32[], f32[8])) -> pred[] {
  %t = (u32[], f32[8]) parameter(0)
  %i = u32[] get-tuple-element(%t), index=0
  %n = u32[] constant(9)
  ROOT %c = pred[] compare(%i, %n), direction=LT
}
ENTRY %main (x: f32[8]) -> (u32[], f32[8]) {
  %x = f32[8] parameter(0)
  %one = u32[] constant(1)
  %t = (u32[], f32[8]) tuple(%one, %x)
  ROOT %w = (u32[], f32[8]) while(%t), condition=%cond, body=%body
}
"""
        module = parse(text)
        entry = module.computations["main"]
        assert module.trips(entry.instructions["w"], entry) == 4

    def test_collectives_hide_behind_what_runs_beside_them(self):
        text = """HloModule m
ENTRY %main (x: f32[4,8]) -> f32[16,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %s = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={0}
  %y = f32[4,8]{1,0} tanh(%x), backend_config={"window_config":{"estimated_cycles":"700"}}
  ROOT %d = f32[16,8]{1,0} all-gather-done(%s)
}
"""  # noqa: E501
        module = parse(text)
        for seconds, total in ((400, 700), (1000, 1000)):
            cost = program_cost(module, collective_seconds=lambda _, n=seconds: n)
            assert cost.cycles == 700 and cost.seconds == total


def network(*sizes: int, slices: int = 1) -> Network:
    """Devices of v5e on a plane, x first, on a mesh fsdp x tensor of the same sizes."""
    devices = tuple(
        types.SimpleNamespace(coords=(x, y, 0), slice_index=s)
        for s in range(slices)
        for x in range(sizes[0])
        for y in range(sizes[1])
    )
    axes = (("slice", slices), ("data", 1), ("fsdp", sizes[0]), ("tensor", sizes[1]))
    return Network(V5E, devices, axes)


class TestNetwork:
    def test_a_line_a_ring_and_a_plane(self):
        whole = 16e9
        line = Collective("all-gather", int(whole), (0, 4, 8, 12))
        plane = Collective("all-gather", int(whole), tuple(range(16)))
        assert network(4, 4).seconds(line) == pytest.approx(whole * 3 / 4 / V5E.link)
        assert network(4, 4).seconds(plane) == pytest.approx(whole * 15 / 16 / (2 * V5E.link))
        ring = Collective("all-gather", int(whole), tuple(range(0, 256, 16)))
        assert network(16, 16).seconds(ring) == pytest.approx(whole * 15 / 16 / (2 * V5E.link))

    def test_what_is_moved(self):
        for kind, factor in (("all-gather", 3 / 4), ("all-reduce", 6 / 4), ("reduce-scatter", 3)):
            assert Collective(kind, 1000, (0, 1, 2, 3)).moved == 1000 * factor

    def test_neighbours_and_further_ones(self):
        near = Collective("collective-permute", 1000, (0, 1), ((0, 1), (1, 0)))
        far = Collective("collective-permute", 1000, (0, 1), ((0, 3), (3, 0)))
        assert network(4, 4).seconds(near) == pytest.approx(1000 / V5E.link)
        assert network(4, 4).seconds(far) == pytest.approx(3 * 1000 / V5E.link)

    def test_between_slices_each_device_sends_its_part(self):
        across = Collective("all-reduce", 4000, (0, 4))
        assert network(2, 2, slices=2).seconds(across) == pytest.approx(2 * 4000 / 2 / V5E.dcn)

    def test_mesh_axes_by_name(self):
        links = network(4, 4)
        assert links.spanned(Collective("all-gather", 8, (0, 4, 8, 12))) == "fsdp"
        assert links.spanned(Collective("all-gather", 8, (0, 1, 2, 3))) == "tensor"
        assert links.spanned(Collective("all-gather", 8, tuple(range(16)))) == "fsdp+tensor"
        ring = Collective("collective-permute", 8, (0, 1), ((0, 4), (4, 8), (8, 12), (12, 0)))
        assert links.spanned(ring) == "fsdp"

    def test_the_largest_of_three_bounds(self):
        cost = cost_of(lambda x: x @ x, jnp.ones((64, 64)))
        limit = bound(cost, network(1, 1))
        assert limit.compute == 2 * 64**3 / V5E.flops and limit.network == 0
        assert limit.seconds == limit.hbm == cost.hbm / V5E.hbm_bandwidth and limit.by == "HBM"
        assert by_axis(cost, network(1, 1)) == []


def work_of(config: Config, row_multiple: int):
    return workload(config, count_rows(config), row_multiple)


def settings(**sections) -> Config:
    return config_from_dict({"plan": {"topology": "v5e:4x4", "questions": 40}, **sections})


class TestWorkload:
    def test_steps_samples_and_answers(self):
        pmc = {
            "sampling": {"num_samples": 5, "batch_size": 40, "max_new_tokens": 32},
            "schedule": {"epochs": 3, "steps_per_round": 1, "retain_rows": 1},
        }
        work = work_of(settings(pmc=pmc, train={"batch_size": 8}), 1)
        assert (work.steps, work.rounds, work.questions, work.samples) == (15, 15, 120, 600)
        assert work.sample.step_tokens == 40 and work.answer_tokens == 32
        # Every round fills the batch once; then the 40 greedy answers of the untouched model.
        assert work.decode_steps == (15 + 1) * 32
        assert work.train.rows == 4 and work.train.tokens >= 256  # a row of data.max_length

    def test_rows_that_the_settings_give(self):
        plan = {"topology": "v5e:4x4", "questions": 40, "rows": 60, "row_tokens": 256}
        shape = work_of(settings(plan=plan), 16).train
        assert (shape.rows, shape.tokens, shape.answers, shape.step_tokens) == (
            64,
            256,
            128,
            64 * 256,
        )

    @pytest.mark.parametrize(
        ("sections", "kept"),
        [
            ({}, False),
            ({"data": {"retain": "own"}}, True),
            ({"method": {"retain_loss": "kl"}}, True),
            ({"data": {"retain": "own"}, "method": {"retain_loss": "cross_entropy"}}, False),
        ],
    )
    def test_kl_keeps_the_model_before_unlearning(self, sections, kept):
        shape = work_of(settings(**sections), 1).train
        assert (shape.objective is not None and shape.objective.needs_reference) == kept

    def test_questions_are_counted_where_the_data_is(self, tmp_path):
        (tmp_path / "forget.jsonl").write_text('{"question": "Who?"}\n' * 3)
        data = {"root": str(tmp_path), "forget": "forget.jsonl"}
        work = work_of(config_from_dict({"data": data, "pmc": {"schedule": {"epochs": 2}}}), 1)
        assert work.questions == 6
        with pytest.raises(UserError, match=r"absent\.jsonl.*plan\.questions"):
            work_of(config_from_dict({"data": {**data, "forget": "absent.jsonl"}}), 1)


class TestFaults:
    def test_names_of_topologies(self):
        with pytest.raises(
            UserError, match=r"the TPU 'v7x' is unknown\. Use one of v4, v5e, v5p, v6e, tpu7x"
        ):
            topology("v7x:2x2")
        with pytest.raises(UserError, match=r"v5e has no slice '3x7'\. Use v5e:SIZE .*4x4.*8x8"):
            topology("v5e:3x7")
        with pytest.raises(UserError, match=r"v5p has no slice ''\..*2x2x1"):
            topology("v5p")
        assert "16x16x16" in slices(CHIPS["v5p"]) and "4x4x8" in slices(CHIPS["v4"])

    def test_no_compiler(self, monkeypatch):
        monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            UserError, match=r"libtpu is not installed.*pip install 'pmc_jax\[plan\]'"
        ):
            topology("v5e:4x4")

    def test_no_topology_and_no_shape(self, tmp_path):
        with pytest.raises(UserError, match=r"plan\.topology is not set"):
            Planner(config_from_dict({}))
        config = config_from_dict(
            {"model": {"path": str(tmp_path / "absent")}, "plan": {"topology": "v5e:4x4"}}
        )
        with pytest.raises(
            UserError, match=r"absent.*set model\.config to the model's config\.json"
        ):
            Planner(config)

    def test_only_a_plan_is_replaced(self, tmp_path):
        file = tmp_path / "plan.json"
        check_file(file)
        for text in ('{"kind": "notes"}', "[1]", "not JSON"):
            file.write_text(text)
            with pytest.raises(
                UserError, match=r"plan\.json: .* pmc plan did not write it.*plan\.file"
            ):
                check_file(file)


def test_published_figures_are_of_one_device():
    for name, chip in CHIPS.items():
        assert chip.name == name
        # The clock of the matrix units gives the peak: a power of two of products a cycle.
        products = chip.flops / 2 / chip.clock
        assert np.isclose(np.log2(products) % 1, 0, atol=0.04) or np.isclose(
            np.log2(products) % 1, 1, atol=0.04
        )
