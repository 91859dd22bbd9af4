"""The page of a report as HTML: every function takes plain text, escapes it and returns markup. Knows no training."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import cv2

from training.report_plots import Panel, draw

PICTURES = 4_000_000
"""Bytes that all pictures of a page may take together, as text."""
EFFORTS = ((3, 90), (2, 85), (1, 85), (1, 60))
"""(steps shown of a stage, WebP quality) that are tried in turn until the pictures fit."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d232a; --quiet: #5a6572; --ground: #ffffff; --card: #f4f6f8;
  --line: #d5dae0; --good: #1b7a3d; --bad: #b3261e; --note: #fff4d6; --link: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --quiet: #9aa5b1; --ground: #14181c; --card: #1d2329;
  --line: #353d46; --good: #63c584; --bad: #f0827a; --note: #3a3015; --link: #7fb2f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 0 16px 48px; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 24px 0 8px; } h2 { font-size: 1.3rem; margin: 40px 0 8px; }
h3 { font-size: 1rem; margin: 24px 0 8px; } p { margin: 8px 0; max-width: 75ch; } a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 8px 0; border-bottom: 1px solid var(--line); }
.quiet, figcaption { color: var(--quiet); font-size: .875rem; }
.facts { display: flex; flex-wrap: wrap; gap: 8px; margin: 16px 0; }
.facts div { min-width: 8rem; background: var(--card); border-radius: 6px; padding: 8px 12px; }
.facts dt { color: var(--quiet); font-size: .8rem; } .facts dd { margin: 0; font-weight: 600; }
.note { background: var(--note); border-radius: 6px; padding: 8px 12px 8px 32px; margin: 8px 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
figure { margin: 0; min-width: 0; } .plot { background: var(--card); border-radius: 6px; padding: 8px; }
.plot b { font-size: .9rem; } .plot svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; } .scroll img { display: block; max-width: none; margin: 8px 0 4px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: var(--quiet); }
.better { color: var(--good); } .worse { color: var(--bad); } .same { color: var(--quiet); }
.better, .worse, .same { font-size: .8rem; display: inline-block; min-width: 4.6em;
  padding-left: 4px; }
summary { cursor: pointer; margin: 16px 0 8px; } pre { font-size: .8rem; overflow-x: auto; background: var(--card);
  padding: 12px; border-radius: 6px; }
"""


class Cell(NamedTuple):
    """A number in a table, what it gained, and whether that is good (None: neither)."""

    value: str
    gain: str | None = None
    """"" keeps the room for one, so that values stand under each other."""
    good: bool | None = None


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document that loads nothing: the policy in its head forbids it even if a part asked."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(level: int, text: str, anchor: str = "") -> str:
    """A title; anchor: what `navigation` leads to."""
    name = f' id="{anchor_of(anchor)}"' if anchor else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def anchor_of(text: str) -> str:
    """A name for the inside of the page: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def navigation(names: Sequence[str]) -> str:
    """Links to headings by their anchors."""
    return "<nav>" + "".join(f'<a href="#{anchor_of(name)}">{escape(name)}</a>' for name in names) + "</nav>"


def paragraph(text: str, quiet: bool = False) -> str:
    """Plain text."""
    return f"<p{' class=quiet' if quiet else ''}>{escape(text)}</p>"


def notes(texts: Sequence[str]) -> str:
    """A list that asks to be read; nothing if there is nothing to say."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="note">{items}</ul>' if texts else ""


def listing(texts: Sequence[str]) -> str:
    """A plain list."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def facts(pairs: Mapping[str, str]) -> str:
    """Short facts as tiles."""
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs.items())
    return f'<dl class="facts">{tiles}</dl>'


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> str:
    """Rows of (name, cells); wider than a phone it scrolls by itself."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr><td>{escape(name)}</td>{''.join(map(_cell, cells))}</tr>" for name, cells in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    kind = {True: "better", False: "worse", None: "same"}[cell.good]
    gain = f'<span class="{kind}">{escape(cell.gain)}</span>' if cell.gain is not None else ""
    return f"<td>{escape(cell.value)}{gain}</td>"


def plots(panels: Sequence[Panel]) -> str:
    """Plots in as many columns as fit."""
    return '<div class="grid">' + "".join(map(_plot, panels)) + "</div>" if panels else ""


def _plot(panel: Panel) -> str:
    note = f"<figcaption>{escape(panel.note)}</figcaption>" if panel.note else ""
    return f'<figure class="plot"><b>{escape(panel.title)}</b>{draw(panel)}{note}</figure>'


def folded(title: str, parts: Sequence[str]) -> str:
    """What opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def preformatted(text: str) -> str:
    """Text as it is, in a typewriter's font."""
    return f"<pre>{escape(text)}</pre>"


# -- pictures ---------------------------------------------------------------------------------------------------


def pictures(samples: Mapping[str, Mapping[int, Mapping[str, Path]]], limit: int = PICTURES) -> dict[str, str]:
    """Sample strips of each stage as markup, together within `limit` bytes as long as one step of each fits.

    samples: files by stage, step and name. The first, middle and last step are shown, fewer where there is no room.
    """
    for steps, quality in EFFORTS:
        shown = {stage: _strips(by_step, steps, quality) for stage, by_step in samples.items()}
        if sum(map(len, shown.values())) <= limit:
            return shown
    return {stage: _strips(by_step, 1, 60, names=2) for stage, by_step in samples.items()}


def _strips(by_step: Mapping[int, Mapping[str, Path]], steps: int, quality: int, names: int | None = None) -> str:
    chosen = spread(sorted(by_step), steps)
    every = list(dict.fromkeys(name for step in chosen for name in sorted(by_step[step])))[:names]
    return "".join(
        _strip(by_step[step][name], f"{name}, step {step}", quality)
        for name in every
        for step in chosen
        if name in by_step[step]
    )


def spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps: the last one always, then the first, then those between."""
    if len(steps) <= count:
        return list(steps)
    if count == 1:
        return [steps[-1]]
    return [steps[round(n * (len(steps) - 1) / (count - 1))] for n in range(count)]


def _strip(path: Path, caption: str, quality: int) -> str:
    data = _webp(path, quality)
    if data is None:
        return paragraph(f"{caption}: {path.name} is no picture that can be read.", quiet=True)
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    image = f'<div class="scroll"><img src="{source}" alt="{escape(caption)}"></div>'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _webp(path: Path, quality: int) -> bytes | None:
    try:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            return None
        return bytes(cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1])
    except cv2.error:
        return None
