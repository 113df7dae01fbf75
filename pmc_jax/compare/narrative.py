"""Formats tables and sentences that state the results of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.evaluation.indistinguishable import is_told_apart
from pmc_jax.evaluation.quality import HEADLINE
from pmc_jax.report.methods import LABELS
from pmc_jax.report.narrative import REFERENCE, comes_first, devices
from pmc_jax.report.tables import NOTHING, Row, Table, described_row, shown, with_common_note
from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

_MODELS = (("Before unlearning", "target"), ("Never saw the data", "reference"))
# Each column has a head, the name of a value, a unit, and a short head for the printed table.
_RESULTS = (
    ("Unlearn quality", "unlearn_quality", "points", "quality"),
    ("Quality above the reference", "above_reference", "points", "above ref."),
    ("Utility", "utility", "points", "utility"),
    ("Private answers leaked", "forget", "share", "forget"),
    ("Answers kept", "retain", "share", "retain"),
    ("Seconds", "seconds", "s", "seconds"),
    ("Steps", "steps", "count", "steps"),
)
_MORE = (
    ("Private answers leaked, questions rephrased", "forget_paraphrased", "share", ""),
    ("World facts", "world_facts", "share", ""),
    ("Real authors", "real_authors", "share", ""),
    ("Tokens sampled", "sampled_tokens", "count", ""),
    ("Tokens trained on", "trained_tokens", "count", ""),
)

MARKS = {"over_time": "over the time limit", "forgot_nothing": "forgot nothing"}

Comparison = Mapping[str, Any]
Column = tuple[str, str, str, str]


def label(name: str, method: str) -> str:
    """Returns the name of an entry as tables show it."""
    return LABELS[method] if name == method else name


def format_mean_std(spread: Mapping[str, Any] | None, unit: str) -> str:
    """Formats a mean with its standard deviation ("95.6 ± 1.2").

    The mean stands alone with one seed, and for a count that is equal for all seeds.
    """
    if spread is None:
        return NOTHING
    is_exact = spread["std"] is None or (unit == "count" and not spread["std"])
    parts = [spread["mean"]] if is_exact else [spread["mean"], spread["std"]]
    if unit == "share":
        text = " ± ".join(f"{100 * part:.1f}" for part in parts)
        return f"{text}\N{NO-BREAK SPACE}%"
    form = {"points": ".1f", "s": ".1f", "count": ",.0f"}.get(unit, ".3g")
    return " ± ".join(f"{part:{form}}" for part in parts)


def _headline(values: Mapping[str, Any]) -> list[str]:
    """Formats unlearn quality and utility, each as "95.6 ± 1.2"."""
    return [format_mean_std(values.get(key), "points") for key in HEADLINE]


def measured(comparison: Comparison) -> list[Mapping[str, Any]]:
    """Returns the entries that have a finished run."""
    return [entry for entry in comparison["entries"] if entry["values"]]


def models(comparison: Comparison) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns a title and the numbers of the target model and of the reference model.

    A model that was not measured is left out.
    """
    by_title = [(title, comparison["models"][name]) for title, name in _MODELS]
    return [(title, model) for title, model in by_title if model is not None]


def _columns(comparison: Comparison, columns: Sequence[Column]) -> list[Column]:
    """Returns the columns for which at least one entry has values."""
    names = {name for entry in measured(comparison) for name in entry["values"]}
    return [column for column in columns if column[1] in names]


def printed(comparison: Comparison) -> str:
    """Formats the results as plain text, with mean ± standard deviation over n seeds."""
    heads = [head for *_, head in _columns(comparison, _RESULTS)]
    names = {entry["label"]: ", ".join(_marks(entry)) for entry in measured(comparison)}
    rows = [
        [f"{row.name} ({marks})" if (marks := names.get(row.name)) else row.name, *row.texts]
        for row in results(comparison).rows
    ]
    return table(rows, ("method", *heads, "n"))


def results(comparison: Comparison) -> Table:
    """Returns the table with the results of each method and of the target and reference models."""
    return _by_method(comparison, "Results, mean ± standard deviation over n seeds", _RESULTS)


def more(comparison: Comparison) -> Table:
    """Returns the table of further numbers: recalls on other splits and numbers of tokens."""
    return _by_method(comparison, "More numbers, mean ± standard deviation over n seeds", _MORE)


