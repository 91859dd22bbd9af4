"""The page of a preview: some moments of a film, the source enlarged by Lanczos beside what was made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .comparison import PAGE_CROP, Bounded
from .gather import Entry, View, gather
from .moments import Moment
from .page import Part, build_page
from .places import Interest, Stretch, evenly

PICTURES = 4
"""Of each moment."""


def preview_page(
    source: Entry,
    made: Sequence[tuple[Moment, Entry]],
    title: str,
    lead: str,
    notes: list[str],
    advance: Callable[[], None] = lambda: None,
) -> bytes:
    """An HTML file. made: moments and the clips made of them, which begin with their first frames.  lead: a sentence
    below the title.  notes: for the page's last section. Raises VideoError and FormatError.
    """
    shown, parts = Bounded(), []
    for moment, clip in made:
        view = _view(source, clip, moment)
        before = len(shown.frames)
        found = gather([source, clip], view, shown.add, advance)
        parts.append(Part(moment.name, view, found, len(shown.frames) - before))
    return build_page([source, made[0][1]], parts, shown, notes, title, lead).encode()


def _view(source: Entry, clip: Entry, moment: Moment) -> View:
    """Where most moves in that moment."""
    stretch = Stretch.of(moment.first, moment.stop, evenly(moment.first, moment.stop, PICTURES))
    with source.opened() as opened:
        interest = Interest.of(opened, stretch.shown)
    size = clip.width, clip.height
    crop = interest.crop(size, PAGE_CROP)
    return View(stretch, size, crop, interest.column(size, crop), "lanczos")
