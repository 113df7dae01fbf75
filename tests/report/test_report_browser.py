"""The report in headless Chromium: no error, no request, no overflow, answers folded away.

A page around the report, of the same origin, measures it and logs the results to the console.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import report_cases as cases
from browser import BROWSER, SITE, browse

from pmc_jax.config.report import ReportConfig
from pmc_jax.report.write import write

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium"),
    pytest.mark.slow,  # it measures how fast this machine draws
]

WIDTHS = (320, 390, 1280)
# Measures a page at several widths; all results go through the console.
PROBE = """<!doctype html><title>probe</title><script>
const found = {};
const begin = {};
function measure(width) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "800px";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const answers = [...page.querySelectorAll("details dd")];
    found[width] = {
      scroll: root.scrollWidth, client: root.clientWidth,
      open: page.querySelectorAll("details[open]").length,
      answers: answers.length,
      visible: answers.filter((one) => one.checkVisibility()).length,
      milliseconds: frame.contentWindow.performance.timing.loadEventStart
        - frame.contentWindow.performance.timing.navigationStart,
      ink: frame.contentWindow.getComputedStyle(page.body).color,
      line: frame.contentWindow.getComputedStyle(page.querySelector("svg text")).fill,
    };
    const fold = page.querySelector("details.fold summary");
    fold.click();
    const first = page.querySelector("details:not(.fold) summary");
    first.click();
    found[width].opened = answers.filter((one) => one.checkVisibility()).length;
    if (Object.keys(found).length == WIDTHS.length) console.info("FOUND" + JSON.stringify(found));
  };
  frame.src = "/report.html";
  document.documentElement.append(frame);
}
const WIDTHS = %s;
WIDTHS.forEach(measure);
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """The page of a run of 400 questions, with texts."""
    folder = tmp_path_factory.mktemp("report") / "run"
    cases.write_run(folder, questions=400, steps=750, text=True)
    return write([folder], ReportConfig(text=True)).read_text()


def test_errors_and_requests_of_a_bad_page_are_seen():
    bad = '<!doctype html><html><script>nosuch()</script><img src="http://elsewhere.test/x.png">'
    requests, console = browse("/bad.html", {"/bad.html": bad})
    assert "http://elsewhere.test/x.png" in requests
    assert any("nosuch is not defined" in line for line in console), console


def test_it_asks_for_nothing_and_throws_nothing(report):
    requests, console = browse("/report.html", {"/report.html": report})
    assert requests == [f"{SITE}/report.html"]
    assert console == []


def test_what_a_model_says_is_not_run_and_its_policy_holds(report):
    """Even an answer that got onto the page as it is could load and run nothing."""
    hostile = report.replace(
        "<main ", '<script>nosuch()</script><img src="http://elsewhere.test/x.png"><main '
    )
    requests, console = browse("/report.html", {"/report.html": hostile})
    assert requests == [f"{SITE}/report.html"]
    assert console and not any("nosuch is not defined" in line for line in console)


@pytest.fixture(scope="module")
def measured(report) -> dict[str, dict[str, dict]]:
    """Scheme -> width -> what the probe found."""
    probe = PROBE % json.dumps(WIDTHS)
    measurements = {}
    for scheme, flag in (("dark", "0"), ("light", "1")):
        files = {"/probe.html": probe, "/report.html": report}
        _, console = browse("/probe.html", files, f"--blink-settings=preferredColorScheme={flag}")
        (line,) = [line for line in console if "FOUND" in line]
        message = re.search(r"FOUND(\{.*\})", line)[1]
        measurements[scheme] = json.loads(message)
    return measurements


def test_it_fits_a_phone_and_a_desk(measured):
    for width, measurements in measured["light"].items():
        assert measurements["scroll"] <= measurements["client"] <= int(width), (width, measurements)


def test_answers_are_hidden_until_opened(measured):
    for measurements in measured["light"].values():
        assert measurements["open"] == 0 and measurements["answers"] == 400 * 3
        assert measurements["visible"] == 0 and measurements["opened"] == 3


def test_it_opens_within_a_second(measured):
    # On this machine 0.1 s; three times at once, beside other tests, a little more.
    assert min(measurements["milliseconds"] for measurements in measured["light"].values()) < 1000


def test_drawings_follow_the_scheme(measured):
    light, dark = (measured[scheme]["1280"] for scheme in ("light", "dark"))
    assert light["ink"] == light["line"] and dark["ink"] == dark["line"]
    assert light["ink"] != dark["ink"]


def test_it_prints_on_a4(report, tmp_path):
    (tmp_path / "report.html").write_text(report)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += [f"--print-to-pdf={tmp_path / 'report.pdf'}", f"file://{tmp_path}/report.html"]
    subprocess.run(command, check=True, capture_output=True, timeout=90, env=dict(os.environ))
    pdf = Path(tmp_path / "report.pdf").read_bytes()
    boxes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf))
    assert {(round(float(w)), round(float(h))) for w, h in boxes} == {(595, 842)}  # points
