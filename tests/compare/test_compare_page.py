"""The page of a comparison of six methods by three seeds, numbers made up: what it says, draws and
needs."""

import json
import re
from pathlib import Path

import compare_cases as cases
import pytest
from browser import BROWSER, SITE, browse
from report_page import Page, assert_accessible, assert_stands_alone, plain, table_rows

from pmc_jax.compare.narrative import findings
from pmc_jax.compare.write import write

LABELS = ("PMC", "NPO", "SimNPO", "GD", "IDK", "retain-only")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes the page of a case, once: folder, page, source and data."""
    made_pages = {}

    def make(**case) -> tuple[Path, Page, str, dict]:
        key = repr(case)
        if key not in made_pages:
            folder = tmp_path_factory.mktemp("compare")
            write(folder, cases.comparison(folder, **case), say=lambda text: None)
            source = (folder / "compare.html").read_text()
            data = json.loads((folder / "compare.json").read_text())
            made_pages[key] = folder, Page(source), source, data
        return made_pages[key]

    return make


def test_results_stand_beside_the_target_and_the_reference(made):
    _, parsed, source, data = made()
    rows = table_rows(source, "Results, mean ± standard deviation over n seeds")
    assert list(rows) == ["", *LABELS, "Before unlearning", "Never saw the data"]
    assert rows[""][:3] == ["Unlearn quality", "Quality above the reference", "Utility"]
    for entry in data["entries"]:
        quality, above = (entry["values"][k] for k in ("unlearn_quality", "above_reference"))
        texts = rows[entry["label"]]
        assert texts[0] == f"{quality['mean']:.1f} ± {quality['std']:.1f}"
        assert texts[1] == f"{above['mean']:.1f} ± {above['std']:.1f}"
        assert texts[-1] == "3"
    assert rows["Before unlearning"][0] == "40.0" and rows["Never saw the data"][0] == "70.5"
    assert "never used the true answers: PMC, IDK, retain-only." in parsed.text
    assert "more than was requested: PMC, NPO, SimNPO, GD, IDK." in parsed.text


def test_what_is_searched_and_chosen_is_told_with_its_budget(made):
    _, parsed, source, data = made()
    npo = next(e for e in data["entries"] if e["name"] == "npo")
    scores = [trial["score"] for trial in npo["trials"]]
    assert npo["chosen"] == scores.index(max(scores))
    assert npo["runs"] == [f"npo-{npo['chosen']}-seed{seed}" for seed in (0, 1, 2)]
    rows = table_rows(source, "Settings of NPO")
    assert list(rows)[1:] == ["train.learning_rate=1e-05", "train.learning_rate=3e-05"]
    assert rows["train.learning_rate=1e-05"][2:] == [f"{max(scores):.1f}", "3"]
    assert "NPO: 2 settings" in parsed.text and "PMC: 1 setting" in parsed.text
    assert "For each method with a search, 2 settings were tried" in parsed.text
    assert "the mean of unlearn quality and utility is largest" in parsed.text


def test_a_measure_without_any_number_has_its_reason(tmp_path, monkeypatch):
    made, why = cases._evaluation, "data.evaluate.forget has no wrong answers"

    def without(*arguments):
        evaluation = made(*arguments)
        for one in evaluation["measures"]["multiple_choice"].values():
            one |= {"values": {}, "missing": {"chance": why}, "series": {}}
        return evaluation

    monkeypatch.setattr(cases, "_evaluation", without)
    write(tmp_path, cases.comparison(tmp_path), say=lambda text: None)
    text = Page((tmp_path / "compare.html").read_text()).text
    assert f"Not tested: {why}." in text and "no run is finished" not in text


def test_a_setting_that_failed_for_a_seed_is_not_chosen(tmp_path):
    data = cases.comparison(tmp_path, failed=["npo-0-seed1"])
    npo = next(e for e in data["entries"] if e["name"] == "npo")
    assert [trial["n"] for trial in npo["trials"]] == [2, 3] and npo["chosen"] == 1


def with_seconds(monkeypatch, seconds: dict[tuple[str, int], float]) -> None:
    """Gives the runs of a (method, trial) other seconds than the limit of 120 s."""
    files_of_run = cases._files_of_run

    def changed(method, trial, *rest):
        files = files_of_run(method, trial, *rest)
        if (method, trial) in seconds:
            files["results.json"]["unlearning_seconds"] = seconds[method, trial]
        return files

    monkeypatch.setattr(cases, "_files_of_run", changed)


def test_a_method_over_the_time_limit_or_without_effect_has_no_best_trade_off(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(cases.ENDS, "retain_only", (35, 99, 0.9, 84))  # 40 before unlearning
    with_seconds(monkeypatch, {("pmc", 0): 145.0, ("idk", 0): 143.9, ("npo", 0): 500.0})
    lines = []
    data = cases.comparison(tmp_path)
    write(tmp_path, data, say=lines.append)
    marks = {entry["name"]: entry["marks"] for entry in data["entries"]}
    assert marks.pop("pmc") == ["over_time"] and marks.pop("retain_only") == ["forgot_nothing"]
    assert not any(marks.values()) and set(data["front"]) <= set(marks) and data["front"]
    npo = next(entry for entry in data["entries"] if entry["name"] == "npo")
    assert [trial["over_time"] for trial in npo["trials"]] == [True, False] and npo["chosen"] == 1
    assert "PMC (over the time limit)" in lines[0] and "retain-only (forgot nothing)" in lines[0]
    text = Page((tmp_path / "compare.html").read_text()).text
    assert "more than 1.2 times the limit of 120 s" in text and "PMC (145.0 ± 0.0 s)" in text
    assert "not above that before unlearning (40.0)" in text and "trade-offs: retain-only." in text


def test_no_method_within_the_time_limit(tmp_path):
    data = cases.comparison(tmp_path, max_seconds=100)
    write(tmp_path, data, say=lambda text: None)
    assert data["front"] == []
    text = Page((tmp_path / "compare.html").read_text()).text
    assert "No method forgot anything within the time limit" in text


def test_every_drawing_is_there_with_a_reading_and_a_file(made):
    folder, parsed, source, _ = made()
    figures = [figure["id"].removeprefix("figure-") for figure in parsed.all("figure")]
    assert set(figures) == {
        *("pareto", "unlearn_quality", "utility"),
        *("side-effects", "rank", "truth", "sampling", "prefill"),
    }
    assert len(figures) == len(set(figures)) == source.count("<figcaption>")
    for name in figures:
        image = (folder / "plots" / f"{name}.png").read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n" and len(image) > 5000
    for drawing in parsed.all("svg"):
        assert all(label in drawing["aria-label"] for label in LABELS), drawing["aria-label"]
    assert len({(folder / "plots" / f"{name}.png").read_bytes() for name in figures}) == 8


def test_methods_differ_in_colour_and_in_the_shape_of_their_mark(made):
    _, _, source, _ = made()
    pareto = source[source.index('id="figure-pareto"') :]
    pareto = pareto[: pareto.index("</svg>")]
    assert {f"--run{i}" for i in range(1, 7)} <= set(re.findall(r"--run\d", pareto))
    shapes = re.findall(r'<path id="plot-pareto-[^"]+" d="([^"]+)"', pareto)
    assert len(set(shapes)) >= 8  # six methods, the target, the reference


def test_a_single_method_has_a_sentence_instead_of_a_scatter_of_two_points(made):
    folder, parsed, _, _ = made(seeds=[5], methods={"pmc": {}}, reference=False)
    assert "figure-pareto" in {p.get("id") for p in parsed.all("p")}
    assert "figure-pareto" not in {figure["id"] for figure in parsed.all("figure")}
    assert "Unlearn quality and utility: PMC" in parsed.text
    assert not (folder / "plots" / "pareto.png").exists()


def test_limits_are_said(made):
    _, parsed, _, data = made()
    for part in (
        *("Standard deviations are over 3 seeds", "120 seconds of sampling, scoring and training"),
        *("NPO, SimNPO, GD trained on the true answers", "One model and one data set"),
        "chosen on the same questions that this page reports",
    ):
        assert part in parsed.text, part
    assert all(plain(text) in parsed.text for text in data["limits"])
    assert "What was not tested: " in parsed.text and "a little fine-tuning" in parsed.text
    assert "What has to be deleted: the target model (" in parsed.text


def test_one_seed_has_no_deviation_and_no_pairs(made):
    _, parsed, source, data = made(seeds=[5], methods={"pmc": {}, "idk": {}})
    assert data["paired"] == [] and "Seed by seed" not in parsed.text
    texts = table_rows(source, "Results, mean ± standard deviation over n seeds")["PMC"]
    assert "±" not in "".join(texts) and texts[-1] == "1"
    assert "With one seed, the spread is not known" in parsed.text
    assert "No settings were searched" in parsed.text
    assert "No method in this comparison used the true answers" in parsed.text


def test_without_a_reference_nothing_is_said_of_over_forgetting(made):
    _, parsed, source, data = made(reference=False)
    assert data["models"]["reference"] is None
    assert "Over-forgetting" not in parsed.text and "There is no reference" in parsed.text
    assert "Quality above the reference" not in source


def test_a_comparison_without_a_finished_run_has_a_page(made):
    _, parsed, source, data = made(done=0)
    assert data["entries"][0]["values"] == {} and not data["complete"]
    assert "0 of 24 runs are finished" in parsed.text and "No run is finished yet" in parsed.text
    assert source.count("on a machine that is not known yet") == 2


def test_it_stands_alone(made):
    _, parsed, source, _ = made()
    assert_stands_alone(parsed, source)
    assert not re.search(r"\{\{|\}\}|\{%|\bNone\b|\bnan\b|Undefined", source)


def test_a_screen_reader_and_a_keyboard_find_their_way(made):
    assert_accessible(made()[1])


def test_json_has_the_fields_that_are_documented(made):
    _, _, _, data = made()
    documented = (Path(__file__).parents[2] / "docs" / "reference" / "comparison.md").read_text()
    names = [*data, *data["runs"][0], *data["entries"][0], *data["entries"][0]["trials"][0]]
    names += [*data["models"]["target"], *data["paired"][0]]
    for name in names:
        assert f"`{name}`" in documented, name


def test_it_is_small(made):
    folder, *_ = made()
    assert (folder / "compare.html").stat().st_size < 500_000


PROBE = """<!doctype html><link rel="icon" href="data:,"><script>
const found = {};
for (const width of [320, 390, 1280]) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "800px";
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    found[width] = [root.scrollWidth, root.clientWidth];
    if (Object.keys(found).length == 3) console.info("FOUND" + JSON.stringify(found));
  };
  frame.src = "/compare.html";
  document.documentElement.append(frame);
}
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_asks_for_nothing_more_and_nothing_overflows(made):
    _, _, source, _ = made()
    requests, console = browse("/probe.html", {"/probe.html": PROBE, "/compare.html": source})
    assert set(requests) == {f"{SITE}/probe.html", f"{SITE}/compare.html"}
    (line,) = console
    for width, (needed, available) in json.loads(re.search(r"FOUND(\{.*\})", line)[1]).items():
        assert needed <= available <= int(width), width


