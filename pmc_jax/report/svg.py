"""Curves and steps as small SVG texts that take their colours and fonts from the page.

Drawn by matplotlib without its fonts, ids, scripts and metadata; colours are CSS variables, so
that one drawing serves the light page, the dark one and paper. What it does not know: what is
drawn.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_WIDTH, _HEIGHT = 420, 270  # units of the drawing; a phone shows it at nearly this size
_FONT = 12.5
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
_BY_NAME = {variable.removeprefix("--"): colour for colour, variable in _COLOURS.items()}
_STEPS = (1, 2, 2.5, 5, 10)
RUNS = 6  # runs that have a colour of their own
_DASHES = {
    "solid": "-",
    "dashed": (0, (5, 3)),
    "dotted": (0, (1.5, 2.5)),
    "mixed": (0, (6, 2, 1, 2)),
}

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pmc",
    "path.simplify_threshold": 0.5,
    "font.family": "sans-serif",
    "font.size": _FONT,
    "axes.edgecolor": _BY_NAME["muted"],
    "axes.labelcolor": _BY_NAME["ink"],
    "xtick.color": _BY_NAME["muted"],
    "ytick.color": _BY_NAME["muted"],
    "xtick.labelcolor": _BY_NAME["ink"],
    "ytick.labelcolor": _BY_NAME["ink"],
    "text.color": _BY_NAME["ink"],
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
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "solid"
    spread: Sequence[float] = ()
    points: bool = False


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
) -> str:
    """An `<svg>` of some lines.

    Args:
        name: of the drawing, one a page: its ids begin with it.
        x, y: labels of the axes.
        alt: what it shows, for those who don't see it.
        bounds: of the y axis; None = from 0 to a little above the largest value.
        levels: (value, colour) of dashed lines from side to side.
        steps: each y stands for the room between two x.
        log: the y axis is logarithmic.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for line in lines:
            look = {"color": _BY_NAME[line.colour], "linestyle": _DASHES[line.dash]}
            look |= {"linewidth": 2.0, "label": line.label or None}
            if steps:
                axes.stairs(line.y, line.x, baseline=None, **look)
                continue
            axes.plot(line.x, line.y, marker="o" if line.points else None, markersize=5, **look)
            if len(line.spread):
                low = [max(v - s, 0.0) for v, s in zip(line.y, line.spread, strict=True)]
                high = [v + s for v, s in zip(line.y, line.spread, strict=True)]
                axes.fill_between(
                    line.x, low, high, color=_BY_NAME[line.colour], alpha=0.18, linewidth=0
                )
        for value, colour in levels:
            axes.axhline(value, color=_BY_NAME[colour], linestyle=_DASHES["dashed"], linewidth=1.6)
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
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=not steps))
        axes.grid(axis="y", color=_BY_NAME["rule"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        shown = [line for line in lines if line.label]
        if len(shown) > 1:
            figure.legend(
                loc="outside upper left", ncols=2 if len(shown) == 4 else 3, frameon=False,
                handlelength=2.4, columnspacing=1.2, borderaxespad=0.2, fontsize=_FONT - 0.5,
            )  # fmt: skip
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    return _of_page(file.getvalue(), name, alt)


def _of_page(svg: str, name: str, alt: str) -> str:
    """The drawing as it stands in a page: no more than is seen, and ids of its own."""
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
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_quoted(alt)}">' + body
    ).strip()


def _short(tag: str) -> str:
    """A tag without a font of its own and with coordinates to a tenth of a unit."""
    tag = re.sub(r" font-family: [^;]*;", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"(?<![\w#])-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}", tag)


def _quoted(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return text
