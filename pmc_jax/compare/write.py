"""What a comparison leaves beside its runs: the page, its drawings, the numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.files import json_text, write_bytes, write_text
from pmc_jax.compare import narrative
from pmc_jax.compare.page import render
from pmc_jax.compare.plots import files

JSON, PAGE, PLOTS = "compare.json", "compare.html", "plots"
FILES = (JSON, PAGE, PLOTS)


def write(folder: Path, comparison: Mapping[str, Any], *, say: Callable[[str], None]) -> None:
    """Writes `compare.json`, `compare.html` and `plots/*.png`, and says the results.

    Raises:
        UserError: the folder cannot be written.
    """
    page, plots = render(comparison)
    write_text(folder / JSON, json_text(comparison))
    (folder / PLOTS).mkdir(exist_ok=True)
    for name, image in files(plots).items():
        write_bytes(folder / PLOTS / name, image)
    write_text(folder / PAGE, page)
    say(narrative.printed(comparison))
    say(f"wrote {folder / PAGE}")