def test_what_is_printed_is_a_table(made, tmp_path):
    lines = []
    write(tmp_path, made()[3], say=lines.append)
    assert lines[0].splitlines()[0].split()[0] == "method" and len(lines[0].splitlines()) == 10
    assert lines[1] == f"pmc wrote {tmp_path / 'compare.html'}"


def test_the_two_sample_test_counts_seeds_and_needs_power(tmp_path):
    inside = {"distance": 0.1, "distance.highest": 0.2, "auc": 0.5, "auc.highest": 0.6, "p": 0.4}
    outside = inside | {"distance": 3.0, "p": 0.001}
    data = cases.comparison(tmp_path, controls=["idk"])

    def sentence(told, runs_told=("idk-seed0", "idk-seed1", "idk-seed2")):
        for run in data["runs"]:
            values = outside if run["name"] in runs_told else inside
            known = {"inside": float(values is inside)} if told else {}
            run["measures"]["indistinguishable"] = values | known
        (found,) = [text for text in findings(data) if text.startswith("Two-sample test: ")]
        return found

    text = sentence(told=True)
    assert "PMC 3 of 3" in text and "IDK 0 of 3" in text
    assert "no power" in sentence(told=True, runs_told=("idk-seed0",)) and "IDK" in text
    assert "the target model" in sentence(told=False)
