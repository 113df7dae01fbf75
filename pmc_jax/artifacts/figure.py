"""Draws figures in one style, as SVG for web pages and as PNG files.

A figure has panels, and a panel has layers of the types `Line`, `Band` and `Level`. matplotlib
draws the figures. Fonts, unused ids and metadata are removed from SVG, and colours become CSS
variables, so that one drawing suits the light page, the dark page and paper.
"""

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Palette = Mapping[str, str]  # This type maps names of CSS variables to colours.

# The light page and all PNG files have these colours.
LIGHT: Palette = {
    "paper": "#ffffff",
    "ink": "#1c2127",
    "muted": "#555e68",
    "rule": "#d6dbe0",
    "before": "#8f4a00",
    "after": "#0b57a4",
    "reference": "#1a6e30",
    "run1": "#0b57a4",
    "run2": "#8f4a00",
    "run3": "#6b2c91",
    "run4": "#1a6e30",
    "run5": "#a3143b",
    "run6": "#4d5560",
}
RUN_COLOURS = 6
MIN_POINTS = 3  # A page shows a sentence in place of a figure with fewer points.
# matplotlib draws SVG in these colours, which CSS variables of the page then replace.
_PLACEHOLDERS: Palette = {name: f"#0000{i:02x}" for i, name in enumerate(LIGHT, 1)}
_FONT = 12.5
_TICKS = (1, 2, 2.5, 5, 10)
_DASHES = {
    "solid": "-",
    "dashed": (0, (5, 3)),
    "dotted": (0, (1.5, 2.5)),
    "mixed": (0, (6, 2, 1, 2)),
    "none": "none",
}


@dataclass(frozen=True)
class Line:
    """Layer of a panel that shows a line, points or the outline of a histogram.

    Attributes:
        label: text in the legend; "" omits the layer from the legend.
        x, y: coordinates of the points. For a histogram, x holds the edges of the bins and y holds
            the height of each bin.
        colour: name of a colour in the palette.
        dash: style of the line (solid | dashed | dotted | mixed | none).
        marker: marker of the points in matplotlib's notation; "" omits markers.
        size: size of the markers in points.
        width: width of the line in points.
        alpha: opacity from 0 to 1.
        errors: half lengths of the error bars along x and y; None omits error bars.
        steps: whether to draw the outline of a histogram.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "solid"
    marker: str = ""
    size: float = 6.0
    width: float = 2.0
    alpha: float = 1.0
    errors: tuple[float, float] | None = None
    steps: bool = False

    def draw(self, axes: Any, colours: Palette) -> None:
        style = {"color": colours[self.colour], "label": self.label or None, "alpha": self.alpha}
        style |= {"linestyle": _DASHES[self.dash], "linewidth": self.width}
        if self.steps:
            axes.stairs(self.y, self.x, baseline=None, **style)
            return
        if self.errors is not None:
            (dx, dy), bars = self.errors, {"elinewidth": 1.4, "capsize": 2.5, "fmt": "none"}
            axes.errorbar(self.x, self.y, dy, dx, ecolor=colours[self.colour], **bars)
        style |= {"marker": self.marker or None, "markersize": self.size, "markeredgewidth": 0}
        axes.plot(self.x, self.y, **style)


@dataclass(frozen=True)
class Band:
    """Layer of a panel that fills the area between the curves `low` and `high`, which share `x`."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: str
    alpha: float = 0.18
    label: str = ""

    def draw(self, axes: Any, colours: Palette) -> None:
        style = {"color": colours[self.colour], "alpha": self.alpha, "linewidth": 0}
        axes.fill_between(self.x, self.low, self.high, label=self.label or None, **style)


@dataclass(frozen=True)
class Level:
    """Layer with a horizontal line at a y value, or with a vertical line at an x value."""

    value: float
    colour: str
    dash: str = "dashed"
    vertical: bool = False
    label: str = ""

    def draw(self, axes: Any, colours: Palette) -> None:
        style = {"color": colours[self.colour], "linestyle": _DASHES[self.dash], "linewidth": 1.5}
        draw = axes.axvline if self.vertical else axes.axhline
        draw(self.value, label=self.label or None, **style)


