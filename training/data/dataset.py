"""Training samples from a pack, as a pure function of (seed, step, slot): no epoch, no buffer, no state to resume.

Only the bytes of a crop are touched: arrays are views of memory maps, and a batch is copied once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import cv2
import numpy as np
import numpy.typing as npt

from training.data.arrays import F32, U8, generator
from training.data.degrade import KINDS, SCALE, Kind, degrade
from training.data.online import fresh_lr
from training.data.shards import ClipRow, array_at, open_shard, read_index
from training.data.sources import DataError

Sample = dict[str, Any]
Lot = tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]

KIND_WEIGHTS: dict[str, float] = {"clean": 0.4, "web": 0.3, "real": 0.3}
"""Shares of the LR kinds that follow the evaluation, unless others are asked for."""
WIDE_WEIGHTS: dict[str, float] = {"realbasicvsr": 0.5, "web_wide": 0.35, "clean": 0.15}
"""The same of a pack that stores wide kinds and neither `web` nor `real`."""
_CONTEXT = 1
"""LR frames given before the first and after the last frame asked for: what a model needs to see around its output."""
_CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip as read-only views, nothing copied until it is read."""

    row: ClipRow
    hr: U8
    """(t, h, w, 3) RGB."""
    lr: tuple[U8, ...]
    """Each (t, h/4, w/4, 3), kinds in row.lr_kinds; none where LR is made on line."""
    flow: npt.NDArray[np.float16]
    """(t-1, h/2, w/2, 2): (dx, dy) from frame t to t+1 in HR pixels, mean of each 2x2 block."""
    mask_bits: U8
    """(t-1, h/2, ceil(w/16)): 1 where forward and backward flow agree, packed along the width."""

    def of_kind(self, kind: str) -> list[U8]:
        """The LR versions of one kind; where none is stored, one made now, the same every time."""
        stored = [lr for lr, k in zip(self.lr, self.row.lr_kinds, strict=True) if k == kind]
        if stored:
            return stored
        own = int(generator(0, "of kind", self.row.source, self.row.look, self.row.first_frame).integers(2**62))
        return [degrade(np.ascontiguousarray(self.hr), cast(Kind, kind), own)[0]]


