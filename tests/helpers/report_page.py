"""Parser of report pages, which separates visible text from folded text."""

import html.parser

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
