"""Collectives are found in every corner of a program and counted over its loops."""

from pmc_jax.collectives import collective_bytes


def test_bytes_of_known_programs(on_eight_devices):
    found = on_eight_devices("collectives")
    once = {"all-reduce": 16 * 32 * 4}
    assert found["product"] == once
    assert found["repeated"] == {"all-reduce": 5 * once["all-reduce"]}
    assert found["until"] == once and found["either"] == once


def test_a_transfer_that_is_begun_counts_its_result():
    class Program:
        def as_text(self) -> str:
            return """HloModule m
ENTRY %main (x: f32[4,8]) -> f32[16,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %s = (f32[4,8]{1,0:T(8,128)}, f32[16,8]{1,0:T(8,128)}) all-gather-start(%x), dimensions={0}
  %d = f32[16,8]{1,0} all-gather-done(%s)
  %p = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x)
  %r = f32[]{:T(128)} all-reduce-start(%y), to_apply=%add
  ROOT %t = (f32[2]{0}, s8[3]{0}) all-to-all(%x, %x)
}
"""

    assert collective_bytes(Program()) == {
        **{"all-gather": 16 * 8 * 4, "collective-permute": 4 * 8 * 2},
        **{"all-reduce": 4, "all-to-all": 11},
    }