def _marks(entry: Mapping[str, Any]) -> list[str]:
    """Returns the texts of the marks that exclude an entry from the best trade-offs."""
    return [MARKS[mark] for mark in entry["marks"]]


def _by_method(comparison: Comparison, caption: str, columns: Sequence[Column]) -> Table:
    columns, rows = _columns(comparison, columns), []
    for entry in measured(comparison):
        note = "saw true answers" if entry["sees_answers"] else "questions only"
        texts = [format_mean_std(entry["values"].get(n), unit) for _, n, unit, _ in columns]
        note = ", ".join([note, *_marks(entry)])
        rows.append(Row(entry["label"], [*texts, str(len(entry["runs"]))], note))
    for title, model in models(comparison):
        texts = [shown(model["values"].get(name), unit) for _, name, unit, _ in columns]
        rows.append(Row(title, [*texts, NOTHING]))
    return Table(caption, [*(head for head, *_ in columns), "n"], rows)


def paired(comparison: Comparison) -> Table | None:
    """Returns the table of the differences between PMC and the other methods for equal seeds.

    The result is None if there are no differences.
    """
    names = {entry["name"]: entry["label"] for entry in comparison["entries"]}
    rows = [
        Row(
            f"{names[pair['entry']]} minus {names[pair['less']]}",
            [*_headline(pair["values"]), str(pair["values"]["utility"]["n"])],
        )
        for pair in comparison["paired"]
    ]
    heads = ("Unlearn quality", "Utility", "n")
    return Table("Differences of the same seed", heads, rows) if rows else None


def of_measure(comparison: Comparison, measure: str) -> Table | None:
    """Returns the table of a measure's main values by method, or None if there are no values."""
    described = comparison["descriptions"].get(measure, {})
    entries = [entry for entry in measured(comparison) if measure in entry["measures"]]
    columns = [(title, model["measures"].get(measure, {})) for title, model in models(comparison)]
    names = {name for entry in entries for name in entry["measures"][measure]}
    rows = []
    for name in (n for n in described if n in names and comes_first(measure, n)):
        unit = described[name]["unit"]
        texts = [format_mean_std(entry["measures"][measure].get(name), unit) for entry in entries]
        texts += [shown(values.get(name), unit) for _, values in columns]
        rows.append(described_row(name, described[name], texts))
    heads = [*(entry["label"] for entry in entries), *(title for title, _ in columns)]
    return with_common_note(Table(MEASURE_TEXTS[measure]["title"], heads, rows)) if rows else None