class PackedClips:
    """The clips of one split of a pack, by number and by draw.

    folder: what `pack` wrote. split: "train" or "val". DataError: no pack, an empty split, or a damaged shard, by name.
    """

    def __init__(self, folder: Path | str, split: str = "train"):
        self.folder, self.split = Path(folder), split
        rows, sizes, self.facts = read_index(self.folder)
        self.rows = [r for r in rows if r.split == split]
        if not self.rows:
            raise DataError(
                f"{self.folder} holds no clips of the split '{split}'; pack more sources, or another --val-share"
            )
        shards = {name: open_shard(self.folder / name, sizes[name]) for name in sorted({r.shard for r in self.rows})}
        self._clips = [_views(r, shards[r.shard]) for r in self.rows]
        self._lots: dict[tuple[bool, int, int], Lot] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def clip(self, i: int) -> Clip:
        """Whole arrays of clip i, for validation."""
        return self._clips[i]

    def _lot(self, is_video: bool, frames: int, patch: int) -> Lot:
        """Clip numbers of one sort into which so many frames of a patch fit, and the upper ends of their shares.

        A film's share is the root of its length, so that a long one does not crowd out the rest.
        """
        if (is_video, frames, patch) not in self._lots:
            fit = [i for i, r in enumerate(self.rows) if r.is_video == is_video and _fits(r, patch)]
            places = {i: n for i in fit if (n := self.rows[i].frames - frames + 1) > 0}
            total: Counter[str] = Counter()
            for i, n in places.items():
                total[self.rows[i].group] += n
            weight = np.array([n / np.sqrt(total[self.rows[i].group]) for i, n in places.items()])
            self._lots[is_video, frames, patch] = (
                np.array(list(places), np.intp),
                np.cumsum(weight) / weight.sum() if places else weight,
            )
        return self._lots[is_video, frames, patch]

    def _draw_clip(self, rng: np.random.Generator, video_share: float, frames: int, patch: int) -> int:
        is_video = bool(rng.random() < video_share)
        numbers, ends = self._lot(is_video, frames, patch)
        if not len(numbers):
            numbers, ends = self._lot(not is_video, frames, patch)
        if not len(numbers):
            self._refuse(frames, patch)
        return int(numbers[min(int(np.searchsorted(ends, rng.random(), "right")), len(numbers) - 1)])

    def require(self, frames: int, patch: int) -> None:
        """DataError: no clip is long and large enough for samples of so many frames of a patch."""
        if not any(len(self._lot(is_video, frames, patch)[0]) for is_video in (True, False)):
            self._refuse(frames, patch)

    def _refuse(self, frames: int, patch: int) -> NoReturn:
        """No clip is long and large enough."""
        fit = [r for r in self.rows if _fits(r, patch)]
        if not fit:
            largest = max(self.rows, key=lambda r: min(r.height, r.width))
            raise DataError(
                f"a patch of {patch} LR pixels does not fit into a clip of the split '{self.split}' of {self.folder}; "
                f"the largest is {largest.width // SCALE}x{largest.height // SCALE} ({largest.source}); use a smaller "
                "patch"
            )
        longest = max(r.frames for r in fit)
        raise DataError(
            f"{self.folder}: {frames} frames in a row are asked for, and the longest clip of the split "
            f"'{self.split}' has {longest}; ask for {longest} at most, or pack videos with longer shots"
        )

    def sample(
        self,
        seed: int,
        step: int,
        slot: int,
        patch: int,
        kinds: Mapping[str, float] | None = None,
        video_share: float = 0.5,
        frames: int = 2,
    ) -> Sample:
        """One crop of n = `frames` >= 2 neighbouring frames t … t+n-1 of a clip; p = patch, in LR pixels.

        lr (n+2, p, p, 3) uint8: frames t-1 … t+n, the clip's ends repeated.
        hr (n, 4p, 4p, 3) uint8: frames t … t+n-1.
        flow (n-1, 2, 4p, 4p) float32: dx, dy from each frame to the next in HR pixels.
        mask (n-1, 4p, 4p) uint8: 1 where the flow can be trusted and stays inside the crop.
        kind: number in degrade.KINDS. soft: the target itself lacks detail. is_video, clip (its number here), t.
        kinds: weights of the LR kinds; where LR is stored, those that are not are left out.
        The same arguments give the same sample, whatever was asked before.
        Clips shorter than n are not drawn; where one sort has none that is long enough, the other serves for both.
        """
        if frames < 2:
            raise DataError(f"frames={frames}: 2 or more neighbouring frames make a sample")
        rng = generator(seed, "sample", step, slot)
        i = self._draw_clip(rng, video_share, frames, patch)
        clip = self._clips[i]
        kind = _draw_kind(rng, kinds or _usual_weights(clip.row), clip.row)
        variants = clip.of_kind(kind) if clip.lr else []
        # Without stored LR every fourth HR pixel shows well enough where the frame is lively.
        lr = variants[int(rng.integers(len(variants)))] if variants else clip.hr[:, 2::SCALE, 2::SCALE]
        t = int(rng.integers(clip.row.frames - frames + 1))
        y, x = _draw_place(rng, lr[t], patch)
        out = _crop(clip, lr, t, y, x, patch, frames)
        if not variants:
            own = int(generator(seed, "lr", step, slot).integers(2**62))
            out["lr"] = fresh_lr(clip.hr, kind, _times(clip, t, frames), y, x, patch, own)
        out = _turn(out, *(bool(b) for b in rng.integers(0, 2, 3)))
        out["mask"] = out["mask"] & _stays_inside(out["flow"])
        out.update(kind=KINDS.index(kind), soft=clip.row.soft, is_video=clip.row.is_video, clip=i, t=t)
        return out

    def batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        patch: int,
        kinds: Mapping[str, float] | None = None,
        video_share: float = 0.5,
        first_slot: int = 0,
        frames: int = 2,
    ) -> dict[str, npt.NDArray[Any]]:
        """Samples of batch_size slots from first_slot on, stacked: lr (b, n+2, p, p, 3) and so on, contiguous."""
        slots = range(first_slot, first_slot + batch_size)
        samples = [self.sample(seed, step, slot, patch, kinds, video_share, frames) for slot in slots]
        return {key: np.stack([s[key] for s in samples]) for key in samples[0]}


