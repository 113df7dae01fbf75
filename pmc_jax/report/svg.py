"""Drawings as small SVG texts that take their colours and fonts from the page, or as PNG.

Drawn by matplotlib without its fonts, ids, scripts and metadata; colours are CSS variables, so
that one drawing serves the light page, the dark one and paper. What it does not know: what is
drawn.
"""

import functools
import importlib.resources
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_WIDTH, _HEIGHT = 420, 270  # units of the drawing; a phone shows it at nearly this size
_FONT = 12.5
_PNG_DOTS = 144  # an inch; a unit of the drawing is 1/72 of one
# What matplotlib draws with -> the page's variable.
_COLOURS = {
    "#000001": "--ink",
    "#000002": "--muted",
    "#000003": "--rule",
    "#000011": "--before",
    "#000012": "--after",
    "#000013": "--reference",
    "#000021": "--run1",
    "#000022": "--run2",
    "#000023": "--run3",
    "#000024": "--run4",
    "#000025": "--run5",
    "#000026": "--run6",
}
Palette = Mapping[str, str]  # name of a page variable -> colour
_BY_NAME: Palette = {variable.removeprefix("--"): colour for colour, variable in _COLOURS.items()}
_STEPS = (1, 2, 2.5, 5, 10)
RUNS = 6  # runs that have a colour of their own
_DASHES = {
    "solid": "-",
    "dashed": (0, (5, 3)),
    "dotted": (0, (1.5, 2.5)),
    "mixed": (0, (6, 2, 1, 2)),
}


