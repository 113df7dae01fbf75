"""A plan as tables of plain text."""

from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.planning.plan import Plan

_GIB = 2**30


def plan_tables(plan: Plan) -> str:
    """Memory, cost, collectives and the whole run."""
    record = plan.record()
    parts = [_head(plan, record), _memory(plan), _cost(plan), _collectives(plan), _rates(record)]
    parts.append(_run(record))
    return "\n\n".join(part for part in parts if part)


def _head(plan: Plan, record: dict[str, Any]) -> str:
    config, chip = plan.config, plan.chip
    slices = f"{config.plan.num_slices} slices of " if config.plan.num_slices > 1 else ""
    mesh = (
        " x ".join(f"{name} {size}" for name, size in plan.mesh.items() if size > 1) or "1 device"
    )
    train = config.train
    lines = [
        f"{slices}{config.plan.topology}: {plan.chips} chips, {plan.devices} devices of "
        f"{chip.hbm / _GIB:.0f} GiB and {chip.flops / 1e12:.0f} TFLOP/s; mesh {mesh}",
        f"{record['parameters'] / 1e9:.2f}B parameters; remat {train.remat}, "
        f"{train.accumulation_steps} micro-batches of {plan.work.train.rows} rows x "
        f"{plan.work.train.tokens} tokens; {plan.work.sample.slots} answers at once",
    ]
    return "\n".join(lines)


def _memory(plan: Plan) -> str:
    rows = [
        (
            name,
            f"{p.arguments / _GIB:.2f}",
            f"{p.temporaries / _GIB:.2f}",
            f"{p.beside / _GIB:.2f}",
            f"{p.total / _GIB:.2f}",
            f"{p.total / plan.chip.hbm:.0%}",
            "yes" if p.fits else "NO",
        )
        for name, p in plan.programs.items()
    ]
    names = ("program", "arguments", "temporaries", "beside", "GiB a device", "of HBM", "fits")
    return table(rows, names)


def _cost(plan: Plan) -> str:
    rows = []
    for name, p in plan.programs.items():
        if p.cost is None:
            continue
        b = p.bound
        network = sum(c["bytes"] for c in p.collectives)
        rows.append(
            (
                name,
                f"{p.cost.flops / 1e12:.3g}",
                f"{p.cost.hbm / 1e9:.3g}",
                f"{network / 1e9:.3g}",
                *(f"{1e3 * s:.3g}" for s in (b.compute, b.hbm, b.network, b.seconds)),
                b.by,
                f"{1e3 * b.estimated:.3g}",
            )
        )
    names = ("a device, a run", "TFLOP", "HBM GB", "network GB", "compute ms", "HBM ms")
    return table(rows, (*names, "network ms", "bound ms", "by", "estimated ms"))


def _collectives(plan: Plan) -> str:
    rows = [
        (name, c["kind"], c["axes"], c["count"], f"{c['bytes'] / 1e9:.3g}")
        for name, p in plan.programs.items()
        for c in p.collectives
        if c["bytes"] >= 1e6
    ]
    return (
        table(rows, ("program", "collective", "mesh axes", "count", "GB a device")) if rows else ""
    )


def _rates(record: dict[str, Any]) -> str:
    rows = []
    for name, rates in record["rates"].items():
        bound, estimated = rates["seconds"], rates["estimated"]
        mfu = [r.get("model_flop_utilisation") for r in (bound, estimated)]
        rows.append(
            (
                name,
                f"{bound['tokens_per_second']:,.0f}",
                f"{estimated['tokens_per_second']:,.0f}",
                *(None if m is None else f"{m:.0%}" for m in mfu),
            )
        )
    names = ("program", "tokens/s at most", "estimated", "MFU at most", "MFU estimated")
    ratios = [(name.replace("_per_", " / "), f"{r:.2f}") for name, r in record["ratios"].items()]
    return "\n\n".join((table(rows, names), table(ratios, ("ratio", "value"))))


def _run(record: dict[str, Any]) -> str:
    if not record["fits"]:
        return "It does NOT fit. plan.search=true looks for the nearest settings that do."
    run = record["run"]
    rows = [
        (stage, f"{run['bound_seconds'][stage] / 60:.1f}", f"{seconds / 60:.1f}")
        for stage, seconds in run["estimated_seconds"].items()
    ]
    hours = run["bound_chip_hours"], run["estimated_chip_hours"]
    rows.append(("chip-hours", *(f"{h:.1f}" for h in hours)))
    title = "minutes of the whole run, if no question is resolved early"
    return table(rows, (title, "at least", "estimated"))
