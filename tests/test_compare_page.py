"""The page of a comparison in a real browser: right pixels, keys, pointer, finger, both colour schemes, no network."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import Browser, browser_path
from comparison_files import Picture, large_pictures, small_pictures, write_clip

from duovsr_vs.compare.comparison import Comparison, make
from duovsr_vs.compare.gather import entry_of
from duovsr_vs.compare.moments import Moment
from duovsr_vs.compare.preview import preview_page

pytestmark = pytest.mark.skipif(browser_path() is None, reason="there is no Chromium on the PATH")
CROP = (160, 112)
DESKTOP, PHONE = (1000, 700), (390, 800)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three clips and four frames; the first clip is smaller, the third is the second upside down."""
    folder = tmp_path_factory.mktemp("page")
    large = large_pictures(8)
    turned = [np.ascontiguousarray(picture[::-1]) for picture in large]
    names = [folder / name for name in ("a small <b>&amp;.mkv", "large.mkv", "turned.mkv")]
    for name, film in zip(names, (small_pictures(large), large, turned), strict=True):
        write_clip(name, film, pix_fmt="bgr0")
    crop = f"{CROP[0]}x{CROP[1]}+40+30"
    request = Comparison(paths=[str(n) for n in names], kind="page", frames=4, crop=crop, lossless=True)
    (folder / "page.html").write_bytes(make(request).data)
    return folder / "page.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, pictures: Path) -> Browser:
    """The page as it opens on a desktop, its pictures decoded."""
    return opened(chromium, pictures, DESKTOP)


def opened(browser: Browser, path: Path, size: tuple[int, int], **more: Any) -> Browser:
    browser.screen(*size, **more)
    browser.open(path)
    browser.value("duovsrCompare.ready()")
    return browser


def state(page: Browser) -> dict[str, Any]:
    return dict(page.value("duovsrCompare.state"))


def frame_number(page: Browser) -> int:
    """As a person reads it."""
    found = re.match(r"frame (\d+),", page.value("document.getElementById('where').textContent"))
    assert found
    return int(found[1])


def image(page: Browser, clip: int, frame: int) -> Picture:
    """A picture of the page's data, (h, w, 3)."""
    uri = page.value(f"JSON.parse(document.getElementById('data').textContent).frames[{frame}].images[{clip}]")
    return decoded(uri)


def decoded(uri: str) -> Picture:
    data = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
    picture: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(picture[..., ::-1])


def canvas(page: Browser) -> Picture:
    """What the canvas shows, in device pixels."""
    page.value("duovsrCompare.ready()")
    return decoded(page.value("document.getElementById('view').toDataURL('image/png')"))


def zoom(page: Browser, factor: int) -> None:
    page.value(f"document.querySelector('[data-zoom=\"{factor}\"]').click()")


def test_the_page_needs_nothing_and_says_what_it_shows(page: Browser) -> None:
    assert page.errors == []
    assert page.requests == []
    assert page.value("document.title") == "a small <b>&amp;.mkv / large.mkv / turned.mkv"
    assert page.value("document.querySelector('h1').textContent") == page.value("document.title")
    text = page.value("document.body.innerText")
    for words in (
        "4 frames of 0 to 7",
        "part 160x112+40+30 of 256x192",
        "Shrink-back",
        "Over time",
        "Enlarged to 256x192",
    ):
        assert words in text
    assert page.value("document.querySelectorAll('svg.plot').length") == 4
    assert page.value("document.querySelectorAll('.strip img').length") == 3
    assert page.value("document.querySelectorAll('tbody tr').length") == 3


def test_everything_has_a_name_for_those_who_do_not_see_it(page: Browser) -> None:
    nodes = page.accessible()
    roles = {"slider", "button", "combobox", "image", "table", "region", "status"}
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    named = [(role, name) for role, name in found if role in roles]
    assert {role for role, _ in named} >= {"slider", "button", "combobox", "image"}
    assert not [role for role, name in named if not name and role in ("slider", "button", "combobox", "image")]
    assert any(name.startswith("Frame 0: left a small <b>&amp;.mkv, enlarged ×4, bicubic, right") for _, name in named)
    assert any(name.startswith("Shrink-back, dB: large.mkv from ") for _, name in named)