@dataclass(frozen=True)
class Line:
    """One line of a drawing.

    Attributes:
        label: in the legend; "" = not in it.
        x, y: points; of `steps`, y has one less.
        colour: name of a page variable: before, after, reference, run1, ...
        dash: solid | dashed | dotted | mixed.
        spread: half the height of a band around the line, one a point; empty = none.
        points: the points are marked.
        mark: their shape, of matplotlib.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "solid"
    spread: Sequence[float] = ()
    points: bool = False
    mark: str = "o"


@dataclass(frozen=True)
class Mark:
    """A point of a drawing, with bars of its spread and the points that it is the mean of.

    Attributes:
        label: in the legend.
        x, y: the point.
        colour: name of a page variable.
        mark: shape, of matplotlib.
        spread: half the lengths of the bars, along x and y; None = no bars.
        others: (x, y) of smaller marks.
    """

    label: str
    x: float
    y: float
    colour: str
    mark: str
    spread: tuple[float, float] | None = None
    others: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Drawing:
    """A drawing, made when it is asked for.

    Attributes:
        name: one a page: its ids begin with it.
        alt: what it shows, for those who don't see it.
        height: in units, of which it is 420 wide.
        draw: (axes, colours) -> entries of the legend.
    """

    name: str
    alt: str
    height: int
    draw: Callable[[Axes, Palette], int]

    def svg(self) -> str:
        """An `<svg>` that takes its colours from the page."""
        file = io.StringIO()
        self._save(file, FigureCanvasSVG, _BY_NAME, format="svg", transparent=True)
        return _of_page(file.getvalue(), self)

    def png(self) -> bytes:
        """A file in the colours of the light page."""
        file, colours = io.BytesIO(), _light()
        paper = colours["paper"]
        self._save(file, FigureCanvasAgg, colours, format="png", dpi=_PNG_DOTS, facecolor=paper)
        return file.getvalue()

    def _save(self, file, canvas, colours: Palette, **how) -> None:
        with matplotlib.rc_context(_style(colours)):
            figure = Figure(figsize=(_WIDTH / 72, self.height / 72), layout="constrained")
            canvas(figure)
            axes = figure.subplots()
            shown = self.draw(axes, colours)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if shown > 1:
                figure.legend(
                    loc="outside upper left", ncols=2 if shown == 4 else 3, frameon=False,
                    handlelength=2.4, columnspacing=1.2, borderaxespad=0.2, fontsize=_FONT - 0.5,
                )  # fmt: skip
            figure.savefig(file, **how)


def curves(
    name: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    alt: str,
    bounds: tuple[float, float] | None = None,
    levels: Sequence[tuple[float, str]] = (),
    steps: bool = False,
    log: bool = False,
) -> Drawing:
    """A drawing of some lines.

    Args:
        name: of the drawing, one a page: its ids begin with it.
        x, y: labels of the axes.
        alt: what it shows, for those who don't see it.
        bounds: of the y axis; None = from 0 to a little above the largest value.
        levels: (value, colour) of dashed lines from side to side.
        steps: each y stands for the room between two x.
        log: the y axis is logarithmic.
    """
    whole = not steps and all(float(value).is_integer() for line in lines for value in line.x)

    def draw(axes: Axes, colours: Palette) -> int:
        for line in lines:
            _draw_line(axes, line, colours, steps)
        for value, colour in levels:
            axes.axhline(value, color=colours[colour], linestyle=_DASHES["dashed"], linewidth=1.6)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif bounds:
            axes.set_ylim(*bounds)
        else:
            axes.set_ylim(bottom=0.0)
        if not log:
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=whole))
        axes.grid(axis="y", color=colours["rule"], linewidth=0.8)
        return sum(bool(line.label) for line in lines)

    return Drawing(name, alt, _HEIGHT, draw)


def _draw_line(axes: Axes, line: Line, colours: Palette, steps: bool) -> None:
    colour = colours[line.colour]
    look = {"color": colour, "linestyle": _DASHES[line.dash]}
    look |= {"linewidth": 2.0, "label": line.label or None}
    if steps:
        axes.stairs(line.y, line.x, baseline=None, **look)
        return
    axes.plot(line.x, line.y, marker=line.mark if line.points else None, markersize=5, **look)
    if len(line.spread):
        low = [max(v - s, 0.0) for v, s in zip(line.y, line.spread, strict=True)]
        high = [v + s for v, s in zip(line.y, line.spread, strict=True)]
        axes.fill_between(line.x, low, high, color=colour, alpha=0.18, linewidth=0)


def scatter(
    name: str,
    marks: Sequence[Mark],
    *,
    x: str,
    y: str,
    alt: str,
    path: Sequence[tuple[float, float]] = (),
    level: tuple[float, str] | None = None,
) -> Drawing:
    """A drawing of some marks; the axes show what there is, with a little room.

    Args:
        path: corners of a thin line behind the marks.
        level: (x, colour) of a dashed line from below to above.
    """

    def draw(axes: Axes, colours: Palette) -> int:
        if path:
            axes.plot(*zip(*path, strict=True), color=colours["muted"], linewidth=1.2)
        if level:
            value, colour = level
            axes.axvline(value, color=colours[colour], linestyle=_DASHES["dashed"], linewidth=1.2)
        for mark in marks:
            colour = colours[mark.colour]
            for other in mark.others:
                axes.plot(*other, mark.mark, color=colour, markersize=4.5, alpha=0.45, mew=0)
            along, up = mark.spread or (None, None)
            axes.errorbar(
                mark.x, mark.y, up, along, fmt=mark.mark, color=colour, markersize=9,
                elinewidth=1.4, capsize=2.5, mew=0 if mark.mark not in "xX*" else 0.8,
                linestyle="none", label=mark.label,
            )  # fmt: skip
        axes.margins(0.09)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=_STEPS))
        axes.grid(color=colours["rule"], linewidth=0.8)
        return len(marks)

    return Drawing(name, alt, _HEIGHT + 70, draw)


def _style(colours: Palette) -> dict[str, object]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "pmc",
        "path.simplify_threshold": 0.5,
        "font.family": "sans-serif",
        "font.size": _FONT,
        "axes.edgecolor": colours["muted"],
        "axes.labelcolor": colours["ink"],
        "xtick.color": colours["muted"],
        "ytick.color": colours["muted"],
        "xtick.labelcolor": colours["ink"],
        "ytick.labelcolor": colours["ink"],
        "text.color": colours["ink"],
    }


@functools.cache
def _light() -> Palette:
    """The colours of the light page, which come first in its style."""
    style = (importlib.resources.files("pmc_jax.report") / "style.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style[: style.index("}")]))


def _of_page(svg: str, drawing: Drawing) -> str:
    """The drawing as it stands in a page: no more than is seen, and ids of its own."""
    name = drawing.name
    svg = svg[svg.index("<svg") :]
    for part in (r"<metadata>.*?</metadata>", r"<style .*?</style>", r"<!--.*?-->"):
        svg = re.sub(part, "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    body = svg[svg.index(">") + 1 :]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"<[^>]+>", lambda tag: _short(tag[0]), body)
    for colour, variable in _COLOURS.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    head = f'<svg viewBox="0 0 {_WIDTH} {drawing.height}" role="img"'
    return (f'{head} aria-label="{_quoted(drawing.alt)}">' + body).strip()


def _short(tag: str) -> str:
    """A tag without a font of its own and with coordinates to a tenth of a unit."""
    tag = re.sub(r" font-family: [^;]*;", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"(?<![\w#])-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}", tag)


def _quoted(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return text
