"""Plain-text tables of a plan."""

from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning.plan import Plan

_GIB = 2**30


def plan_tables(plan: Plan) -> str:
    """Renders the memory, cost, collectives, rates and total time of a plan as tables of text."""
    record = plan.record()
    programs = record["programs"]
    parts = [_head(plan), _memory(programs, plan.chip.hbm), _cost(programs), _collectives(programs)]
    parts += [_rates(record), _run(record)]
    return "\n\n".join(part for part in parts if part)


def _head(plan: Plan) -> str:
    config, chip, work = plan.config, plan.chip, plan.work
    slices = f"{config.plan.num_slices} slices of " if config.plan.num_slices > 1 else ""
    mesh = " x ".join(f"{name} {size}" for name, size in plan.mesh.items() if size > 1)
    parts = config.train.accumulation_steps
    return (
        f"{slices}{config.plan.topology}: {plan.chips} chip{'s' * (plan.chips > 1)}, "
        f"{plan.devices} device{'s' * (plan.devices > 1)} of {chip.hbm / _GIB:.4g} GiB and "
        f"{chip.flops / 1e12:.0f} TFLOP/s; "
        f"mesh {mesh or '1 device'}\n"
        f"{num_parameters(plan.model) / 1e9:.2f}B parameters; remat {config.train.remat}, "
        f"{parts} micro-batch{'es' * (parts > 1)} of {work.train.rows} rows x "
        f"{work.train.tokens} tokens; {work.sample.step_tokens} answers at once"
    )


def _memory(programs: dict[str, Any], hbm: float) -> str:
    rows = []
    for name, p in programs.items():
        sizes = [p[f"{part}_bytes"] for part in ("arguments", "temporaries", "beside", "total")]
        fits = "yes" if p["fits"] else "NO"
        rows.append((name, *(f"{n / _GIB:.2f}" for n in sizes), f"{sizes[-1] / hbm:.0%}", fits))
    names = ("GiB per device", "arguments", "temporaries", "other", "total", "of HBM", "fits")
    return table(rows, names)


def _cost(programs: dict[str, Any]) -> str:
    rows = []
    for name, p in programs.items():
        if b := p.get("bound"):
            network = sum(c["bytes"] for c in p["collectives"])
            amounts = p["flops"] / 1e12, p["hbm_bytes"] / 1e9, network / 1e9
            times = [1e3 * b[part] for part in ("compute", "hbm", "network", "seconds")]
            values = [f"{value:.3g}" for value in (*amounts, *times)]
            rows.append((name, *values, b["by"], f"{1e3 * b['estimated']:.3g}"))
    names = ("per device and run", "TFLOP", "HBM GB", "network GB", "compute ms", "HBM ms")
    return table(rows, (*names, "network ms", "bound ms", "bound by", "estimated ms"))


def _collectives(programs: dict[str, Any]) -> str:
    rows = [
        (name, c["kind"], c["axes"], c["count"], f"{c['bytes'] / 1e9:.3g}")
        for name, p in programs.items()
        for c in p.get("collectives", ())
        if c["bytes"] >= 1e6
    ]
    names = ("program", "collective", "mesh axes", "count", "GB per device")
    return table(rows, names) if rows else ""


def _rates(record: dict[str, Any]) -> str:
    rows = []
    for name, rates in record["rates"].items():
        tokens = [f"{rate['tokens_per_second']:,.0f}" for rate in rates.values()]
        used = [rate.get("model_flop_utilisation") for rate in rates.values()]
        rows.append((name, *tokens, *(None if share is None else f"{share:.0%}" for share in used)))
    names = ("program", "tokens/s at most", "estimated", "MFU at most", "MFU estimated")
    ratios = [(name.replace("_per_", " / "), f"{r:.2f}") for name, r in record["ratios"].items()]
    return "\n\n".join((table(rows, names), table(ratios, ("ratio", "value"))))


def _run(record: dict[str, Any]) -> str:
    if not record["fits"]:
        return (
            "The run does NOT fit into the device memory. Set plan.search=true to find the nearest "
            "settings that fit."
        )
    run = record["run"]
    rows = [
        (stage, f"{run['bound_seconds'][stage] / 60:.1f}", f"{seconds / 60:.1f}")
        for stage, seconds in run["estimated_seconds"].items()
    ]
    hours = (f"{run[f'{kind}_chip_hours']:.1f}" for kind in ("bound", "estimated"))
    title = "minutes of the run, if every round samples all its questions"
    return table([*rows, ("chip-hours", *hours)], (title, "at least", "estimated"))
