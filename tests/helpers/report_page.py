"""Parser of report pages, which separates visible text from folded text."""

import html.parser
import itertools
import re

VOID = {"meta", "link", "br", "img", "hr", "input"}
SVG_LEAVES = {"path", "use", "rect", "g"}


class Page(html.parser.HTMLParser):
    """Parsed page; parsing fails if tags are not closed in the reverse order of their opening."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.shown: list[str] = []
        self.hidden: list[str] = []  # These texts are inside a <details> element.
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID | SVG_LEAVES, tag
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" in self.open:
            return
        folded = "details" in self.open and "summary" not in self.open
        (self.hidden if folded else self.shown).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return plain("".join(self.shown))


def plain(text: str) -> str:
    return " ".join(text.split())


def table_rows(source: str, caption: str | None = None) -> dict[str, list[str]]:
    """Returns a dict from row head to cells of the table with a caption, or of the first table.

    Notes below the row heads are left out.
    """
    begin = source.index("<table" if caption is None else f"{caption}</caption>")
    body = source[begin : source.index("</table>", begin)]
    body = re.sub(r'<span class="note">.*?</span>', "", body)
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    cells = [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t", row)] for row in rows]
    return {head: texts for head, *texts in cells}


def assert_stands_alone(page: Page, source: str) -> None:
    """Checks that a page loads nothing, runs nothing, and that its links lead somewhere once."""
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none';") and "script" not in policy
    assert not re.search(r"https?://|@import|url\((?!#)|\ssrc=|<iframe|<object|<script", source)
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("href", "xlink:href"):
                assert value.startswith(("#", "data:,")), value
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="|url\()#([^")]+)', source)
    assert targets and set(targets) <= set(ids)


def assert_accessible(page: Page) -> None:
    """Checks that a screen reader and a keyboard find their way."""
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("main")[0]["id"] == "main" and page.all("a")[0]["href"] == "#main"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), levels
    tables = page.all("table")
    assert len(page.all("caption")) == len(tables)
    assert all("scope" in cell for cell in page.all("th"))
    regions = [div for div in page.all("div") if div.get("class") == "scroll"]
    assert len(regions) == len(tables)
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in regions)
    assert not [a for _, a in page.tags if a.get("tabindex", "0") != "0"]
    assert not [details for details in page.all("details") if "open" in details]