@dataclass(frozen=True)
class Panel:
    """Pair of axes on which layers are drawn.

    Attributes:
        layers: layers in the order in which they are drawn.
        x, y: labels of the axes; "" omits a label.
        title: text above the panel.
        bounds: lower and upper limit of the y axis, which a logarithmic axis ignores. A limit of
            None follows from the data. If `bounds` itself is None, the data have a margin on all
            four sides.
        log: whether the y axis is logarithmic.
    """

    layers: Sequence[Line | Band | Level]
    x: str
    y: str
    title: str = ""
    bounds: tuple[float | None, float | None] | None = (0, None)
    log: bool = False

    def draw(self, axes: Any, colours: Palette) -> None:
        from matplotlib.ticker import MaxNLocator

        for layer in self.layers:
            layer.draw(axes, colours)
        axes.set(xlabel=self.x, ylabel=self.y)
        axes.set_title(self.title, loc="left", fontweight="bold", fontsize=_FONT + 1)
        if self.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif self.layers:
            axes.yaxis.set_major_locator(MaxNLocator(6, steps=_TICKS))
        axes.margins(x=0.02)
        if self.bounds is None:
            axes.margins(0.09)
        elif not self.log and self.layers:
            axes.set_ylim(*self.bounds)
        lines = [layer for layer in self.layers if isinstance(layer, Line)]
        whole = all(float(x).is_integer() and not line.steps for line in lines for x in line.x)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_TICKS, integer=whole))
        both = "both" if self.bounds is None else "y"
        axes.grid(axis=both, color=colours["rule"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True)
class Figure:
    """Figure with one or more panels, which is drawn on request as SVG or PNG.

    Attributes:
        name: name that is unique on a page; ids in the SVG begin with this name.
        title, caption: texts for the page.
        panels: panels, ordered by row.
        alt: text that states the content of the figure without the drawing; "" selects the caption.
        size: width and height in units of 1/72 inch. The default fits the screen of a phone.
        columns: number of columns of panels.
        share_x: whether the panels of a column share the x axis.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    alt: str = ""
    size: tuple[int, int] = (420, 270)
    columns: int = 1
    share_x: bool = False

    @property
    def sentence(self) -> str:
        """Text that a page shows in place of the drawing."""
        return self.alt or self.caption

    @property
    def is_drawn(self) -> bool:
        """Whether the figure has enough points for a page to show the drawing."""
        lines = [
            layer for panel in self.panels for layer in panel.layers if isinstance(layer, Line)
        ]
        return num_points(lines) >= MIN_POINTS

    @property
    def svg(self) -> str:
        """Drawing as an `<svg>` element, which takes its colours from the page."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        file = io.StringIO()
        self._save(file, FigureCanvasSVG, _PLACEHOLDERS, 72, format="svg", transparent=True)
        return _for_page(file.getvalue(), self)

    def png(self, dpi: int = 144) -> bytes:
        """Returns the content of a PNG file in the colours of the light page."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        file = io.BytesIO()
        paper = LIGHT["paper"]
        self._save(file, FigureCanvasAgg, LIGHT, dpi, format="png", facecolor=paper)
        return file.getvalue()

    def drawn(self) -> "MatplotlibFigure":
        """Returns a figure of matplotlib in the colours of the light page."""
        import matplotlib

        with matplotlib.rc_context(_style(LIGHT)):
            return self._drawn(LIGHT, 100)

    def _save(self, file: Any, canvas: type, colours: Palette, dpi: int, **how: Any) -> None:
        import matplotlib

        with matplotlib.rc_context(_style(colours)):
            figure = self._drawn(colours, dpi)
            canvas(figure)
            # With a layout engine, `savefig` would draw the figure twice.
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine(None)
            figure.savefig(file, dpi=dpi, **how)

    def _drawn(self, colours: Palette, dpi: int) -> "MatplotlibFigure":
        from matplotlib.figure import Figure as Canvas

        inches = self.size[0] / 72, self.size[1] / 72
        figure = Canvas(figsize=inches, dpi=dpi, layout="constrained")
        rows = len(self.panels) // self.columns
        share = "col" if self.share_x else False
        all_axes = figure.subplots(rows, self.columns, sharex=share, squeeze=False).flat
        for panel, axes in zip(self.panels, all_axes, strict=True):
            panel.draw(axes, colours)
            if self.share_x and not axes.get_subplotspec().is_last_row():
                axes.set_xlabel("")
            entries = len(axes.get_legend_handles_labels()[1])
            if entries > 1 and len(self.panels) > 1:
                paper = {"facecolor": colours["paper"], "edgecolor": "none"}
                axes.legend(loc="best", framealpha=0.85, fontsize=_FONT - 1, **paper)
            elif entries > 1:
                room = {"handlelength": 2.4, "columnspacing": 1.2, "borderaxespad": 0.2}
                look = {"frameon": False, "fontsize": _FONT - 0.5} | room
                columns = 2 if entries == 4 else 3
                figure.legend(loc="outside upper left", ncols=columns, **look)
        figure.align_ylabels()
        return figure


def num_points(lines: Sequence[Line]) -> int:
    """Returns the number of points in a figure.

    A page shows only drawings with enough points. The result is the larger of two numbers: the
    finite points of the longest line, and the distinct points of all layers without a line.
    """
    longest, scattered = 0, set()
    for line in lines:
        if line.dash == "none":
            scattered |= set(zip(line.x, line.y, strict=True))
        else:
            longest = max(longest, sum(map(math.isfinite, line.y)))
    return max(longest, len(scattered))


def spread_band(
    x: Sequence[float], y: Sequence[float], spread: Sequence[float], colour: str
) -> Band:
    """Returns a band around a line, from max(0, y - spread) to y + spread at each x."""
    low = [max(value - s, 0.0) for value, s in zip(y, spread, strict=True)]
    high = [value + s for value, s in zip(y, spread, strict=True)]
    return Band(x, low, high, colour)


def _style(colours: Palette) -> dict[str, Any]:
    ink = ("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "text.color")
    muted = ("axes.edgecolor", "xtick.color", "ytick.color")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "pmc",
        "path.simplify_threshold": 0.5,
        "font.family": "sans-serif",
        "font.size": _FONT,
        **dict.fromkeys(ink, colours["ink"]),
        **dict.fromkeys(muted, colours["muted"]),
    }


def _for_page(svg: str, figure: Figure) -> str:
    """Returns an SVG drawing without invisible parts and with unique ids and the page's colours."""
    for part in (r"<metadata>.*?</metadata>", r"<style .*?</style>", r"<!--.*?-->"):
        svg = re.sub(part, "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    body = re.sub(r"^.*?<svg[^>]*>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    prefix = f"plot-{figure.name}-"
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", body)
    body = body.replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    body = re.sub(r"<[^>]+>", lambda tag: _short(tag[0]), body)
    for name, colour in _PLACEHOLDERS.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", body))
    label = html.escape(figure.sentence)
    width, height = figure.size
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return (head + body).strip()


def _short(tag: str) -> str:
    """Returns an SVG tag without its font and with coordinates rounded to a tenth of a unit."""
    tag = re.sub(r" font-family: [^;]*;", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    return re.sub(r"(?<![\w#])-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}", tag)
