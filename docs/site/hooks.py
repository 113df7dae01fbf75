"""Adds pages to the site that are not files of docs/, and checks that pages load nothing remote.

The pages are the texts at the top of the repository and the reference of the Python names in
`pmc_jax.__all__`.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import pmc_jax

_ROOT = Path(__file__).parents[2]
_TEXTS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
_REMOTE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'> ]+"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon)[^>]*\bhref=[\"']?(?:https?:)?//"
)
_API = """# Python API

`import pmc_jax as pmc` provides these names. The guide [Use it as a library](../guide/library.md)
shows how they work together. [Settings](settings.md) describes the settings classes field by field.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files of docs/."""
    pages = {page: (_ROOT / name).read_text(encoding="utf-8") for name, page in _TEXTS.items()}
    pages["reference/api.md"] = _API + "".join(f"::: pmc_jax.{n}\n\n" for n in pmc_jax.__all__)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    if page.file.src_uri in _TEXTS.values():
        markdown = markdown.replace("](docs/", "](")
    for name, target in _TEXTS.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*){name}", rf"](\1{target}", markdown)
    return markdown.replace("](../../", "](../")


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Raises an error if a page would load a file from another server."""
    if match := _REMOTE.search(output):
        raise PluginError(f"{page.file.src_path}: the page loads a remote file: {match[0]}")
    return output
