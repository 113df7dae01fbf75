"""The report of a run as HTML and JSON: what it says, what it keeps to itself, what it needs.

Files and the command are in test_report_files.py, what a browser makes of it in
test_report_browser.py.
"""

import copy
import dataclasses
import json
import math
import re
import time
from pathlib import Path

import pytest
import report_cases as cases
from report_page import Page, assert_accessible, assert_stands_alone, plain, table_rows

from pmc_jax.config.evaluate import LevelsConfig
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config
from pmc_jax.evaluation.forgotten import summary
from pmc_jax.report import narrative, remains, verdict
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


def test_a_summary_and_a_table_with_the_reference(page):
    parsed, source, data = page()
    (run,) = data["runs"]
    said = {paragraph["title"]: plain(paragraph["text"]) for paragraph in run["summary"]}
    for title, parts in {
        "What was removed": (
            *("by id) were to be removed.", "22.9 % of the words", "in other words"),
            *("target model 88.3 %", "never saw the data 32.7 %", "21.3 % of the words"),
        ),
        "What it cost": ("85.4 of 100", "model 88.6", "data 87.7", "2 min 59 s on one CPU"),
        "What an attacker still gets": (
            *("of 1 if an attacker begins", "2 if an attacker dictates"),
            *("Of 3 attacks tried, none gets more", "of the words of the true"),
        ),
        "Is a removal request settled?": ("Not by this page alone", "weights may still encode"),
    }.items():
        for part in parts:
            assert part.lower() in said[title].lower(), part
        assert said[title] in parsed.text
    assert list(said) == [title for title in said if f"{title}" in parsed.text]
    rows = table_rows(source, "What the model leaks and what it still knows")
    assert rows[""] == ["Target model", "Unlearned model", "Reference model"]
    assert rows["Unlearn quality"] == ["40.0", "77.9", "70.5"]
    assert rows["Forget questions: words of the true answers"] == ["88.3 %", "22.9 %", "32.7 %"]
    assert rows["Answers to keep"] == ["96.9 %", "89.9 %", "95.2 %"]


def test_it_begins_with_the_verdict(page):
    parsed, source, data = page()
    verdict = data["runs"][0]["verdict"]
    assert verdict["text"].startswith("Forgotten questions: 9 of 12.")
    assert verdict["text"].endswith("says how.") and "other 3 can still" in verdict["text"]
    assert "true answer" not in verdict["text"]  # The run had none.
    assert [(one["level"], one["result"]) for one in verdict["levels"]] == [
        *(
            ("said", "11 of 12 questions"),
            ("sampled", "10 of 12 questions"),
            ("elicited", "10 of 12 questions"),
        ),
    ]
    assert "none of 16 random answers" in verdict["levels"][1]["meaning"]
    assert "for 1 after neutral first words (prefill); 2 after" in verdict["levels"][2]["meaning"]
    for part in ("on 9 of the questions", "had 97.0 %", "have 95.1 % now", "4 of these questions"):
        assert part in verdict["cost"]
    missing = {one["what"]: one["reason"] for one in verdict["not_measured"]}
    assert "data.evaluate.forget_paraphrased" in missing["Answers to a paraphrase"]
    names = "Abstentions and invented facts (honesty)"
    assert any(names in what for what in missing) and "Utility" not in missing
    assert parsed.text.index(verdict["text"][:20]) < parsed.text.index("What was removed. ")
    rows = table_rows(source, "Questions that are forgotten, by level")
    assert rows["said"][0] == "11 of 12 questions"


def test_a_run_of_questions_alone_says_what_to_set():
    levels = LevelsConfig(measured=("said",), num_samples=2)
    question = {"said": False, "sampled": None, "elicited": None, "items": 1, "limit": 0.3}
    nothing = {"unlearn_quality": None, "utility": None, "splits": {}}
    run = {
        "forgotten": summary(
            [question | {"is_empty": False, "is_cut": True, "was_known": None}], levels
        ),
        "heldout": {"not_measured": "data.retain has 3 rows"},
        "quality": {"before": nothing, "after": nothing, "reference": None},
        "evaluation": None,
        "settings": dataclasses.asdict(Config(evaluate={"levels": levels})),
    }
    found = verdict.verdict(run)
    assert found["text"].startswith("Forgotten questions: 1 of 1.") and "other" not in found["text"]
    assert found["cost"].endswith("not train on: data.retain has 3 rows.")
    assert any("num_samples=2" in note for note in found["notes"]) and len(found["notes"]) == 2
    reasons = {one["what"]: one["reason"] for one in found["not_measured"]}
    assert "evaluate.levels.measured" in reasons["Sampled answers"]
    assert "data.evaluate.forget and" in reasons["Unlearn quality"]
    assert "evaluate.reference" in reasons["Comparison with a model that never saw the data"]
    assert sum("evaluate.measures=all" in reason for reason in reasons.values()) == 1
    run["forgotten"] |= dict.fromkeys(("forgotten", "said", "sampled", "elicited"))
    assert "It is not known" in verdict.verdict(run)["text"]


