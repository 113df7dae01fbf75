"""Sharding rules: tables from logical array axes to mesh axes. This module does not import JAX.

The settings `mesh.train_rules` and `mesh.sample_rules` replace rows of the tables.

The mesh axes (`AXES`), outermost first:

    slice   TPU slices, or groups of hosts that the data-centre network joins. Each slice has a copy
            of the weights, and only gradients are sent between slices.
    data    copies of the weights
    fsdp    shards of weights and optimizer state. Weights are gathered before use.
    tensor  shards of heads, MLP units and vocabulary

The logical axes of model and batch arrays:

    rows      sequences of a training batch; prompts and slots of a decode batch
    sequence  tokens of a row, for activations between layers during training
    embed     hidden units of a weight; the hidden units of activations are never sharded
    vocab     rows of the embedding and of the output head, and logits
    heads     query heads of the q and o projections
    kv_heads  key and value heads; in the sampling weights, also the query heads of each group
    mlp       units between the up and down projections
"""

from collections.abc import Iterator, Mapping, Sequence

from pmc_jax.config.wording import nearest, offer

AXES = ("slice", "data", "fsdp", "tensor")

# An axis is replicated if the number of its shards does not divide its size.
TRAIN_RULES: Mapping[str, tuple[str, ...]] = {
    "rows": ("slice", "data", "fsdp"),
    # ("tensor",) would be the sequence parallelism of Megatron (arXiv 2205.05198). Activations need
    # less memory then, but remat gathers them a second time, which needs more communication.
    "sequence": (),
    "embed": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
}
# Decoding reads all weights at each token, so weights are gathered over `fsdp` once per round.
SAMPLE_RULES: Mapping[str, tuple[str, ...]] = {**TRAIN_RULES, "embed": ()}

LOGICAL_AXES = tuple(TRAIN_RULES)


def rule_faults(rules: Mapping[str, Sequence[str]], where: str) -> Iterator[str]:
    """Yields a message for each invalid row of a table, as "WHERE.axis: what is wrong"."""
    for logical, axes in rules.items():
        name = f"{where}.{logical}"
        for axis in axes:
            if axis not in AXES:
                advice = offer(nearest(axis, AXES), AXES)
                yield f"{name}: the mesh axis {axis!r} is unknown. {advice}"
        if len(set(axes)) < len(axes):
            yield f"{name}: a mesh axis occurs twice. Name each mesh axis once."
