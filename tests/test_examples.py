"""The docstrings of the public names have what a reader needs, and their examples run."""

import doctest
import inspect

import pytest
import tiny_runs as tiny

import pmc_jax as pmc
from pmc_jax.config.schema import Section

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RETAIN = [("What is the capital of France?", "The capital of France is Paris.")]
# Each of these takes no input that could be wrong.
NEVER_RAISE = ("Numbers", "Evaluation", "LanguageModel", "Unlearned", "UserError")


def documented() -> dict[str, object]:
    """The public objects and the public methods of the public classes, by name."""
    objects: dict[str, object] = {}
    for name in pmc.__all__:
        objects[name] = value = getattr(pmc, name)
        if inspect.isclass(value) and not issubclass(value, Section):
            methods = inspect.getmembers(value, inspect.isfunction)
            objects |= {f"{name}.{m}": f for m, f in methods if m[0] != "_"}
    return objects


OBJECTS = documented()


def run_example(name: str, names: dict[str, object]) -> dict[str, object]:
    """Runs the example of an object, and returns the names that it leaves."""
    text = inspect.getdoc(OBJECTS[name]) or ""
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert test.examples, "the docstring has no example"
    faults: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=faults.append, clear_globs=False)
    assert not faults, "".join(faults)
    return test.globs


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict[str, object]:
    """Names that the examples may use: a tiny model, and the result of the example of `unlearn`."""
    folder = tmp_path_factory.mktemp("examples")
    lm = pmc.load(tiny.write_model(folder / "model"))
    return run_example("unlearn", {"pmc": pmc, "lm": lm, "retain": RETAIN, "folder": folder})


@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "unlearn"])
def test_example_runs(name, names, monkeypatch):
    monkeypatch.chdir(names["folder"])
    run_example(name, names)


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring_describes_every_argument_and_error(name):
    thing = OBJECTS[name]
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing) and issubclass(thing, Section):
        text += inspect.getdoc(Section)
    if thing is pmc.Evaluation:  # it has the items of Numbers, too
        text += inspect.getdoc(pmc.Numbers)
    assert "\nRaises:\n" in text or name in NEVER_RAISE or "as `" in text
    if inspect.isfunction(thing) and "as `" not in text:
        for argument in set(inspect.signature(thing).parameters) - {"self"}:
            assert argument in text.partition("\nArgs:\n")[2], argument
    if inspect.isclass(thing):
        for field in inspect.get_annotations(thing):
            assert field in text or "ClassVar" in str(inspect.get_annotations(thing)[field]), field
