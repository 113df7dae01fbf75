"""Which shapes the sampling engine compiles for."""

import pytest

from pmc_jax.sampling.buckets import (
    batch_buckets,
    growing_prompt_size,
    largest_batch_shape,
    prompt_size,
)


def test_prompt_size():
    assert [prompt_size([[0] * n, [0]]) for n in (1, 16, 17, 33)] == [16, 16, 32, 48]


def test_growing_prompt_size():
    sizes = [growing_prompt_size(n) for n in (1, 64, 65, 128, 129, 4096)]
    assert sizes == [64, 64, 128, 128, 256, 4096]


@pytest.mark.parametrize(
    ("min_slots", "largest", "buckets"),
    [
        (1, (8, 4), [(8, 4), (8, 2), (8, 1), (4, 1)]),
        (1, (2, 5), [(2, 5), (2, 3), (2, 2), (2, 1)]),
        (1, (1, 1), [(1, 1)]),
        (16, (8, 4), [(8, 4), (8, 2)]),
        (16, (2, 4), [(2, 4)]),
    ],
)
def test_buckets_have_fewer_slots_first(min_slots, largest, buckets):
    assert batch_buckets(largest, 1, max_buckets=4, min_slots=min_slots) == buckets


def test_buckets_have_rows_that_divide_over_the_devices():
    buckets = batch_buckets((7, 2), 4, max_buckets=4, min_slots=1)
    assert buckets == [(8, 2), (8, 1), (4, 1)]


def test_largest_batch_shape():
    """All at once where it fits, a question a row; else rows of one or two slots."""
    assert largest_batch_shape(8, 8, 64) == (8, 8)
    assert largest_batch_shape(40, 5, 64) == (64, 1)
    assert largest_batch_shape(40, 5, 64, platform="tpu") == (32, 2)
    assert largest_batch_shape(80, 1, 64, platform="gpu") == (64, 1)
    assert largest_batch_shape(3, 100, 2) == (2, 1)
    assert largest_batch_shape(3, 100, 1, platform="gpu") == (1, 1)