def test_the_request_is_named_and_kept_by_later_reports(tmp_path):
    folder = cases.write_run(tmp_path / "run")
    source = write([folder], ReportConfig()).read_text()
    assert plain(source).count("not recorded (report.request.") == 3
    given = ReportConfig(request={"reference": "<b>R-17", "date": "2026-05-31"})
    write([folder], given)
    source = write([folder], ReportConfig(request={"responsible": "A. Roe"})).read_text()
    (run,) = json.loads((folder / "report.json").read_text())["runs"]
    assert run["request"] == {
        **{"reference": "<b>R-17", "date": "2026-05-31", "responsible": "A. Roe"}
    }
    assert "<b>R-17" not in source and "Request<b>R-17" in Page(source).text


def test_terms_of_the_page_are_defined_on_it(page):
    parsed, _, _ = page()
    for term in (
        "target modelthe model before unlearning",
        "original answerthe usual answer of the target",
    ):
        assert term in parsed.text
    for word in ("private questions", "first answer", "unresolved"):
        assert word not in parsed.text
    assert "1 × cpu" not in parsed.text and "has a replacement" not in parsed.text


def test_it_says_who_used_the_true_answers(page):
    run = copy.deepcopy(page()[2]["runs"][0])
    target, unlearning, measuring = remains.true_answers(run)
    assert "was given" in target and unlearning.startswith("Unlearning did not use them")
    assert "the run had none" in measuring
    run["settings"]["finetune"]["data"] = [{"path": "full.jsonl"}]
    run["settings"]["data"]["evaluate"] = {"forget": {"path": "forget.jsonl"}}
    run["settings"]["method"]["name"] = "npo"
    target, unlearning, measuring = remains.true_answers(run)
    assert (
        "fine-tuned the target model on full.jsonl" in target
        and "NPO trained on the true" in unlearning
    )
    assert "trained no model" in measuring


def test_below_the_reference_is_over_forgetting_and_above_it_is_not(page):
    parsed, _, data = page()
    assert data["runs"][0]["over_forgetting"] == {"points": 7.4, "found": True}
    assert "7.4 points less than a model that never saw the data: over-forgetting." in parsed.text
    assert "Over-forgetting. The unlearned model reveals 7.4 points less" in parsed.text
    parsed, _, data = page(after=cases.quality(0.35, 0.27, 0.9, 0.9, 0.9))
    assert data["runs"][0]["over_forgetting"] == {"points": -1.5, "found": False}
    assert "1.5 points more than a model that never saw the data: no over-forgetting" in (
        parsed.text
    )
    assert "Over-forgetting. The" not in parsed.text


def test_the_attack_that_gets_most_is_named(page):
    run = copy.deepcopy(page()[2]["runs"][0])
    measures = run["evaluation"]["measures"]
    measures["quantised"]["after"]["values"]["int4"] = 0.6
    measures["prefill"]["after"]["values"]["worst"] = 0.7  # but 0.45 from the reference too
    measures["prefill"]["reference"]["values"]["worst"] = 0.65
    text = plain(narrative.summary(run)[2]["text"])
    assert "the one that gets most beyond a model that never saw the data, rounding" in text
    for part in ("int4, gets 60.0 % of", "95.0 % from the target model; 41.0 % from a model"):
        assert part in text
    for measured in measures.values():
        measured.pop("reference")
    assert "the strongest, dictating" in narrative.summary(run)[2]["text"]


def test_without_a_reference_it_says_that_the_level_is_not_known(page):
    parsed, _, data = page(reference=None)
    (run,) = data["runs"]
    assert run["over_forgetting"] is None and run["quality"]["reference"] is None
    assert "is not known, because a model that never saw the data was not measured" in parsed.text
    assert "Reference model" not in parsed.text
    assert "forgetting went neither too far nor not far enough" in parsed.text