def test_keys_step_through_frames_and_choose_clips(page: Browser) -> None:
    numbers = [frame_number(page)]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"):
        page.press(key)
        numbers.append(frame_number(page))
    assert numbers == [0, 2, 5, 2, 7, 7, 0, 0]
    page.press("3")
    assert (state(page)["left"], state(page)["right"]) == (0, 2)
    page.press("2", shift=True)
    assert (state(page)["left"], state(page)["right"]) == (1, 2)
    page.press("9")  # there is no ninth clip
    page.press("s")
    assert (state(page)["left"], state(page)["right"]) == (2, 1)
    page.press("ArrowRight", shift=True)
    assert state(page)["split"] == pytest.approx(0.52)
    assert page.value("document.getElementById('tag-left').textContent") == "turned.mkv"


def test_arrows_on_a_slider_move_that_slider_alone(page: Browser) -> None:
    page.value("document.getElementById('split').focus()")
    page.press("ArrowRight")
    assert (frame_number(page), state(page)["split"]) == (0, pytest.approx(0.505))
    page.value("document.getElementById('frame').focus()")
    page.press("ArrowRight")
    assert frame_number(page) == 2


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_each_pixel_of_a_picture_is_a_square_of_pixels_on_the_screen(
    factor: int, scale: int, chromium: Browser, pictures: Path
) -> None:
    page = opened(chromium, pictures, (460, 900), scale=scale)
    page.press("ArrowRight")
    page.press("2", shift=True)
    page.press("3")
    zoom(page, factor)
    shown, at = canvas(page), page.value("duovsrCompare.layout()")
    assert shown.shape[1] == scale * page.value("document.getElementById('stage').clientWidth")
    split = round(shown.shape[1] * 0.5)
    for clip, columns in ((1, slice(0, split - 40)), (2, slice(split + 40, None))):
        whole = image(page, clip, 1).repeat(factor, 0).repeat(factor, 1)
        wanted = np.zeros_like(shown)
        top, left = int(at["top"]), int(at["left"])
        part = whole[max(-top, 0) :, max(-left, 0) :][: shown.shape[0] - max(top, 0), : shown.shape[1] - max(left, 0)]
        wanted[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]] = part
        assert np.array_equal(shown[:, columns], wanted[:, columns])


def stage(page: Browser) -> dict[str, float]:
    page.value("document.getElementById('view').scrollIntoView({block: 'center'})")
    box = page.value("JSON.stringify(document.getElementById('view').getBoundingClientRect())")
    return dict(json.loads(box))


@pytest.mark.parametrize("touch", [False, True])
def test_the_divider_follows_pointer_and_finger(touch: bool, chromium: Browser, pictures: Path) -> None:
    page = opened(chromium, pictures, PHONE if touch else DESKTOP, touch=touch)
    zoom(page, 0)
    box = stage(page)
    x, y, width = box["x"], box["y"] + box["height"] / 2, box["width"]
    points = [(x + width * share, y) for share in (0.5, 0.4, 0.3, 0.25)]
    page.drag(*points, touch=touch)
    assert state(page)["split"] == pytest.approx(0.25, abs=0.03)
    shown, split = canvas(page), state(page)["split"]
    page.press("1")
    same = canvas(page)
    border = round(shown.shape[1] * split)
    assert np.array_equal(shown[:, : border - 40], same[:, : border - 40])
    assert not np.array_equal(shown[:, border + 40 :], same[:, border + 40 :])


