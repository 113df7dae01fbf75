"""Collectives are found in every corner of a program and counted over its loops."""

from pmc_jax.planning.cost import collective_bytes


def test_bytes_of_known_programs(on_eight_devices):
    found = on_eight_devices("collectives")
    once = {"all-reduce": 16 * 32 * 4}
    assert found["product"] == once
    assert found["repeated"] == {"all-reduce": 5 * once["all-reduce"]}
    assert found["until"] == once
    assert found["either"] == {}  # the cheaper branch


def test_a_transfer_that_is_begun_counts_its_result():
    class Program:
        def as_text(self) -> str:
            return """HloModule m
ENTRY %main (x: bf16[4,8]) -> (f32[2], s8[3]) {
  %x = bf16[4,8]{1,0} parameter(0)
  %s = (bf16[4,8]{1,0:T(8,128)}, bf16[16,8]{1,0:T(8,128)}) all-gather-start(%x), replica_groups={{0,1,2,3}}, dimensions={0}
  %d = bf16[16,8]{1,0} all-gather-done(%s)
  %p = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %y = f32[]{:T(128)} constant(1)
  %r = f32[]{:T(128)} all-reduce-start(%y), replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %t = (f32[2]{0}, s8[3]{0}) all-to-all(%x, %x), replica_groups=[2,2]<=[2,2]T(1,0)
}
"""  # noqa: E501

    assert collective_bytes(Program()) == {
        **{"all-gather": 16 * 8 * 2, "collective-permute": 4 * 8 * 2},
        **{"all-reduce": 4, "all-to-all": 11},
    }
