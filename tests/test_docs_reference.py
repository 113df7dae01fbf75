"""The page of settings agrees with the schema."""

import importlib.util
from pathlib import Path

MAKE_SETTINGS = Path(__file__).parents[1] / "docs" / "reference" / "make_settings.py"


def test_settings_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_settings", MAKE_SETTINGS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    is_same = module.PAGE.read_text(encoding="utf-8") == module.page()
    assert is_same, f"settings.md is not up to date, run: python {MAKE_SETTINGS}"
