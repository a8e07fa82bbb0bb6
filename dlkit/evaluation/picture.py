"""Charts as one SVG file of their own, for pages that cannot hold the report's HTML."""

import re

from dlkit.evaluation.markup import Markup
from dlkit.evaluation.page import style_sheet

GAP, HEAD = 24, 30


def picture(figures: Markup) -> str:
    """The figures of :func:`dlkit.evaluation.charts.line_chart` side by side, in the style of the report."""
    found = re.findall(r"<figcaption>(.*?)</figcaption>(<svg.*?</svg>)", str(figures), flags=re.DOTALL)
    x, height, placed = 0, 0, []
    for title, svg in found:
        width, tall = (int(n) for n in re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
        placed.append(f'<text x="{x + 40}" y="22" style="font: 600 15px sans-serif; fill: var(--ink)">{title}</text>')
        placed.append(svg.replace("<svg", f'<svg x="{x}" y="{HEAD}" width="{width}" height="{tall}"', 1))
        x, height = x + width + GAP, max(height, tall + HEAD + 10)
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x} {height}">'
    style = style_sheet().replace("<", "&lt;")
    ground = '<rect width="100%" height="100%" style="fill: var(--paper)"/>'
    return f"{frame}<style>{style}</style>{ground}{''.join(placed)}</svg>\n"