def trials(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns the search space and the tried settings of each method, with the chosen one first."""
    sections = []
    for entry in comparison["entries"]:
        tried = entry["trials"]
        chosen = tried[entry["chosen"]]
        others = [trial for trial in tried if trial is not chosen]
        others.sort(key=lambda trial: -(trial["score"] or 0.0))
        rows = [
            Row(
                ", ".join(f"{k}={v}" for k, v in trial["setting"].items())
                or "the settings of the comparison",
                [*_headline(trial["values"]), shown(trial["score"], "points"), str(trial["n"])],
                ", ".join(
                    ["chosen"] * (trial is chosen and bool(others))
                    + [MARKS["over_time"]] * trial["over_time"]
                ),
            )
            for trial in (chosen, *others)
        ]
        heads = ("Unlearn quality", "Utility", "Criterion", "n")
        section = {
            "label": entry["label"],
            "count": len(tried),
            "space": {name: values for name, values in entry["space"].items() if len(values) > 1},
            "table": Table(f"Settings of {entry['label']}", heads, rows),
        }
        sections.append(section)
    return sections


def criterion(comparison: Comparison) -> str:
    """Returns the text of the criterion that chooses a setting."""
    return TEXTS["compare"]["criteria"][comparison["criterion"]]


def findings(comparison: Comparison) -> list[str]:
    """Returns the findings as sentences, first on the trade-off of unlearn quality and utility."""
    entries = {entry["name"]: entry for entry in measured(comparison)}
    if not entries:
        return ["No run is finished yet."]

    def names(some: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(entry["label"] for entry in some) or "none"

    def both(entry: Mapping[str, Any]) -> str:
        quality, utility = _headline(entry["values"])
        return f"{entry['label']} (unlearn quality {quality}, utility {utility})"

    front = [entries[name] for name in comparison["front"] if name in entries]
    texts = [
        "These methods have the best trade-offs, because no other method is at least as good in "
        f"both numbers and better in one: {', '.join(both(entry) for entry in front)}."
        if front
        else "No method forgot anything within the time limit, so no method has the best trade-off."
    ]
    texts += _left_out(comparison)
    if comparison["models"]["reference"] is not None:
        over = [e for e in entries.values() if round(e["values"]["above_reference"]["mean"], 1) > 0]
        level = comparison["models"]["reference"]["values"]["unlearn_quality"]
        texts.append(
            f"Over-forgetting: {REFERENCE} has unlearn quality {level:.1f}. These methods have a "
            f"higher unlearn quality, so they forget more than was requested: {names(over)}."
        )
    texts.append(
        "True answers: these methods trained on the true answers to the forget questions: "
        f"{names([e for e in entries.values() if e['sees_answers']])}. These methods never used "
        f"the true answers: {names([e for e in entries.values() if not e['sees_answers']])}."
    )
    return [*texts, *_two_sample(comparison)]


def _two_sample(comparison: Comparison) -> list[str]:
    """Returns a list of one sentence on `indistinguishable`, or [] if it was not computed."""
    rows = {run["name"]: run["measures"].get("indistinguishable") for run in comparison["runs"]}
    tests = {
        entry["name"]: (entry["label"], [rows[name] for name in entry["runs"] if rows[name]])
        for entry in measured(comparison)
    }
    inside = [one.get("inside") for _, values in tests.values() for one in values]
    if not inside:
        return []
    missed = ["the target model"] if None in inside else []
    controls = [tests[name] for name in comparison["settings"]["controls"] if name in tests]
    missed += [label for label, values in controls if not all(map(is_told_apart, values))]
    if missed:
        return [
            "Two-sample test: the test has no power, because it does not tell the answers of "
            f"{', '.join(missed)} from those of models that never saw the data."
        ]
    counts = ", ".join(
        f"{label} {sum(one['inside'] for one in values):.0f} of {len(values)}"
        for label, values in tests.values()
    )
    return [
        "Two-sample test: number of seeds for which the answers are inside the spread of models "
        f"that never saw the data: {counts}."
    ]


def _left_out(comparison: Comparison) -> list[str]:
    """Returns a sentence for each reason why some methods cannot have the best trade-off."""
    marked = {
        mark: [entry for entry in measured(comparison) if mark in entry["marks"]] for mark in MARKS
    }
    texts = []
    if marked["over_time"]:
        used = ", ".join(
            f"{entry['label']} ({format_mean_std(entry['values']['seconds'], 's')} s)"
            for entry in marked["over_time"]
        )
        texts.append(
            "Over the time limit: these methods used more than 1.2 times the limit of "
            f"{comparison['max_seconds']:g} s, because a round that has started is finished: "
            f"{used}. They are not among the best trade-offs."
        )
    if marked["forgot_nothing"]:
        before = comparison["models"]["target"]["values"]["unlearn_quality"]
        texts.append(
            "Forgot nothing: the unlearn quality of these methods is not above that before "
            f"unlearning ({before:.1f}), so they are not among the best trade-offs: "
            f"{', '.join(entry['label'] for entry in marked['forgot_nothing'])}."
        )
    return texts


def limits(comparison: Comparison) -> list[str]:
    """Returns sentences about what the numbers show and what they do not show."""
    texts, seeds = TEXTS["compare"]["limits"], len(comparison["seeds"])
    methods = ", ".join(entry["label"] for entry in comparison["entries"] if entry["sees_answers"])
    counts = {len(entry["trials"]) for entry in comparison["entries"]} - {1}
    names = (
        "one_seed" if seeds == 1 else "seeds",
        "one_model",
        "time",
        "saw_answers" if methods else "no_answers",
        "searched" if counts else "not_searched",
        "words",
        "same_numbers",
        *(() if comparison["models"]["reference"] else ("no_reference",)),
    )
    numbers = {
        "seeds": seeds,
        "seconds": comparison["max_seconds"],
        "devices": devices(comparison),
        "methods": methods,
        "count": min(counts, default=1),
    }
    return [texts[name].format(**numbers) for name in names]
