"""Reads the texts of the pages from `texts.yaml`."""

import importlib.resources
from typing import Any

import yaml

_FILE = importlib.resources.files("pmc_jax.report") / "texts.yaml"
TEXTS: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
MEASURE_TEXTS: dict[str, dict[str, Any]] = TEXTS["measures"]