def _views(row: ClipRow, shard: np.memmap[Any, np.dtype[np.uint8]]) -> Clip:
    t, h, w = row.frames, row.height, row.width
    low = (t, h // SCALE, w // SCALE, 3)
    return Clip(
        row,
        hr=array_at(shard, row.hr_offset, (t, h, w, 3), np.uint8),
        lr=tuple(array_at(shard, offset, low, np.uint8) for offset in row.lr_offsets),
        flow=array_at(shard, row.flow_offset, (t - 1, h // 2, w // 2, 2), np.float16),
        mask_bits=array_at(shard, row.mask_offset, (t - 1, h // 2, -(-w // 16)), np.uint8),
    )


def _usual_weights(row: ClipRow) -> Mapping[str, float]:
    stored = set(row.lr_kinds)
    return WIDE_WEIGHTS if stored & {"realbasicvsr", "web_wide"} and not stored & {"web", "real"} else KIND_WEIGHTS


def _draw_kind(rng: np.random.Generator, weights: Mapping[str, float], row: ClipRow) -> Kind:
    at_hand = row.lr_kinds or KINDS
    unknown = set(weights) - set(KINDS)
    names = [k for k in KINDS if weights.get(k, 0) > 0 and k in at_hand]
    if unknown or not names:
        raise DataError(f"LR kinds {dict(weights)}: give a weight above 0 to some of {', '.join(sorted(set(at_hand)))}")
    ends = np.cumsum([weights[k] for k in names])
    return names[min(int(np.searchsorted(ends, rng.random() * ends[-1], "right")), len(names) - 1)]


def _fits(row: ClipRow, patch: int) -> bool:
    return min(row.height, row.width) >= patch * SCALE


def _draw_place(rng: np.random.Generator, frame: U8, patch: int) -> tuple[int, int]:
    """Upper left corner of a crop of the LR frame: three times in four the liveliest of a few places, else any."""
    h, w = frame.shape[:2]
    ys, xs = rng.integers(0, h - patch + 1, _CANDIDATES), rng.integers(0, w - patch + 1, _CANDIDATES)
    best = 0
    if rng.random() < 0.75:
        looks = [frame[y : y + patch : 3, x : x + patch : 3, 1].std() for y, x in zip(ys, xs, strict=True)]
        best = int(np.argmax(looks))
    return int(ys[best]), int(xs[best])


def _times(clip: Clip, t: int, frames: int) -> list[int]:
    """Numbers of the LR frames t-1 … t+n, the clip's ends repeated."""
    return [min(max(n, 0), clip.row.frames - 1) for n in range(t - _CONTEXT, t + frames + _CONTEXT)]


def _crop(clip: Clip, lr: U8, t: int, y: int, x: int, patch: int, frames: int) -> Sample:
    """Lists of images: lr, hr, the planes dx, dy of each flow in turn, mask."""
    top, left, side = y * SCALE, x * SCALE, patch * SCALE
    half_y, half_x, half = top // 2, left // 2, side // 2
    pairs = range(t, t + frames - 1)
    flows = (clip.flow[n, half_y : half_y + half, half_x : half_x + half].astype(np.float32) for n in pairs)
    bits = clip.mask_bits[t : t + frames - 1, half_y : half_y + half, half_x // 8 : (half_x + half - 1) // 8 + 1]
    masks = np.unpackbits(bits, axis=-1)[..., half_x % 8 : half_x % 8 + half]
    return {
        "lr": [lr[n, y : y + patch, x : x + patch] for n in _times(clip, t, frames)],
        "hr": [clip.hr[n, top : top + side, left : left + side] for n in range(t, t + frames)],
        "flow": [plane for flow in flows for plane in _double(flow)],
        "mask": [mask.repeat(2, 0).repeat(2, 1) for mask in masks],
    }


def _double(flow: F32) -> list[F32]:
    """(h, w, 2) -> dx and dy (2h, 2w), linear between block centres; values stay, they are in HR pixels already."""
    h, w, _ = flow.shape
    twice: Any = cv2.resize(flow, (2 * w, 2 * h), interpolation=cv2.INTER_LINEAR)
    return [*cv2.split(twice)]


def _turn(s: Sample, across: bool, down: bool, swap: bool) -> Sample:
    """Mirror left-right, mirror top-bottom, exchange the axes; frames, flow and mask alike."""
    turned = {k: np.stack([_turn_image(i, across, down, swap) for i in s[k]]) for k in ("lr", "hr", "flow", "mask")}
    height, width = turned["flow"].shape[1:]
    flow = turned["flow"].reshape(-1, 2, height, width)
    if swap:
        flow = flow[:, ::-1]
    # Axes are exchanged last, so a mirrored direction is found where the exchange has put it.
    signs = np.array([-1 if across else 1, -1 if down else 1], np.float32)[:: -1 if swap else 1]
    return {**turned, "flow": flow * signs[:, None, None]}


def _turn_image(image: Any, across: bool, down: bool, swap: bool) -> Any:
    """The same for one image (h, w) or (h, w, 3), by OpenCV: ten times as fast as a strided copy."""
    if across or down:
        image = cv2.flip(image, -1 if across and down else int(across))
    return cv2.transpose(image) if swap else image


def _stays_inside(flow: F32) -> U8:
    """flow (n, 2, h, w) -> (n, h, w), 1 where p + flow(p) lies in the crop."""
    h, w = flow.shape[-2:]
    x = np.arange(w, dtype=np.float32) + flow[:, 0]
    y = np.arange(h, dtype=np.float32)[:, None] + flow[:, 1]
    inside: U8 = ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).astype(np.uint8)
    return inside
