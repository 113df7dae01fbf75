"""Array shapes for which sampling is compiled: a few batch shapes, and the prompt size.

A batch shape (B, K) has B rows with K slots each, see `pmc_jax.sampling.batching`.
"""

from collections.abc import Sequence

from pmc_jax.distributed.mesh import round_up

_PROMPT_MULTIPLE = 16


def prompt_size(prompts: Sequence[Sequence[int]]) -> int:
    """Returns the smallest allowed prompt size P, in tokens, that fits every prompt."""
    return round_up(max(map(len, prompts)), _PROMPT_MULTIPLE)


def largest_batch_shape(
    num_questions: int, num_samples: int, batch_size: int, *, platform: str = "cpu"
) -> tuple[int, int]:
    """Returns the batch shape (B, K) that decodes up to `batch_size` samples at once.

    A step reads the keys of a prompt once per row, so wide rows read them for more samples at once.
    Narrow rows leave fewer slots idle, because a row serves a question until all its samples have
    ended. With 500 samples of mixed length and 64 slots, rows of 1, 2 and 4 slots keep 95, 87 and
    63 % of the slots busy.
    """
    if num_questions * num_samples <= batch_size:
        return num_questions, num_samples
    # On a CPU, the time to read keys is negligible compared with the products with the weights.
    width = 1 if platform == "cpu" else min(num_samples, 2)
    return max(1, batch_size // width), width


def batch_buckets(
    largest: tuple[int, int], row_multiple: int, *, max_buckets: int, min_slots: int
) -> list[tuple[int, int]]:
    """Computes the batch shapes (B, K), from the largest to the smallest.

    Each shape has half as many slots per row as the shape before, or half as many rows if there is
    one slot per row.

    Args:
        largest: the largest batch shape.
        row_multiple: number of which B is a multiple.
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
