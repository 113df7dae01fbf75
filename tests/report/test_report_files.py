"""`pmc report`: several runs, what it reads and writes, and what it refuses."""

import json
from pathlib import Path

import pytest
import report_cases as cases
import tiny_runs as tiny
from report_page import Page

from pmc_jax.config.report import ReportConfig
from pmc_jax.errors import UserError
from pmc_jax.report.page import MARK
from pmc_jax.report.write import write


def test_runs_side_by_side(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases.write_run(tmp_path / "one")
    cases.write_run(tmp_path / "two", seed=1, reference=None)
    done = tiny.pmc("report", "two", config="one")
    assert done.status == 0 and done.lines == ["pmc wrote report.html"], done.err
    parsed = Page(Path("report.html").read_text())
    assert [th for th in parsed.all("th") if th.get("scope") == "colgroup"]
    assert "one" in parsed.text and "Settings that differ" in parsed.text
    assert [run["name"] for run in json.loads(Path("report.json").read_text())["runs"]] == [
        *("one", "two")
    ]
    alts = [svg["aria-label"] for svg in parsed.all("svg")]
    assert all("one" in alt and "two" in alt for alt in alts if "Unlearn" in alt)


def test_losses_of_rmu_are_not_shown_as_cross_entropies(tmp_path):
    folder = cases.write_run(tmp_path / "run")
    assert "cross-entropy" in write([folder], ReportConfig()).read_text()
    results = json.loads((folder / "results.json").read_text())
    results["config"]["method"]["name"] = "rmu"
    (folder / "results.json").write_text(json.dumps(results))
    assert "cross-entropy" not in write([folder], ReportConfig()).read_text()


def test_the_command_makes_it_again_and_takes_text_as_a_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = cases.write_run(tmp_path / "one", text=True)
    assert tiny.pmc("report", config="one").lines == ["pmc wrote one/report.html"]
    assert "Aldermere" not in (folder / "report.html").read_text()
    assert tiny.pmc("report", "report.text=true", config="one").status == 0
    assert "Aldermere" in (folder / "report.html").read_text()
    assert tiny.pmc("report", "report.file=x/a.html", config="one").status == 2  # no such folder
    assert tiny.pmc("report", "report.file=a.html", config="one").lines == ["pmc wrote a.html"]
    assert Path("a.json").is_file()


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_what_is_no_report_is_not_overwritten(name, tmp_path):
    folder = cases.write_run(tmp_path / "one")
    (folder / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name}: the file is not a report of pmc.*Move the file"):
        write([folder], ReportConfig())
    assert (folder / name).read_text() == "{}"
    assert [path.name for path in folder.iterdir() if path.name.startswith("report")] == [name]


@pytest.mark.parametrize("name", ["results.json", "run.json", "manifest.json", "log.jsonl"])
def test_missing_files_are_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cases.write_run(tmp_path / "one") / name).unlink()
    tiny.assert_names(tiny.refused("report", config="one"), f"one/{name}", "cannot be read")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"before": 3}', '{"rounds": [{}]}'])
def test_damaged_files_are_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cases.write_run(tmp_path / "one") / "results.json").write_text(text)
    tiny.assert_names(tiny.refused("report", config="one"), "one", "pmc verify one")


@pytest.mark.parametrize("edit", [{"rounds": None}, {"tokens": "x"}, {"versions": 3}])
def test_values_of_another_form_are_one_line(edit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = cases.write_run(tmp_path / "one") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    tiny.assert_names(tiny.refused("report", config="one"), "files are damaged", "pmc verify one")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["report.txt=true"], "report.text"),
        (["report.file=page.pdf"], "ends in .html"),
        (["one"], "given twice"),
    ],
)
def test_bad_arguments(arguments, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases.write_run(tmp_path / "one")
    tiny.assert_names(tiny.refused("report", *arguments, config="one"), part)


def test_a_finished_run_has_a_report_that_is_not_in_its_manifest(finished):
    """`finished` is the folder of a tiny run that really ran."""
    source = Path("out/report.html").read_text()
    assert MARK in source and "24" in "".join(Page(source).hidden)
    data = json.loads(Path("out/report.json").read_text())
    assert len(data["runs"][0]["steps"]) == tiny.STEPS
    assert len(data["runs"][0]["questions"]) == len(tiny.FORGET)
    for path in (Path("out/report.html"), Path("out/report.json")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not [w for w in tiny.WORDS if w in source + json.dumps(data)]
    assert tiny.pmc("report", config="out").status == 0
    assert tiny.pmc("verify", config="out").status == 0


def test_a_purge_takes_texts_out_of_the_report(copied):
    assert tiny.pmc("report", "report.text=true", config="out").status == 0
    assert tiny.FORGET[0]["question"] in Path("out/report.html").read_text()
    tiny.succeed("unlearn", "--purge")
    left = Path("out/report.html").read_text() + Path("out/report.json").read_text()
    assert not [word for word in tiny.WORDS if word in left]