def test_without_evaluation_nothing_is_claimed_of_attacks(page):
    parsed, _, data = page(evaluated=False)
    (run,) = data["runs"]
    assert run["evaluation"] is None
    assert "No other attack that recovers answers was tried" in parsed.text
    assert set(run["not_tested"]) >= {
        "sampling",
        "prefill",
        "multiple_choice",
        "side_effects",
        "relearned",
    }
    assert parsed.text.count("evaluate.measures does not name them") == 1
    assert "TOFU benchmark: the numbers of" in parsed.text
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
    assert "Questions that leak: target model" in parsed.text


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
    assert "Questions that leak: target model" in parsed.text and "marks a leak" not in parsed.text


def test_what_has_to_be_deleted_is_listed_by_command_and_by_hand(page):
    parsed, _, data = page()
    (run,) = data["runs"]
    assert all(text in parsed.text for text in run["to_delete"]["by_hand"])
    found = remains.to_delete(
        "my out",
        ["checkpoints/", "target/"],
        {"model": "/models/SmolLM2", "data.forget": "/forget.jsonl", "data.x": "/forget.jsonl"},
        "/comparison",
    )
    own, shared = found["by_command"]
    assert own["command"] == "pmc unlearn 'my out' --purge" and "target/" in own["text"]
    assert shared["command"] == "pmc compare COMPARE.yaml --purge"
    assert "/comparison" in shared["text"]
    parts = ("/models/SmolLM2", "private rows: /forget.jsonl.", "quantised", "Backups")
    for text, part in zip(found["by_hand"], parts, strict=True):
        assert part in text
    nothing = remains.to_delete("out", [], {}, None)
    assert nothing == {"by_command": [], "by_hand": found["by_hand"][-2:]}


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
    assert f", unlearned model {100 * share:.1f} %," in said


def test_not_claimed_and_not_tested(page):
    parsed, _, data = page()
    for part in (
        *("its weights may still encode the data", "own sampled answers, which could contain"),
        *("Only the questions, wordings and attacks on this page were tried", "relearn is empty"),
        "A little fine-tuning: whether brief training on other rows",
    ):
        assert part in parsed.text, part
    assert data["runs"][0]["not_tested"]["relearned"] == "data.evaluate.relearn is empty"


def test_a_measure_without_any_number_is_not_tested(page):
    run = copy.deepcopy(page()[2]["runs"][0])
    why = "data.evaluate.forget has no wrong answers"
    for one in run["evaluation"]["measures"]["multiple_choice"].values():
        one |= {"values": {}, "missing": {"chance": why}, "series": {}}
    assert remains.not_tested(run)["multiple_choice"] == why


def test_settings_versions_seed_and_digests(page):
    parsed, source, _ = page()
    for digest in ("a" * 64, "b" * 64, "e" * 64, "r" * 64):
        assert digest in source
    hidden = plain("".join(parsed.hidden))
    assert "Seed 0, on one CPU" in hidden and "jax 0.10.2" in hidden
    assert "pmc.sampling.num_samples" in "".join(parsed.hidden)


# Texts


def test_it_says_whether_it_holds_texts(page):
    parsed, _, data = page()
    assert "This page contains no question and no answer" in parsed.text and not data["text"]
    for question in data["runs"][0]["questions"]:
        assert set(question) == {
            *("id", "told_at", "said", "sampled", "elicited", "items", "limit"),
            *("true_overlap", "overlap"),
        }
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


def test_questions_come_by_level_then_by_what_is_left_of_the_true_answer(page):
    parsed, source, data = page()
    questions = data["runs"][0]["questions"]
    assert [q["told_at"] for q in questions] == ["said", "sampled", "elicited", *[None] * 9]
    left = [q["true_overlap"] for q in questions[3:]]
    assert left == sorted(left, reverse=True)
    rows = table_rows(source, "Forget questions")
    assert rows["forget-3"][0].startswith("the usual answer; 16 of 16 sampled answers; a prefill")
    assert rows["forget-7"][0].startswith("2 of 16 sampled answers")
    assert rows["forget-5"][0] == "an opening"
    assert rows["forget-4"][0] == "no answer that was tried"
    assert "No longer said: 11 of 12; sampled: 2; still elicited by a prefill: 1" in parsed.text
    assert "The answers to 1 question have no secret number" in parsed.text


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
    assert_stands_alone(*page()[:2])


def test_a_screen_reader_and_a_keyboard_find_their_way(page):
    assert_accessible(page()[0])


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
    run = data["runs"][0]
    names = [*data, *run, *run["questions"][0], *run["to_delete"], *run["summary"][0]]
    for name in names:
        assert f"`{name}`" in documented, name
