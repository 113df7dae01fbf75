"""The few shapes that sampling compiles: grids of cells, and the length of prompts."""

from collections.abc import Sequence

from pmc_jax.distributed.mesh import round_up

_PROMPT_MULTIPLE = 16
_RUNGS = 4
# Below this many samples a decode step costs what reading the weights costs: no smaller grid pays.
_FEWEST_CELLS = 8


def prompt_size(prompts: Sequence[Sequence[int]]) -> int:
    """The smallest allowed P that holds every prompt."""
    return round_up(max(map(len, prompts)), _PROMPT_MULTIPLE)


def grid_shape(
    num_questions: int, num_samples: int, batch_size: int, *, platform: str = "cpu"
) -> tuple[int, int]:
    """Rows and cells a row that decode `batch_size` samples at once, or all of them if fewer.

    Where samples wait for cells, wide rows read a prompt's keys for more samples at once, and
    narrow ones leave fewer cells idle until all samples of a row have ended: of 500 samples of
    mixed length over 64 cells rows of 1, 2 and 4 keep 95, 87 and 63 % of the slots useful.
    """
    if num_questions * num_samples <= batch_size:
        return num_questions, num_samples
    # Reading keys costs a CPU nothing beside the products with the weights.
    width = 1 if platform == "cpu" else min(num_samples, 2)
    return max(1, batch_size // width), width


def ladder(grid: tuple[int, int], row_multiple: int) -> list[tuple[int, int]]:
    """Grids (B, K), largest first: cells a row halved first, then rows.

    Args:
        grid: the largest.
        row_multiple: B is a multiple of this.
    """
    b, k = round_up(grid[0], row_multiple), grid[1]
    rungs = [(b, k)]
    while len(rungs) < _RUNGS:
        if k > 1:
            k = -(-k // 2)
        elif b > 1 and (b // 2) % row_multiple == 0:
            b //= 2
        else:
            break
        if b * k < _FEWEST_CELLS:
            break
        rungs.append((b, k))
    return rungs
