"""What compiled programs send between eight devices: no more than they need. Nothing is run.

Sizes are elements of the largest result of a collective, on one device.
"""

import pytest

pytestmark = pytest.mark.slow

MESHES = ["(1, 1, 8)", "(1, 8, 1)", "(2, 2, 2)", "(2, 1, 2, 2)"]
SMALL = 1024  # scalars, norms and what a row keeps of itself


@pytest.fixture(scope="module")
def found(on_eight_devices) -> dict:
    found = on_eight_devices("resharding")
    assert found["devices"] == 8 and list(found["meshes"]) == MESHES
    return found


@pytest.mark.parametrize("mesh", MESHES)
def test_training_gathers_weights_only(found, mesh):
    """Over `fsdp`, one by one, and token ids for the look-up: no activations and no logits."""
    case = found["meshes"][mesh]
    sizes = {kind: set() for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")}
    for kind, size, _ in case["train"]:
        sizes[kind].add(size)
    assert sizes["all-reduce"] and bool(sizes["all-gather"]) == (mesh != "(1, 1, 8)")
    for size in sizes["all-gather"]:
        assert size <= SMALL or size in case["weights"] or case["tokens_in"] % size == 0
    # The rows of the embedding that were looked up, each to the device of its token; and back.
    assert all(case["embedded"] % size == 0 for size in sizes["all-to-all"])
    assert max(size for _, size, _ in case["train"]) < case["train_logits"]


@pytest.mark.parametrize("mesh", MESHES)
def test_prompts_gather_nothing(found, mesh):
    case = found["meshes"][mesh]
    assert {kind for kind, _, _ in case["prefill"]} <= {"all-reduce"}
    assert bool(case["prefill"]) == (mesh != "(1, 8, 1)")


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("program", ["first", "decode"])
def test_decoding_gathers_neither_weights_nor_logits(found, mesh, program):
    """Sums of 128 tokens' mass are gathered, and in the end the tokens."""
    case = found["meshes"][mesh]
    most = max(case["block_sums"], case["tokens"])
    assert 2 * most < case["smallest_matrix"] and 8 * most < case["logits"]
    moved = [(kind, size) for kind, size, _ in case[program] if kind != "all-reduce"]
    assert moved and max(size for _, size in moved) <= most
    # Activations, and of each row the block that its draw falls into.
    assert max(size for _, size, _ in case[program]) <= case["logits"] // 4


@pytest.mark.parametrize("mesh", [*MESHES, "(1, 2, 4)"])
def test_the_hand_over_moves_every_weight_once_in_the_dtype_of_sampling(found, mesh):
    case = found["weight_sync"][mesh]
    assert sum(case["sent"].values()) == case["least"]
    assert set(case["sent"]) == (set() if mesh == "(1, 1, 8)" else {"all-gather"})


def test_slices_tell_each_other_gradients_only(found):
    case = found["meshes"]["(2, 1, 2, 2)"]
    across = {
        program: [(kind, size) for kind, size, halves in case[program] if halves]
        for program in ("train", "prefill", "first", "decode")
    }
    assert {kind for kind, _ in across["train"]} == {"all-reduce"}
    assert max(size for _, size in across["train"]) in case["weights"]
    assert not across["prefill"]
    # Whether all rows are done, and the tokens for the host.
    for program in ("first", "decode"):
        assert {size for kind, size in across[program] if kind == "all-reduce"} <= {1}
        assert sum(size for _, size in across[program]) <= case["tokens"] + 8


@pytest.mark.parametrize("mesh", ["(1, 1, 8)", "(1, 2, 4)"])
def test_activations_sharded_along_the_sequence_take_less_memory(found, mesh):
    whole, sharded = (found["sequence"][f"{mesh} {name}"] for name in ("whole", "sharded"))
    assert sharded["temp"] < 0.95 * whole["temp"]
    # Every all-reduce of activations is followed by a slice, which is a reduce-scatter on TPU and
    # GPU; XLA on CPU leaves it, so here it counts once and the all-reduce of before twice.
    before, after = whole["bytes"], sharded["bytes"]
    moved = after["all-reduce"] + after["all-gather"] + after.get("collective-permute", 0)
    assert moved < 2 * before["all-reduce"] + before.get("all-gather", 0)
