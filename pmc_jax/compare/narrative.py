"""A comparison in tables and sentences: plain words, each number with what it is of."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.report.methods import LABELS
from pmc_jax.report.narrative import MEASURES, REFERENCE, comes_first
from pmc_jax.report.tables import NOTHING, Row, Table, labelled, shown, table_of

_MODELS = (("Before unlearning", "target"), ("Never saw the data", "reference"))
_CRITERIA = {
    "mean": "the mean of unlearn quality and utility",
    "harmonic_mean": "the harmonic mean of unlearn quality and utility",
    "min": "the smaller of unlearn quality and utility",
}
# Columns of tables: head, name of a value, unit.
_RESULTS = (
    ("Unlearn quality", "unlearn_quality", "points"),
    ("Quality above the reference", "above_reference", "points"),
    ("Utility", "utility", "points"),
    ("Private answers told", "forget", "share"),
    ("Answers kept", "retain", "share"),
    ("Seconds", "seconds", "s"),
    ("Steps", "steps", "count"),
)
_MORE = (
    ("Private answers told, asked in other words", "forget_paraphrased", "share"),
    ("Facts of the world", "world_facts", "share"),
    ("Real authors", "real_authors", "share"),
    ("Word pieces sampled", "sampled_tokens", "count"),
    ("Word pieces trained on", "trained_tokens", "count"),
)
# What the plain table that is printed says of them.
_PRINTED = {
    "unlearn_quality": "quality",
    "above_reference": "above ref.",
    "utility": "utility",
    "forget": "forget",
    "retain": "retain",
    "seconds": "seconds",
    "steps": "steps",
}

_HEADLINE = ("unlearn_quality", "utility")

Comparison = Mapping[str, Any]


def label(name: str, method: str) -> str:
    """How an entry is called."""
    return LABELS[method] if name == method else name


def told(spread: Mapping[str, Any] | None, unit: str) -> str:
    """ "95.6 ± 1.2", the deviation over seeds where there are two or more."""
    if spread is None:
        return NOTHING
    quiet = spread["std"] is None or (unit == "count" and not spread["std"])
    parts = [spread["mean"]] if quiet else [spread["mean"], spread["std"]]
    if unit == "share":
        text = " ± ".join(f"{100 * part:.1f}" for part in parts)
        return f"{text}\N{NO-BREAK SPACE}%"
    form = {"points": ".1f", "s": ".1f", "count": ",.0f"}.get(unit, ".3g")
    return " ± ".join(f"{part:{form}}" for part in parts)


def measured(comparison: Comparison) -> list[Mapping[str, Any]]:
    """The entries of which a run is finished."""
    return [entry for entry in comparison["entries"] if entry["values"]]


def printed(comparison: Comparison) -> str:
    """The results as plain text: mean ± deviation over seeds, and how many."""
    units = {name: unit for _, name, unit in _RESULTS}
    there = {name for entry in measured(comparison) for name in entry["values"]}
    names = [name for name in _PRINTED if name in there]
    rows = [
        [e["label"], *(told(e["values"].get(n), units[n]) for n in names), len(e["runs"])]
        for e in measured(comparison)
    ]
    for title, model in _MODELS:
        if (found := comparison["models"][model]) is not None:
            known = [found["values"].get(name) for name in names]
            cells = ["" if v is None else told({"mean": v, "std": None}, units[n])
                     for n, v in zip(names, known, strict=True)]  # fmt: skip
            rows.append([title, *cells, None])
    return table(rows, ("method", *(_PRINTED[name] for name in names), "n"))


def results(comparison: Comparison) -> Table:
    """What each method reached, beside the target and the reference."""
    return _by_method(comparison, "Results, mean ± deviation over n seeds", _RESULTS)


def more(comparison: Comparison) -> Table:
    """The parts of that, and the work done."""
    return _by_method(comparison, "More numbers, mean ± deviation over n seeds", _MORE)


def _by_method(
    comparison: Comparison, caption: str, columns: Sequence[tuple[str, str, str]]
) -> Table:
    entries, rows = measured(comparison), []
    there = {name for entry in entries for name in entry["values"]}
    columns = [column for column in columns if column[1] in there]
    for entry in entries:
        cells = [told(entry["values"].get(n), unit) for _, n, unit in columns]
        note = "saw true answers" if entry["sees_answers"] else "questions alone"
        rows.append(Row(entry["label"], note, [[*cells, _seeds(entry)]]))
    for title, name in _MODELS:
        if (model := comparison["models"][name]) is not None:
            cells = [shown(model["values"].get(n), unit) for _, n, unit in columns]
            rows.append(Row(title, "", [[*cells, NOTHING]]))
    return Table(caption, [("", [*(head for head, _, _ in columns), "n"])], rows)


def _seeds(entry: Mapping[str, Any]) -> str:
    return str(len(entry["runs"]))


def paired(comparison: Comparison) -> Table | None:
    """PMC less each other method, seed by seed."""
    labels = {entry["name"]: entry["label"] for entry in comparison["entries"]}
    rows = [
        Row(
            f"{labels[one['entry']]} less {labels[one['less']]}",
            "",
            [
                [told(one["values"][key], "points") for key in _HEADLINE]
                + [str(one["values"]["utility"]["n"])]
            ],
        )
        for one in comparison["paired"]
    ]
    heads = ["Unlearn quality", "Utility", "n"]
    return Table("Differences of the same seed", [("", heads)], rows) if rows else None


def of_measure(comparison: Comparison, measure: str) -> Table | None:
    """The values of one measure that are read first, a column a method."""
    labels = comparison["descriptions"].get(measure, {})
    entries = [entry for entry in measured(comparison) if measure in entry["measures"]]
    models = [
        (title, model["measures"].get(measure, {}))
        for title, name in _MODELS
        if (model := comparison["models"][name]) is not None
    ]
    there = {name for entry in entries for name in entry["measures"][measure]}
    rows = []
    for name in (n for n in labels if n in there and comes_first(measure, n)):
        unit = labels[name]["unit"]
        cells = [told(entry["measures"][measure].get(name), unit) for entry in entries]
        cells += [shown(values.get(name), unit) for _, values in models]
        rows.append(labelled(name, labels[name], [cells]))
    heads = [*(entry["label"] for entry in entries), *(title for title, _ in models)]
    return table_of(MEASURES[measure][0], [("", heads)], rows, []) if rows else None


def trials(comparison: Comparison) -> list[dict[str, Any]]:
    """Of each method: what was searched, every setting that was tried, the chosen one first."""
    found = []
    for entry in comparison["entries"]:
        order = sorted(
            range(len(entry["trials"])),
            key=lambda i, e=entry: (i != e["chosen"], -(e["trials"][i]["score"] or 0.0)),
        )
        rows = [
            Row(
                _setting(entry["trials"][i]["setting"]),
                "chosen" if i == entry["chosen"] and len(order) > 1 else "",
                [
                    [told(entry["trials"][i]["values"].get(key), "points") for key in _HEADLINE]
                    + [shown(entry["trials"][i]["score"], "points"), str(entry["trials"][i]["n"])]
                ],
            )
            for i in order
        ]  # fmt: skip
        heads = ["Unlearn quality", "Utility", "Chosen by", "n"]
        space = {name: values for name, values in entry["space"].items() if len(values) > 1}
        one = {"label": entry["label"], "count": len(order), "space": space}
        found.append(one | {"table": Table(f"Settings of {entry['label']}", [("", heads)], rows)})
    return found


def _setting(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items()) or "as all others"


def criterion(comparison: Comparison) -> str:
    """What a setting is chosen by."""
    return _CRITERIA[comparison["criterion"]]


def findings(comparison: Comparison) -> list[str]:
    """What the numbers say, in the order of a reader's questions."""
    entries = {entry["name"]: entry for entry in measured(comparison)}
    if not entries:
        return ["No run is finished yet."]

    def names(some: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(entry["label"] for entry in some) or "none"

    def both(entry: Mapping[str, Any]) -> str:
        quality, utility = (told(entry["values"][key], "points") for key in _HEADLINE)
        return f"{entry['label']} (unlearn quality {quality}, utility {utility})"

    front = [entries[name] for name in comparison["front"] if name in entries]
    texts = [
        "The best trade-offs: no other method is as good in one and better in the other as "
        f"{', '.join(both(entry) for entry in front)}."
    ]
    if comparison["models"]["reference"] is not None:
        over = [e for e in entries.values() if round(e["values"]["above_reference"]["mean"], 1) > 0]
        level = comparison["models"]["reference"]["values"]["unlearn_quality"]
        texts.append(
            f"Over-forgetting: {REFERENCE} has unlearn quality {level:.1f}; above it, which is "
            f"more than was asked for, end {names(over)}."
        )
    texts.append(
        "True answers: trained on the true answers to the forget questions: "
        f"{names([e for e in entries.values() if e['sees_answers']])}; never given them: "
        f"{names([e for e in entries.values() if not e['sees_answers']])}."
    )
    return texts


def limits(comparison: Comparison) -> list[str]:
    """What the numbers do and do not show."""
    seeds, seconds = len(comparison["seeds"]), comparison["max_seconds"]
    machine = comparison["devices"].replace(" x ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")
    seen = [e["label"] for e in comparison["entries"] if e["sees_answers"]]
    tried = {len(entry["trials"]) for entry in comparison["entries"]} - {1}
    spread = (
        "With one seed there is no spread: a difference may be chance."
        if seeds == 1
        else f"Deviations are those of {seeds} seeds of unlearning, with n - 1 in the denominator; "
        "the target was made once, so what its own seed would change is not in them."
    )
    searched = (
        f"{tried.pop()} settings were tried of each method that was searched; the chosen one was "
        "chosen on the same questions that are reported, which flatters it."
        if tried
        else "No settings were searched here: each method ran with the one that stands below, and "
        "another could do better."
    )
    texts = [
        spread,
        "One model, one set of data: another may order the methods differently.",
        f"Equal time is {seconds:g} seconds of sampling, scoring and training on {machine}; "
        "compiling, measuring and loading are not counted. Faster sampling or faster training "
        "would move the methods against each other. A method that ends before its time says so in "
        "its seconds.",
        (
            f"{', '.join(seen)} trained on the true answers, which an honest removal request may "
            "not even supply; the other methods had the questions alone."
            if seen
            else "No method here was given the true answers."
        ),
        searched,
        "Words in common are counted, not meaning: a fact told in other words is not seen, and "
        "common words count as told.",
        "All runs were measured with the same random numbers; nothing is said of other "
        "questions, wordings or attacks.",
    ]
    if comparison["models"]["reference"] is None:
        texts.append(
            f"There is no reference: how far the methods are from {REFERENCE} is not known."
        )
    return texts
