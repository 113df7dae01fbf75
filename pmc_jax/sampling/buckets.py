"""Choice of the array shapes for which sampling is compiled: batch shapes and the prompt size.

A batch shape (B, K) has B rows with K slots each, see `pmc_jax.sampling.batching`.
"""

from collections.abc import Sequence

from pmc_jax.distributed.mesh import round_up

_PROMPT_MULTIPLE = 16
_MIN_GROWING = 64


def prompt_size(prompts: Sequence[Sequence[int]]) -> int:
    """Returns the number of tokens to which all prompts are padded, a multiple of 16."""
    return round_up(max(map(len, prompts)), _PROMPT_MULTIPLE)


def growing_prompt_size(length: int) -> int:
    """Returns the number of tokens to which a prompt is padded that grows with a conversation.

    The size is 64, 128, 256, ..., so that few sizes are compiled.
    """
    return max(_MIN_GROWING, 1 << (length - 1).bit_length())


def largest_batch_shape(
    num_questions: int, num_samples: int, batch_size: int, *, platform: str = "cpu"
) -> tuple[int, int]:
    """Returns the number of rows B and of slots per row K to decode up to `batch_size` samples.

    A step reads the keys of a prompt once per row, so wide rows read them for more samples at once.
    Narrow rows leave fewer slots idle, because a row serves a question until all its samples have
    ended. With 500 samples of mixed length and 64 slots, rows of 1, 2 and 4 slots keep 95, 87 and
    63 % of the slots busy.

    Args:
        num_questions: number of questions in one call.
        num_samples: number of samples per question.
        platform: platform of the devices, as in `jax.Device.platform`.
    """
    if num_questions * num_samples <= batch_size:
        return num_questions, num_samples
    # On a CPU, the time to read keys is negligible compared with the products with the weights.
    width = 1 if platform == "cpu" else min(num_samples, 2, batch_size)
    return max(1, batch_size // width), width


def batch_buckets(
    largest: tuple[int, int], row_multiple: int, *, max_buckets: int, min_slots: int
) -> list[tuple[int, int]]:
    """Returns batch shapes (B, K) of B rows with K slots, from the largest to the smallest.

    Each shape has half as many slots per row as the previous shape, rounded up. If the previous
    shape has one slot per row, the shape has half as many rows.

    Args:
        largest: largest batch shape.
        row_multiple: number by which B must be divisible.
        max_buckets: maximum number of shapes.
        min_slots: minimum number of slots B K of a shape, except for the largest shape.
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
