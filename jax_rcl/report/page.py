"""A page about a run: one file that opens anywhere, offline, years later."""

import base64
import html
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from jax_rcl.report.figures.curves import History, available, curves
from jax_rcl.report.figures.drawing import to_png
from jax_rcl.report.tables import group_numbers, is_share

logger = logging.getLogger(__name__)

_HEAVY = 500_000  # Bytes of a picture above which it is embedded at half the scale.
_HEADLINES = 4

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --soft: #59636e;
  --line: #d9dee3; --tint: #f6f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1318; --ink: #e6e9ed;
  --soft: #9aa3ad; --line: #2c333b; --tint: #171c22; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%; }
main { max-width: 848px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; }
h2 { font-size: 19px; line-height: 1.3; margin: 0 0 12px; }
section, details { margin-top: 48px; }
section > p { margin: -6px 0 16px; color: var(--soft); max-width: 64ch; }
pre, code { font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono",
  monospace; }
pre { margin: 0; padding: 12px 16px; background: var(--tint); border-radius: 8px;
  overflow-x: auto; }
.headlines { display: grid; gap: 16px; margin: 32px 0 0;
  grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.headlines div { padding: 16px 18px; background: var(--tint); border-radius: 10px;
  display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.headlines dd { margin: 0; font-size: 34px; line-height: 1.2; font-weight: 650;
  color: var(--accent); font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }
.headlines dt { color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
.facts { display: grid; gap: 12px 24px; margin: 32px 0 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 150px), 1fr)); }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { margin: 0; font-size: 15px; overflow-wrap: anywhere; }
.curves { display: grid; gap: 24px 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
img { display: block; max-width: 100%; height: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: left; vertical-align: top; padding: 8px 20px 8px 0; }
th { font-weight: 600; white-space: nowrap; }
thead th { color: var(--soft); font-size: 13px; font-weight: 500; }
tbody.group { border-top: 1px solid var(--line); }
td.number, thead th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
td.protocol { color: var(--soft); min-width: 220px; padding-right: 0; }
details { border-top: 1px solid var(--line); padding-top: 16px; }
summary { cursor: pointer; font-weight: 600; margin-bottom: 12px; }
@media (max-width: 560px) { main { padding: 28px 16px 48px; } h1 { font-size: 25px; }
  .headlines { grid-template-columns: 1fr 1fr; gap: 10px; }
  .headlines div { padding: 12px 14px; } .headlines dd { font-size: 27px; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<pre><code>{command}</code></pre>
</header>
{headlines}
{facts}
{curves}
{pictures}
{table}
<details>
<summary>Configuration</summary>
<pre><code>{config}</code></pre>
</details>
</main>
</body>
</html>
"""


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    config_json: str,
    results: Mapping[str, float],
    protocols: Mapping[str, str],
    history: History,
    figures: Mapping[str, Figure],
    facts: Mapping[str, str],
    command: str,
    steps_per_epoch: int | None = None,
) -> None:
    """Writes a page that holds everything, pictures included, and loads nothing.

    What is empty is left out. The file appears whole or not at all. One number of each
    of the first four evaluators stands at the top, shares before others. In captions of
    `figures`, what stands before the first colon is the heading. `facts` are device,
    date, versions and the like; `command` is what to type to go on with this run. With
    `steps_per_epoch` the curves count epochs.
    """
    pictures = "".join(_picture(caption, figure) for caption, figure in figures.items())
    text = _PAGE.format(
        style=_STYLE,
        title=_text(title),
        command=html.escape(command),
        headlines=_headlines(results, protocols),
        facts=_pairs("facts", list(facts.items())),
        curves=_curves(history, steps_per_epoch),
        pictures=pictures,
        table=_table(results, protocols),
        config=html.escape(config_json),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(beside, path)


def _text(words: str) -> str:
    """Escaped, with numbers kept on the line of their percent sign."""
    return html.escape(words).replace(" %", "\u00a0%")


def _headlines(results: Mapping[str, float], protocols: Mapping[str, str]) -> str:
    """One number of each evaluator, large; only shares, if there are any."""
    groups = group_numbers(results, protocols)
    shares = [group for group in groups if is_share(group.numbers[0][0])]
    pairs = [
        (f"{group.evaluator} {group.numbers[0][0]}".strip(), group.numbers[0][1])
        for group in (shares or groups)[:_HEADLINES]
    ]
    return _pairs("headlines", pairs)


def _pairs(kind: str, pairs: Sequence[tuple[str, str]]) -> str:
    """A description list; nothing for no pairs."""
    rows = "\n".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in pairs
    )
    return f'<dl class="{kind}">\n{rows}\n</dl>' if pairs else ""


def _curves(history: History, steps_per_epoch: int | None) -> str:
    """One picture per panel, so that they stand below each other on a phone."""
    images = []
    for panel in available(history):
        figure = curves(history, steps_per_epoch=steps_per_epoch, panels=(panel,))
        images.append(_image(f"curves: {panel}", figure))
    body = "\n".join(images)
    head = '<section>\n<h2>Curves</h2>\n<div class="curves">'
    return f"{head}\n{body}\n</div>\n</section>" if images else ""


def _picture(caption: str, figure: Figure) -> str:
    heading, _, text = caption.partition(": ")
    note = f"<p>{_text(text)}</p>\n" if text else ""
    image = _image(caption, figure)
    whole = f"<section>\n<h2>{_text(heading)}</h2>\n{note}{image}\n</section>\n"
    return whole if image else ""


def _image(caption: str, figure: Figure) -> str:
    """The figure at two pixels of the file per pixel of the page, or one if heavy.

    Nothing, with a warning, if it cannot be drawn: a page without it is still a page.
    """
    try:
        scale, png = 2, to_png(figure, scale=2)
        if len(png) > _HEAVY:
            scale, png = 1, to_png(figure, scale=1)
    except Exception as error:  # a library that draws may raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        # A log that cannot take a name would lose the warning.
        reason = said.encode("utf-8", "backslashreplace").decode("utf-8")
        logger.warning("left out of the page: %r does not draw (%s)", caption, reason)
        return ""
    # A PNG says its own size: bytes 16 to 24 are width and height.
    width, height = (side // scale for side in struct.unpack(">II", png[16:24]))
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<img alt="{_text(caption)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">'
    )


def _table(results: Mapping[str, float], protocols: Mapping[str, str]) -> str:
    """Every number, with the protocol that says what it means."""
    bodies = []
    for group in group_numbers(results, protocols):
        span = f' rowspan="{len(group.numbers)}"'
        first = f"<th{span}>{_text(group.evaluator)}</th>"
        last = f'<td class="protocol"{span}>{_text(group.protocol)}</td>'
        rows = [
            f'<td>{_text(name)}</td><td class="number">{_text(value)}</td>'
            for name, value in group.numbers
        ]
        rows[0] = first + rows[0] + last
        lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
        bodies.append(f'<tbody class="group">\n{lines}\n</tbody>')
    if not bodies:
        return ""
    head = '<th>Evaluator</th><th></th><th class="number">Result</th><th>Protocol</th>'
    body = "\n".join(bodies)
    return (
        f'<section>\n<h2>Results</h2>\n<div class="table">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n{body}\n</table>\n</div>\n</section>"
    )
