"""Adds pages to the site that are not files of docs/, and checks that pages load nothing remote.

The pages are the README, the changelog and the reference of the Python names in `pmc_jax.__all__`.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import pmc_jax

_ROOT = Path(__file__).parents[2]
_REMOTE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'> ]+"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon)[^>]*\bhref=[\"']?(?:https?:)?//"
)
_API = """# Python API

`import pmc_jax as pmc` provides these names. The guide [Use it as a library](../guide/library.md)
shows how they work together. [Settings](settings.md) describes the settings classes field by field.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are written here."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    pages = {
        "index.md": readme.replace("](docs/", "]("),
        "changelog.md": (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "reference/api.md": _API + "".join(f"::: pmc_jax.{name}\n\n" for name in pmc_jax.__all__),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Makes links to the README into links to the first page."""
    return markdown.replace("](../../README.md", "](../index.md")


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Raises an error if a page would load a file from another server."""
    if match := _REMOTE.search(output):
        raise PluginError(f"{page.file.src_path}: the page loads a remote file: {match[0]}")
    return output
