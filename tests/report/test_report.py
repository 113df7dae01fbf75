"""The report of a run as HTML and JSON: what it says, what it keeps to itself, what it needs.

Files and the command are in test_report_files.py, what a browser makes of it in
test_report_browser.py.
"""

import copy
import itertools
import json
import math
import re
import time
from pathlib import Path

import pytest
import report_cases as cases
from report_page import Page, plain

from pmc_jax.config.report import ReportConfig
from pmc_jax.report import narrative
from pmc_jax.report.write import write


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Makes the report of a case, once; its page, its source and its data."""
    made = {}

    def make(text: bool = False, **case) -> tuple[Page, str, dict]:
        key = repr((text, case))
        if key not in made:
            folder = cases.write_run(tmp_path_factory.mktemp("page") / "run", **case)
            path = write([folder], ReportConfig(text=text))
            assert path == folder / "report.html"
            source = path.read_text()
            made[key] = Page(source), source, json.loads((folder / "report.json").read_text())
        return made[key]

    return make


# What it says


def test_three_sentences_and_a_table_with_the_reference(page):
    parsed, source, data = page()
    (run,) = data["runs"]
    removed, cost, attacker, untested = (plain(sentence) for sentence in run["summary"])
    for part in (
        "12 private questions",
        "22.9 %",
        "88.3 % before",
        "32.7 % for a model that never saw",
    ):
        assert part in removed
    for part in ("85.4 of 100", "88.6 before", "87.7 for a model that never saw", "2 min 59 s"):
        assert part in cost
    assert "of 3 attacks tried, none gets more" in attacker and "100 answers" in attacker
    assert untested.startswith("What was not tested: rewritten prompts, a little fine-tuning")
    for sentence in (removed, cost, attacker, untested):
        assert sentence in parsed.text
    rows = {texts[0]: texts[1:] for texts in _rows(source)}
    assert rows[""] == ["Before", "After", "Never saw the data"]
    assert rows["Unlearn quality"] == ["40.0", "77.9", "70.5"]
    assert rows["Private answers: words leaked"] == ["88.3 %", "22.9 %", "32.7 %"]
    assert rows["Answers to keep"] == ["96.9 %", "89.9 %", "95.2 %"]


def _rows(source: str) -> list[list[str]]:
    """The cells of the first table, row by row, without what explains them."""
    table = source[source.index("<table>") : source.index("</table>")]
    table = re.sub(r'<span class="note">.*?</span>', "", table)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [plain(cell_html) for cell_html in re.findall(r"<t[hd][^>]*>(.*?)</t", row)] for row in rows
    ]


def test_below_the_reference_is_over_forgetting_and_above_it_is_not(page):
    parsed, _, data = page()
    assert data["runs"][0]["over_forgetting"] == {"points": 7.4, "found": True}
    assert "7.4 points less than a model that never saw the data: over-forgetting." in parsed.text
    assert "Over-forgetting. Unlearn quality is 7.4 points above" in parsed.text
    parsed, _, data = page(after=cases.quality(0.35, 0.27, 0.9, 0.9, 0.9))
    assert data["runs"][0]["over_forgetting"] == {"points": -1.5, "found": False}
    assert "1.5 points more than a model that never saw the data: no over-forgetting" in (
        parsed.text
    )
    assert "Over-forgetting. Unlearn" not in parsed.text


def test_the_attack_that_gets_most_is_named(page):
    run = copy.deepcopy(page()[2]["runs"][0])
    measures = run["evaluation"]["measures"]
    measures["quantised"]["after"]["values"]["int4"] = 0.6
    measures["prefill"]["after"]["values"]["worst"] = 0.7  # but 0.45 from the reference too
    measures["prefill"]["reference"]["values"]["worst"] = 0.65
    text = plain(narrative.summary(run)[2])
    assert "the one that gets most beyond a model that never saw the data, rounding" in text
    assert "int4, gets 60.0 % of" in text and "95.0 % before; 41.0 % from a model" in text
    for measured in measures.values():
        measured.pop("reference")
    assert "the strongest, dictating" in narrative.summary(run)[2]


def test_without_a_reference_it_says_that_the_level_is_not_known(page):
    parsed, _, data = page(reference=None)
    (run,) = data["runs"]
    assert run["over_forgetting"] is None and run["quality"]["reference"] is None
    assert "is not known, because a model that never saw the data was not measured" in parsed.text
    assert "Never saw the data" not in parsed.text
    assert "forgetting went neither too far nor not far enough" in parsed.text


def test_without_evaluation_nothing_is_claimed_of_attacks(page):
    parsed, _, data = page(evaluated=False)
    (run,) = data["runs"]
    assert run["evaluation"] is None and "not measured" in run["summary"][2]
    assert set(run["not_tested"]) >= {
        "sampling",
        "prefill",
        "multiple_choice",
        "side_effects",
        "relearned",
    }
    assert "no attack was tried" in parsed.text
    assert not [f for f in parsed.all("figure") if f["id"] == "figure-sampling"]


def test_every_limitation_has_a_drawing_with_a_reading(page):
    parsed, source, _ = page()
    figures = [figure["id"] for figure in parsed.all("figure")]
    assert {
        *("figure-unlearn_quality", "figure-utility", "figure-score", "figure-unreplaced"),
        *("figure-side-effects", "figure-rank", "figure-sampling", "figure-prefill"),
    } <= set(figures)
    assert source.count("<figcaption>") == len(figures) == len(set(figures))
    drawings = parsed.all("svg")
    assert len(drawings) == len(figures)
    for drawing in drawings:
        assert drawing["role"] == "img" and len(drawing["aria-label"]) > 40
    assert "Questions that leak: before" in parsed.text


def test_a_figure_of_two_points_is_a_sentence(page):
    parsed, _, _ = page(steps=2)
    drawn = {figure["id"] for figure in parsed.all("figure")}
    told = {p["id"].removeprefix("figure-") for p in parsed.all("p") if "id" in p}
    assert {"score", "unreplaced", "collapse_loss", "retain_loss"} <= told
    assert not drawn & {f"figure-{name}" for name in told}
    assert "Loss on the answers to keep. How unsure the model is" in plain("".join(parsed.hidden))
    assert "The band is" not in "".join(parsed.hidden)
    parsed, _, _ = page(questions=2)
    told = {p["id"] for p in parsed.all("p") if "id" in p}
    assert {"figure-sampling", "figure-prefill", "figure-truth"} <= told
    assert "Questions that leak: before" in parsed.text and "marks a leak" not in parsed.text


def test_what_has_to_be_deleted_is_listed(page):
    parsed, _, data = page()
    (run,) = data["runs"]
    assert run["to_delete"] and all(text in parsed.text for text in run["to_delete"])
    found = narrative.to_delete(
        "out",
        ["checkpoints/", "target/"],
        {"model": "/models/SmolLM2", "data.forget": "/forget.jsonl", "data.x": "/forget.jsonl"},
        "/comparison",
    )
    parts = (
        ("What out keeps", "checkpoints/, target/", "pmc unlearn CONFIG --purge"),
        ("/comparison", "pmc compare COMPARE.yaml --purge"),
        ("/models/SmolLM2",),
        ("private rows: /forget.jsonl.",),
        ("backups",),
    )
    for text, wanted in zip(found, parts, strict=True):
        assert all(part in text for part in wanted)
    assert found[-1:] == narrative.to_delete("out", [], {}, None)


def test_engineering_details_are_folded(page):
    parsed, _, _ = page()
    shown, hidden = parsed.text, plain("".join(parsed.hidden))
    for part in ("a" * 64, "pmc.sampling.num_samples", "Loss on its own new answers", "Time by"):
        assert part in hidden and part not in shown, part


def test_words_that_were_dropped_are_counted_from_the_edge_that_is_named(page):
    parsed, _, _ = page()
    heap = [round(900 * math.exp(-(((i - 20) / 2.8) ** 2))) for i in range(41)]  # as `cases` has it
    share = sum(heap[:18]) / sum(heap)  # the 18th of 41 bins over -1 to 1 ends at -0.122
    (said,) = re.findall("Down by 0.12 or more: (.*?)[.] ", parsed.text)
    assert f", after {100 * share:.1f} %," in said


def test_not_claimed_and_not_tested(page):
    parsed, _, data = page()
    for part in (
        *("its weights may still encode the data", "model's own answers, which could contain"),
        *("Only the questions, wordings and attacks on this page were tried", "relearn is empty"),
        "what was not tested: rewritten prompts, a little fine-tuning",
    ):
        assert part in parsed.text, part
    assert data["runs"][0]["not_tested"]["relearned"] == "data.evaluate.relearn is empty"


def test_settings_versions_seed_and_digests(page):
    parsed, source, _ = page()
    for digest in ("a" * 64, "b" * 64, "e" * 64, "r" * 64):
        assert digest in source
    hidden = plain("".join(parsed.hidden))
    assert "Seed 0, on 1 × cpu" in hidden and "jax 0.10.2" in hidden
    assert "pmc.sampling.num_samples" in "".join(parsed.hidden)


# Texts


def test_it_says_whether_it_holds_texts(page):
    parsed, _, data = page()
    assert "This page contains no question and no answer" in parsed.text and not data["text"]
    for question in data["runs"][0]["questions"]:
        assert set(question) == {"id", "score", "has_replacement", "overlap"}
    parsed, _, data = page(text=True)  # of a log without them
    assert "log.text was off" in parsed.text and data["text"]


@pytest.mark.parametrize("with_text", [False, True])
def test_texts_of_the_log_are_hidden_and_escaped(with_text, tmp_path):
    folder = cases.write_run(tmp_path / "run", text=True)
    source = write([folder], ReportConfig(text=with_text)).read_text()
    data = (folder / "report.json").read_text()
    parsed = Page(source)
    for private in ("Zorbolant", "Aldermere", "person number 4"):
        assert (private in source) == (private in data) == with_text
    assert "<script" not in source and not parsed.all("script")
    if with_text:
        assert cases.SECRET in "".join(parsed.hidden)  # parsed back to what the model said
        assert "Zorbolant" not in "".join(parsed.shown)
        assert "treat it as private" in parsed.text


def test_questions_without_a_replacement_come_first_then_what_still_says_most(page):
    parsed, source, data = page()
    questions = data["runs"][0]["questions"]
    assert [q["has_replacement"] for q in questions] == [False] * 2 + [True] * 10
    for group in (questions[:2], questions[2:]):
        overlaps = [q["overlap"] for q in group]
        assert overlaps == sorted(overlaps, reverse=True)
    assert "2 of 12 questions have no replacement answer" in parsed.text
    assert "forget-3no replacement" in "".join(parsed.shown) and "forget-4" not in parsed.text
    assert source.index("forget-3<") < source.index("forget-4<")


def test_a_log_without_lines_of_questions(tmp_path):
    folder = cases.write_run(tmp_path / "run")
    log = folder / "log.jsonl"
    lines = [x for x in log.read_text().splitlines() if '"question"' not in x]
    log.write_text("\n".join(lines))
    assert (
        "no lines about single questions" in Page(write([folder], ReportConfig()).read_text()).text
    )


# The page


def test_it_stands_alone(page):
    parsed, source, _ = page()
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none';") and "script" not in policy
    assert not re.search(r"https?://|@import|url\((?!#)|\ssrc=|<iframe|<object|<script", source)
    for _, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("href", "xlink:href"):
                assert value.startswith(("#", "data:,")), value


def test_links_and_references_lead_somewhere_once(page):
    parsed, source, _ = page()
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="|url\()#([^")]+)', source)
    assert targets and set(targets) <= set(ids)


def test_a_screen_reader_and_a_keyboard_find_their_way(page):
    parsed, _, _ = page()
    assert parsed.all("html")[0]["lang"] == "en"
    assert parsed.all("main")[0]["id"] == "main" and parsed.all("a")[0]["href"] == "#main"
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), levels
    tables = parsed.all("table")
    assert len(parsed.all("caption")) == len(tables)
    assert all("scope" in cell_html for cell_html in parsed.all("th"))
    regions = [div for div in parsed.all("div") if div.get("class") == "scroll"]
    assert len(regions) == len(tables)
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in regions)
    assert not [a for _, a in parsed.tags if a.get("tabindex", "0") != "0"]
    assert not [details for details in parsed.all("details") if "open" in details]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast_is_that_of_wcag_aa(page, scheme):
    _, source, _ = page()
    colours = dict(
        re.findall(
            r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", source, re.S)[scheme]
        )
    )
    texts = ("ink", "muted", "link", "before", "after", "reference")
    for name in (*texts, *(f"run{i}" for i in range(1, 7))):
        assert _contrast(colours[name], colours["paper"]) >= 4.5, name
    assert _contrast(colours["warn-ink"], colours["warn-paper"]) >= 4.5


def test_black_on_white_is_21():
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # published


def test_a_run_of_400_questions_is_small_and_quick(tmp_path):
    folder = cases.write_run(tmp_path / "run", questions=400, steps=750, text=True)
    write([folder], ReportConfig())  # imports
    begin = time.perf_counter()
    path = write([folder], ReportConfig(text=True))
    assert time.perf_counter() - begin < 10  # 1.2 s alone on a slow core
    assert path.stat().st_size <= 2_000_000
    assert path.read_text().count("<details>") == 400


def test_json_has_the_fields_that_are_documented(page):
    _, _, data = page()
    documented = (Path(__file__).parents[2] / "docs" / "reference" / "report.md").read_text()
    names = [*data, *data["runs"][0], *data["runs"][0]["questions"][0]]
    for name in names:
        assert f"`{name}`" in documented, name
