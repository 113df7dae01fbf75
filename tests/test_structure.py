"""The package's folders: every import between them points down, and names nothing by another."""

import ast
from pathlib import Path

import pmc_jax

PACKAGE = Path(pmc_jax.__file__).parent
# From the bottom up; a folder imports only what stands before it.
FLOORS = (
    *("errors", "config", "distributed", "models", "data", "sampling", "scoring", "artifacts"),
    *("training", "theory", "evaluation", "unlearning", "planning", "report", "compare"),
    *("commands", "answers", "unlearned", "api", "cli", "__init__"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, str | None]]:
    """(module of this package, name that it is given here) of every import in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pmc_jax"):
            found += [(f"{node.module}.{alias.name}", alias.asname) for alias in node.names]
        if isinstance(node, ast.Import):
            found += [(a.name, a.asname) for a in node.names if a.name.startswith("pmc_jax")]
    return found


def floor(parts: tuple[str, ...]) -> int:
    return FLOORS.index(parts[0].removesuffix(".py"))


def test_imports_between_folders_point_down():
    up = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in FILES
        for module, _ in imports(path)
        if floor(path.relative_to(PACKAGE).parts) < floor(tuple(module.split(".")[1:]))
    ]
    assert not up
    assert sum(len(imports(path)) for path in FILES) > 300  # the walk sees them


def test_unlearning_and_evaluation_do_not_know_each_other():
    for one, other in (("unlearning", "evaluation"), ("evaluation", "unlearning")):
        for path in (PACKAGE / one).rglob("*.py"):
            assert not [m for m, _ in imports(path) if m.startswith(f"pmc_jax.{other}")], path


def test_own_modules_are_called_by_their_names():
    modules = {".".join(("pmc_jax", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in FILES}
    renamed = [(p.name, m) for p in FILES for m, alias in imports(p) if alias and m in modules]
    assert not renamed


def test_files_are_short_and_the_ground_floor_is_small():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 370}
    assert not long
    assert len([path for path in FILES if path.parent == PACKAGE]) <= 8
