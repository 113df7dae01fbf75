"""Writes the page, the figures and the numbers of a comparison."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.files import json_text, write_bytes, write_text
from pmc_jax.compare import narrative
from pmc_jax.compare.page import render

JSON, PAGE, PLOTS = "compare.json", "compare.html", "plots"
FILES = (JSON, PAGE, PLOTS)


def write(folder: Path, comparison: Mapping[str, Any], *, say: Callable[[str], None]) -> None:
    """Writes `compare.json`, `compare.html` and `plots/*.png`, and prints the results.

    Raises:
        UserError: a file cannot be written.
    """
    page, figures = render(comparison)
    write_text(folder / JSON, json_text(comparison))
    (folder / PLOTS).mkdir(exist_ok=True)
    for figure in figures:
        write_bytes(folder / PLOTS / f"{figure.name}.png", figure.png())
    write_text(folder / PAGE, page)
    say(narrative.printed(comparison))
    say(f"pmc wrote {folder / PAGE}")
