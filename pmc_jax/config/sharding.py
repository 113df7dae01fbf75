"""The table from logical array axes to mesh axes; settings may replace its rows. Imports no JAX.

Mesh axes (`AXES`), outermost first: `slice` (TPU slices, or groups of hosts, joined by the
data-centre network: copies of the weights, only gradients cross), `data` (copies of the weights),
`fsdp` (shards of weights and optimizer state, gathered for use), `tensor` (heads, MLP, vocabulary).

Logical axes of the arrays of a model and of a batch:

    rows      sequences of a batch, prompts and cells of a sampling grid
    sequence  tokens of a row, in the activations between the layers during training
    embed     hidden units of a weight; those of activations are never sharded
    vocab     rows of the embedding and of the output head, logits
    heads     query heads of q and o
    kv_heads  key and value heads; in the sampling weights also the query heads of their groups
    mlp       units between the up and down projections
"""

from collections.abc import Iterator, Mapping, Sequence

from pmc_jax.config.schema import nearest, offer

AXES = ("slice", "data", "fsdp", "tensor")

Rules = Mapping[str, Sequence[str]]

# Logical axis -> mesh axes. An axis whose size the mesh does not divide is replicated.
TRAIN_RULES: Mapping[str, tuple[str, ...]] = {
    "rows": ("slice", "data", "fsdp"),
    # ("tensor",) is the sequence parallelism of Megatron (arXiv 2205.05198): activations need less
    # memory, but remat gathers them a second time, which needs more communication.
    "sequence": (),
    "embed": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
}
# Decoding reads all weights in every step, so they are gathered over `fsdp` once per round.
SAMPLE_RULES: Mapping[str, tuple[str, ...]] = {**TRAIN_RULES, "embed": ()}

LOGICAL_AXES = tuple(TRAIN_RULES)


def rule_faults(rules: Rules, where: str = "") -> Iterator[str]:
    """The faults in the rows of a table, each as "WHERE.axis: what is wrong, the fix"."""
    for logical, axes in rules.items():
        name = f"{where}.{logical}" if where else logical
        if logical not in LOGICAL_AXES:
            guess = nearest(logical, LOGICAL_AXES)
            yield f"{name}: unknown logical axis, {offer(guess, LOGICAL_AXES)}"
        for axis in axes:
            if axis not in AXES:
                yield f"{name}: unknown mesh axis {axis!r}, {offer(nearest(axis, AXES), AXES)}"
        if len(set(axes)) < len(axes):
            yield f"{name}: names a mesh axis twice"
