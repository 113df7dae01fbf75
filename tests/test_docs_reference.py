"""The reference pages agree with the code, and links between the pages are not broken."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def test_settings_page_is_up_to_date():
    path = ROOT / "docs" / "reference" / "make_settings.py"
    spec = importlib.util.spec_from_file_location("make_settings", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), f"run python {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_to_files_are_not_broken(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path = link.partition("#")[0]
        if path and "://" not in link:
            assert (page.parent / path).exists(), link
