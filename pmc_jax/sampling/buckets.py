"""The few shapes that sampling compiles: batch shapes for decoding, and the prompt size.

A batch shape (B, K) is the number of rows and of slots per row, see `pmc_jax.sampling.engine`.
"""

from collections.abc import Sequence

from pmc_jax.distributed.mesh import round_up

_PROMPT_MULTIPLE = 16


def prompt_size(prompts: Sequence[Sequence[int]]) -> int:
    """The smallest allowed prompt size P, in tokens, that holds every prompt."""
    return round_up(max(map(len, prompts)), _PROMPT_MULTIPLE)


def largest_batch_shape(
    num_questions: int, num_samples: int, batch_size: int, *, platform: str = "cpu"
) -> tuple[int, int]:
    """The batch shape that decodes `batch_size` samples at once, or all samples if fewer.

    When samples wait for slots, wide rows read a prompt's keys once for more samples, while narrow
    rows leave fewer slots idle until all samples of a row have ended: with 500 samples of mixed
    length and 64 slots, rows of 1, 2 and 4 slots keep 95, 87 and 63 % of the slots busy.
    """
    if num_questions * num_samples <= batch_size:
        return num_questions, num_samples
    # On a CPU, reading keys costs nothing compared with the products with the weights.
    width = 1 if platform == "cpu" else min(num_samples, 2)
    return max(1, batch_size // width), width


def batch_buckets(
    largest: tuple[int, int], row_multiple: int, *, max_buckets: int, min_slots: int
) -> list[tuple[int, int]]:
    """Batch shapes (B, K), largest first: the slots per row are halved first, then the rows.

    Args:
        largest: the largest batch shape.
        row_multiple: B is a multiple of this.
        max_buckets: maximum number of shapes.
        min_slots: minimum of B K, except for the largest shape.
    """
    b, k = round_up(largest[0], row_multiple), largest[1]
    buckets = [(b, k)]
    while len(buckets) < max_buckets:
        if k > 1:
            k = -(-k // 2)
        elif b > 1 and (b // 2) % row_multiple == 0:
            b //= 2
        else:
            break
        if b * k < min_slots:
            break
        buckets.append((b, k))
    return buckets