@pytest.mark.parametrize("touch", [False, True])
def test_a_picture_larger_than_its_window_is_moved_and_never_lost(
    touch: bool, chromium: Browser, pictures: Path
) -> None:
    page = opened(chromium, pictures, (300, 800), touch=touch)
    zoom(page, 4)
    assert page.value("duovsrCompare.layout().pans")
    box = stage(page)
    x, y = box["x"] + box["width"] * 0.85, box["y"] + box["height"] * 0.7
    page.drag((x, y), (x - 20, y), (x - 40, y - 8), touch=touch)
    moved = state(page)
    assert (moved["split"], moved["x"], moved["y"]) == (0.5, pytest.approx(-40 / 4), pytest.approx(-8 / 4))
    for _ in range(4):
        page.drag((x, y), (x - 90, y - 60), (x - 180, y - 120), touch=touch)
    at = page.value("duovsrCompare.layout()")
    assert at["left"] == at["width"] - CROP[0] * 4
    assert at["top"] == at["height"] - CROP[1] * 4


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size, touch", [(DESKTOP, False), (PHONE, True)])
def test_it_can_be_read_in_light_and_dark_and_on_a_phone(
    size: tuple[int, int], touch: bool, dark: bool, chromium: Browser, pictures: Path, tmp_path: Path
) -> None:
    page = opened(chromium, pictures, size, touch=touch, dark=dark)
    assert page.value("document.documentElement.scrollWidth") <= size[0], "nothing hangs over the side"
    card = luminance(page.value("getComputedStyle(document.querySelector('section')).backgroundColor"))
    assert card < 0.1 if dark else card > 0.8
    for selector in ("section h2", ".soft", "thead th", "figcaption", ".notes", "button"):
        ink = luminance(page.value(f"getComputedStyle(document.querySelector('section {selector}, {selector}')).color"))
        high, low = max(ink, card), min(ink, card)
        assert (high + 0.05) / (low + 0.05) > 4.5, selector
    for n in range(3):
        line = luminance(page.value(f"getComputedStyle(document.querySelector('line.c{n}')).stroke"))
        assert (max(line, card) + 0.05) / (min(line, card) + 0.05) > 3
    shot: Any = cv2.imread(str(page.screenshot(tmp_path / "page.png")))
    assert (shot.mean() < 110) if dark else (shot.mean() > 150)
    buttons = page.value("[...document.querySelectorAll('button')].map(b => b.getBoundingClientRect().height)")
    assert min(buttons) >= 32, "large enough for a finger"


def test_the_shown_frame_is_marked_in_plots_and_profiles(page: Browser) -> None:
    page.press("End")
    line = "document.querySelector('svg.plot .now').getAttribute('x1')"
    assert float(page.value(line)) == float(page.value("document.querySelector('svg.plot').dataset.x1"))
    assert page.value("document.querySelector('.strip i').style.left") == "93.75%"


def test_a_preview_has_a_button_for_each_place_and_marks_only_its_profiles(chromium: Browser, tmp_path: Path) -> None:
    large = large_pictures(12)
    source = entry_of(str(write_clip(tmp_path / "small.mkv", small_pictures(large), pix_fmt="bgr0")), "small", "source")
    made = []
    for name, first in (("near the beginning", 1), ("most motion", 7)):
        clip = write_clip(tmp_path / f"{first}.mkv", large[first : first + 5], pix_fmt="bgr0")
        made.append((Moment(name, first, first + 5), entry_of(str(clip), "large", "clip", first=first)))
    html = tmp_path / "preview.html"
    html.write_bytes(preview_page(source, made, "Preview", "About <b>two minutes</b>.", ["a note"]))
    page = opened(chromium, html, DESKTOP)
    assert page.value("document.querySelector('header p').textContent") == "About <b>two minutes</b>."
    assert page.value("[...document.querySelectorAll('#parts button')].map(b => b.textContent)") == [
        "near the beginning",
        "most motion",
    ]
    marks = "[...document.querySelectorAll('.strip i')].map(mark => mark.checkVisibility())"
    assert page.value(marks) == [True, True, False, False]
    page.value("document.querySelectorAll('#parts button')[1].click()")
    assert frame_number(page) == 7 and page.value(marks) == [False, False, True, True]
    assert page.value("document.getElementById('where').textContent").startswith("frame 7, 0.280 s, most motion (5 of")
    pressed = "[...document.querySelectorAll('#parts button')].map(b => b.getAttribute('aria-pressed'))"
    assert page.value(pressed) == ["false", "true"]
    page.press("ArrowLeft")
    assert frame_number(page) == 5 and page.value(pressed) == ["true", "false"]
    zoom(page, 1)
    wanted, shown = image(page, 1, 3), canvas(page)
    assert np.abs(wanted.astype(int) - large[5][: wanted.shape[0], : wanted.shape[1]]).mean() < 3, "frame 5 of the clip"
    split = round(shown.shape[1] * 0.5) + 40
    left = int(page.value("duovsrCompare.layout()")["left"])
    assert np.array_equal(shown[:, split : left + 256], wanted[: shown.shape[0], split - left :])


def test_a_page_of_one_part_has_no_buttons_for_places(page: Browser) -> None:
    assert page.value("document.getElementById('parts').checkVisibility()") is False
