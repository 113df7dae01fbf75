"""Which shapes the sampling engine compiles for."""

import pytest

from pmc_jax.sampling import buckets
from pmc_jax.sampling.buckets import grid_shape, ladder, prompt_size


def test_prompt_size():
    assert [prompt_size([[0] * n, [0]]) for n in (1, 16, 17, 33)] == [16, 16, 32, 48]


@pytest.mark.parametrize(
    ("fewest", "grid", "rungs"),
    [
        (1, (8, 4), [(8, 4), (8, 2), (8, 1), (4, 1)]),
        (1, (2, 5), [(2, 5), (2, 3), (2, 2), (2, 1)]),
        (1, (1, 1), [(1, 1)]),
        (16, (8, 4), [(8, 4), (8, 2)]),
        (16, (2, 4), [(2, 4)]),
    ],
)
def test_ladder_shrinks_rows_of_cells_first(monkeypatch, fewest, grid, rungs):
    monkeypatch.setattr(buckets, "_FEWEST_CELLS", fewest)
    assert ladder(grid, 1) == rungs


def test_ladder_keeps_rows_that_divide_over_the_devices(monkeypatch):
    monkeypatch.setattr(buckets, "_FEWEST_CELLS", 1)
    assert ladder((7, 2), 4) == [(8, 2), (8, 1), (4, 1)]


def test_grid_shape():
    """All at once where it fits, a question a row; else rows of one or two cells."""
    assert grid_shape(8, 8, 64) == (8, 8)
    assert grid_shape(40, 5, 64) == (64, 1)
    assert grid_shape(40, 5, 64, platform="tpu") == (32, 2)
    assert grid_shape(80, 1, 64, platform="gpu") == (64, 1)
    assert grid_shape(3, 100, 2) == (2, 1)
