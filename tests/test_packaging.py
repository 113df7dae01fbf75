"""The files around the package: the Dockerfile installs as .ci/run does, CITATION.cff is valid."""

import configparser
import importlib.metadata
import re
import shlex
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
CI = (ROOT / ".ci" / "run").read_text()
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")


def installs(script: str) -> list[list[str]]:
    """The arguments of each `pip install` in a script, comments left out."""
    code = re.sub(r"(?m)^\s*#.*$", "", script)
    return [shlex.split(found) for found in re.findall(r"pip install ([^&;\n]+)", code)]


def needed() -> set[str]:
    """Names of the files and folders in the root that the installation reads."""
    package = ROOT / "pmc_jax"
    links = [path.resolve() for path in package.rglob("*") if path.is_symlink()]
    outside = {path.relative_to(ROOT.resolve()).parts[0] for path in links}
    metadata = SETUP["metadata"]
    texts = {metadata["long_description"].removeprefix("file: "), metadata["license_files"]}
    return {"setup.cfg", "pyproject.toml", "MANIFEST.in", package.name} | outside | texts


def test_the_image_has_every_file_that_the_installation_needs():
    copied = {}
    for line in re.findall(r"(?m)^COPY (.+)$", DOCKERFILE):
        *sources, target = line.split()
        for source in sources:
            # The contents of a folder are copied, so its name must be in the target.
            is_into = (ROOT / source).is_file() and target.endswith("/")
            copied[source] = PurePosixPath(target, source if is_into else "")
    assert {"README.md", "LICENSE", "configs"} <= needed() <= {*copied}
    for source, target in copied.items():
        assert (ROOT / source).exists() and target == PurePosixPath("/src", source)


def test_the_image_has_the_python_of_the_checks():
    (image,) = re.findall(r"(?m)^FROM python:(\d+\.\d+)-", DOCKERFILE)
    assert re.search(r"for candidate in python([\d.]+) ", CI)[1] == image
    assert SETUP["options"]["python_requires"] == f">={image}"


def test_the_image_installs_as_the_checks_do():
    in_image, in_checks = installs(DOCKERFILE), installs(CI)
    accelerator = ["--quiet", "jax[$JAX]"]
    assert accelerator in in_image and len(in_image) == 3
    for arguments in in_image:
        here = [".[test]" if a == "/src" else a for a in arguments]
        assert arguments == accelerator or here in in_checks, arguments


def test_jax_has_the_extras_of_the_image():
    named = set(re.findall(r"\bJAX=(\w+)", DOCKERFILE))
    assert "ARG JAX=cpu" in DOCKERFILE and "cuda12" in named
    assert named <= {*importlib.metadata.metadata("jax").get_all("Provides-Extra")}


def test_the_citation_file_is_valid_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    required = {"authors", "title"}
    assert {"cff-version", "message"} | required <= citation.keys()
    paper = citation["preferred-citation"]
    assert {"type"} | required <= paper.keys()
    for author in (*citation["authors"], *paper["authors"]):
        assert author.keys() in ({"name"}, {"given-names", "family-names"})
    assert citation["version"] == SETUP["metadata"]["version"]
    assert citation["license"] == SETUP["metadata"]["license"]
