"""Checks the bound on collapse: python benchmarks/theory.py [--out FOLDER] [--run RUN_FOLDER]

The script compares exact and sampled dynamics of categorical distributions with the bound of the
theorem in every round. The exit status is 1 if an exact value is below its bound. --out draws
figures. --run compares the `reward_moments` of a finished `pmc unlearn` with their bound and with
exact refits of the first measurement. Real runs may be below the bound. The last output line is
JSON.
"""

import argparse
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import theory_plots as plots
from record import print_record

from pmc_jax.artifacts.log import table
from pmc_jax.theory import dynamics
from pmc_jax.theory.reward_moments import exact_refit, reward_moments

# This tolerance allows for rounding errors, because the bound is an equality in the limit.
TOLERANCE = 1e-12
CHOICES = [(2, 1.0), (5, 1.0), (20, 1.0), (math.inf, 1.0), (5, 0.3), (5, 0.0)]
COUNTS = np.array(dynamics.COLOURS)
RETAINED = np.where(np.arange(len(COUNTS)) < dynamics.FORGOTTEN, 0, COUNTS)
START, RETAIN = COUNTS / COUNTS.sum(), RETAINED / RETAINED.sum()
ALPHA = RETAINED.sum() / COUNTS.sum()
Paths = dict[tuple[float, float], list[dict]]  # (K, tau) -> rounds
# The reward of each category determines which samples are selected.
REWARD = np.linspace(0, 1, len(COUNTS))


def name(k: float, tau: float) -> str:
    """Returns the name of a choice of K and tau in tables and figures."""
    chosen = "best" if tau == 0 else f"τ = {tau:g}"
    return f"K = {'∞' if math.isinf(k) else f'{k:g}'}, {chosen}"


def curation(options: argparse.Namespace, alpha: float) -> Paths:
    """Computes the rounds for every choice of K and tau.

    Each round has exact values and their bound, and sampled values if K is finite.
    """
    paths = {}
    for k, tau in CHOICES:
        rng = np.random.default_rng(options.seed)

        def exact(p, k=k, tau=tau):
            return dynamics.mix(dynamics.curated(p, REWARD, k, tau), RETAIN, alpha)

        def sampled(p, k=k, tau=tau, rng=rng):
            counts = dynamics.curated_counts(p, REWARD, k, tau, options.draws, rng)
            return dynamics.mix(counts / options.draws, RETAIN, alpha)

        path = dynamics.trajectory(exact, START, options.rounds)
        rows = dynamics.beside_bound(path, REWARD, k, retain=RETAIN, alpha=alpha)
        if not math.isinf(k):
            drawn = dynamics.exp_reward(
                dynamics.trajectory(sampled, START, options.rounds), REWARD
            )[0]
            rows = [row | {"sampled": float(mean)} for row, mean in zip(rows, drawn, strict=True)]
        paths[k, tau] = rows
    return paths


def show(paths: Paths, title: str) -> float:
    """Prints a table of rounds and returns the smallest distance of a value from its bound."""
    rows, slack = [], []
    for choice, path in paths.items():
        for row in path:
            above = None if row["bound"] is None else row["exp_reward_mean"] - row["bound"]
            slack += [] if above is None else [above]
            columns = ("exp_reward_mean", "bound", "sampled", "exp_reward_var")
            texts = [None if row.get(c) is None else f"{row[c]:.6f}" for c in columns]
            rows.append((name(*choice), row["round"], *texts, above))
    headers = ("choice", "round", "E[e^r]", "bound", "sampled", "Var[e^r]", "above the bound")
    print(title, table(rows, headers), "", sep="\n")
    return min(slack)


def draw(out: Path, paths: Paths, seed: int) -> None:
    """Draws the three figures of the dynamics into the folder `out`."""
    rng, draws = np.random.default_rng(seed), int(COUNTS.sum())
    alone = dynamics.lottery(START, 300, rng, draws=draws)
    with_retain = dynamics.lottery(START, 30, rng, draws=draws, retain=RETAINED)
    forgotten = dynamics.FORGOTTEN
    plots.plot_lottery(out / "lottery.png", alone, with_retain, forgotten=forgotten, alpha=ALPHA)
    series = []
    for alpha in (0.25, ALPHA, 2.0):
        path = dynamics.trajectory(lambda p, a=alpha: dynamics.mix(p, RETAIN, a), START, 20)
        series.append((alpha, dynamics.mixed(START, RETAIN, alpha, 20), path))
    plots.plot_mixing(out / "mixing.png", series, RETAIN)
    columns = [
        ("Several K, τ = 1", [(name(*c), rows) for c, rows in paths.items() if c[1] == 1]),
        ("Several τ, K = 5", [(name(*c), rows) for c, rows in paths.items() if c[0] == 5]),
    ]
    plots.plot_curation(out / "curation.png", columns, math.e)


def read_run(folder: Path) -> dict[str, Any]:
    """Reads the results of a finished run that measured reward moments.

    Raises:
        SystemExit: the run is not finished or measured no reward moments.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"{path}: the results cannot be read ({error}). Pass the folder of a finished run."
        ) from None
    if not results.get("reward_moments"):
        raise SystemExit(
            f"{path}: the run has no reward moments. Repeat the run with pmc.reward_samples=16."
        )
    return results


def show_run(results: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Prints and draws the measurements of a real run, their bound, and exact refits.

    Returns:
        K, tau, the measurements and the exact refits.
    """
    measured, scores = (results["reward_moments"][key] for key in ("moments", "start"))
    pmc = results["config"]["pmc"]
    k, selection = pmc["sampling"]["num_samples"], pmc["selection"]
    tau = 0.0 if selection["rule"] == "best" else selection["tau"]
    largest = reward_moments(scores)["exp_reward_max"]
    # PMC selects one answer per question and epoch, so one exact refit corresponds to one epoch.
    last = results["rounds"][-1]["step"]
    steps = results["total_steps"] / pmc["schedule"]["epochs"]
    refits = math.ceil((last - measured[0]["step"]) / steps)
    exact = exact_refit(scores, k, tau, refits)
    rows = [(measured[0]["step"], measured[0]["exp_reward_mean"], None, None)]
    for old, new in itertools.pairwise(measured):
        lower = dynamics.bound(old["exp_reward_mean"], old["exp_reward_var"], k, largest)
        rows.append((new["step"], new["exp_reward_mean"], lower, new["exp_reward_mean"] - lower))
    print(table(rows, ("step", "E[e^r]", "bound", "above the bound")), "", sep="\n")
    if out:
        about = {"k": k, "exp_reward_max": largest, "exact": exact, "steps_per_refit": steps}
        plots.plot_run(out / "reward_moments.png", measured, **about)
    return {"k": k, "tau": tau, "measured": measured, "exact_refit": exact}


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the bound on collapse.")
    parser.add_argument("--out", help="folder for figures; by default, no figures are drawn")
    parser.add_argument("--run", help="folder of a finished run that measured reward moments")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds")
    parser.add_argument(
        "--draws", type=int, default=10000, help="number of sampled choices per round"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampled dynamics")
    options = parser.parse_args()
    results = read_run(Path(options.run)) if options.run else None
    out = Path(options.out) if options.out else None
    alone = curation(options, 0.0)
    least = min(
        show(alone, "Own samples only"), show(curation(options, ALPHA), f"Retain weight {ALPHA:g}")
    )
    if out:
        out.mkdir(parents=True, exist_ok=True)
        draw(out, alone, options.seed)
    run = show_run(results, out) if results else None
    holds = least >= -TOLERANCE
    print_record("theory", options, least_above_bound=least, holds=holds, run=run)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
