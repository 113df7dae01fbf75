"""Weights rounded as quantisers round them: hand-made cases, bitsandbytes' own codes, bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from tiny_cases import TINY, tiny_model, train_layout

from pmc_jax.config.evaluate import QUANTISATIONS
from pmc_jax.config.train import PROJECTIONS, LoRAConfig
from pmc_jax.evaluation import quantise
from pmc_jax.evaluation.quantise import BLOCK, NF4_LEVELS, quantised
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import adapters, attach, merge
from pmc_jax.models.parameters import parameters

# The codes that bitsandbytes 0.50.2 (torch 2.13.0, CPU) gives to `golden_weight(2, 128)`, by
# functional.quantize_4bit(quant_type="nf4", blocksize=64, compress_statistics=False), two a byte;
# and to `golden_weight(3, 16)`, by functional.int8_vectorwise_quant.
NF4_CODES = (
    "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05d17e2af4c0"
    "6d18e2a04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05d17"
    "e2af4c06d18e2a04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05"
)
INT8_CODES = (
    "81df3d9af856b41270cd2b89e745a2005ebb1977d53390ee4caa0866c3217fdc"
    "3d94f557ae1072c82a81e3459bfd5fb6"
)

# As one program: several small ones take longer to compile.
round_trip = jax.jit(quantise.round_trip, static_argnums=(1, 2))


def golden_weight(outputs: int, inputs: int) -> np.ndarray:
    """[out, in], as torch has it; exact in float32."""
    values = np.arange(outputs * inputs) * 37 % 101 - 50
    return (values / 64).astype(np.float32).reshape(outputs, inputs)


def torch_round_trip(weight: np.ndarray, kind: str) -> np.ndarray:
    """Of one [out, in] matrix."""
    return np.asarray(round_trip(jnp.asarray(weight.T[None]), 1, kind))[0].T


def test_int8_by_hand():
    weight = np.array([[1.27, 0.014, -0.016, 0.0], [-2.54, 0.031, 0.02, 0.008]], np.float32)
    steps = np.array([[127, 1, -2, 0], [-127, 2, 1, 0]])
    expected = steps * np.array([[0.01], [0.02]])
    np.testing.assert_allclose(torch_round_trip(weight, "int8"), expected, rtol=1e-6)


def test_int4_by_hand_in_groups_and_a_smaller_last_one():
    weight = np.zeros((1, BLOCK + 3), np.float32)
    weight[0, :4] = 7.0, 2.4, -3.6, 0.4
    weight[0, BLOCK:] = 0.7, 0.24, -0.36
    expected = np.zeros_like(weight)
    expected[0, :4] = 7, 2, -4, 0
    expected[0, BLOCK:] = 0.7, 0.2, -0.4
    np.testing.assert_allclose(torch_round_trip(weight, "int4"), expected, rtol=1e-6)


def test_levels_of_nf4():
    # QLoRA's rule: 8 quantiles below 0 and 9 above it, evenly from 1/2 to a tail of
    # (1/32 + 1/30) / 2, each side scaled to 1; computed in float32 there.
    tail = 1 - (1 / 32 + 1 / 30) / 2
    below = -norm.ppf(np.linspace(tail, 0.5, 8))
    above = norm.ppf(np.linspace(tail, 0.5, 9))
    levels = np.sort([*below[:-1], 0.0, *above[:-1]]) / norm.ppf(tail)
    np.testing.assert_allclose(NF4_LEVELS, levels, atol=3e-7)


def test_nf4_keeps_weights_on_the_grid():
    scales = np.array([[0.3], [2.0], [-1.7]], np.float32)
    weight = np.tile(NF4_LEVELS, 4)[None] * scales  # the last row: a negative largest magnitude
    np.testing.assert_array_equal(torch_round_trip(weight[:2], "nf4"), weight[:2])
    moved = torch_round_trip(weight, "nf4")[2]
    assert moved[0] == weight[2, 0] and moved[7] == 0 and (moved != weight[2]).any()


def test_nf4_is_that_of_bitsandbytes():
    weight = golden_weight(2, 128)
    codes = np.array([int(code, 16) for code in NF4_CODES]).reshape(2, 2, BLOCK)
    largest = np.abs(weight.reshape(2, 2, BLOCK)).max(-1, keepdims=True)
    expected = (NF4_LEVELS[codes] * largest).reshape(2, 128)
    np.testing.assert_array_equal(torch_round_trip(weight, "nf4"), expected)


def test_int8_is_that_of_bitsandbytes():
    weight = golden_weight(3, 16)
    codes = np.frombuffer(bytes.fromhex(INT8_CODES), np.int8).reshape(3, 16)
    expected = codes * (np.abs(weight).max(-1, keepdims=True) / 127)
    np.testing.assert_allclose(torch_round_trip(weight, "int8"), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", QUANTISATIONS)
def test_bounds_and_a_second_time_changes_nothing(kind, dtype):
    weight = jax.random.normal(jax.random.key(1), (2, 130, 3, 5)).astype(dtype)  # [L,D,N,H]
    once = round_trip(weight, 1, kind)
    assert once.dtype == weight.dtype and once.shape == weight.shape
    np.testing.assert_array_equal(round_trip(once, 1, kind), once)
    blocks = [slice(None)] if kind == "int8" else [slice(i, i + BLOCK) for i in (0, 64, 128)]
    for block in blocks:
        part, rounded = (np.asarray(x[:, block], np.float32) for x in (weight, once))
        largest = np.abs(part).max(1, keepdims=True)
        half = {"int8": 0.5 / 127, "int4": 0.5 / 7, "nf4": np.diff(NF4_LEVELS).max() / 2}[kind]
        # Beside half a step, the rounding of the result to its dtype.
        slack = np.finfo(np.float32).eps if dtype == "float32" else 2.0**-8
        assert (np.abs(part - rounded) <= largest * (half + slack)).all()
        np.testing.assert_array_equal(np.abs(rounded).max(1, keepdims=True), largest)
        assert np.abs(part - rounded).max() > 0.5 * half  # something was rounded


@pytest.mark.parametrize("kind", QUANTISATIONS)
def test_zeros_stay(kind):
    np.testing.assert_array_equal(round_trip(jnp.zeros((1, 70, 2)), 1, kind), 0)


@pytest.mark.parametrize("kind", QUANTISATIONS)
def test_output_projection_contracts_heads_and_channels(kind):
    weight = jax.random.normal(jax.random.key(2), (2, 8, 12, 6))  # [L,N,H,D], 96 inputs
    merged = round_trip(weight.reshape(2, 96, 6), 1, kind).reshape(weight.shape)
    np.testing.assert_array_equal(round_trip(weight, 2, kind), merged)


@pytest.mark.usefixtures("strict_dtypes")
@pytest.mark.parametrize("kind", QUANTISATIONS)
def test_only_projections_change_and_the_input_stays(kind):
    on = train_layout()
    config = dataclasses.replace(TINY, qkv_bias=True, qk_norm="head", mlp_bias=True)
    # Drawn, so that biases and norms would show a rounding.
    rng = np.random.default_rng(4)
    table = parameters(config).items()
    drawn = {n: rng.normal(size=p.shape).astype(np.float32) for n, p in table}
    model = Decoder({n: on.put(drawn[n], *p.axes) for n, p in table})
    after = quantised(model, config, on, kind).arrays()
    assert after.keys() == drawn.keys()
    for name, x in model.arrays().items():
        np.testing.assert_array_equal(x, drawn[name])
        changed = name.removeprefix("layers.") in PROJECTIONS
        assert (np.asarray(after[name]) != drawn[name]).any() == changed, name
        assert after[name].dtype == x.dtype
        assert after[name].sharding.is_equivalent_to(x.sharding, x.ndim), name


def test_adapters_are_merged_first():
    on, lora = train_layout(), LoRAConfig(rank=2, alpha=6.0)
    rng, table = np.random.default_rng(7), adapters(TINY, lora)
    drawn = {n: rng.normal(size=p.shape).astype(np.float32) for n, p in table.items()}
    model = attach(tiny_model(on), Decoder(drawn), lora)
    expected = quantised(merge(model, config=TINY, layout=on), TINY, on, "int4").arrays()
    for name, x in quantised(model, TINY, on, "int4").arrays().items():
        np.testing.assert_array_equal(x, expected[name], err_msg=name)
