"""Sets of clips to evaluate on, recognised by how they unpack: pairs, ground truth alone, LR alone, or a pack.

    SIDE/CLIP     UDM10, SPMCS, Vid4, YouHQ40 as they are repacked: GT/000/0001.png beside LQ, LR, BIx4, BDx4 …
    CLIP/SIDE     UDM10 and SPMCS as first published: car05_001/truth beside input4 or blur4
    CLIP          VideoLQ and AIGC60 (LR), or clips of one's own with --clips truth or --clips lr
    index.parquet a folder that `pack` wrote: its val split

A clip is a folder of pictures or a video file, at any depth. Where ground truth has no LR beside it, LR is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from duovsr_vs.errors import OptionError
from training.data.arrays import U8, generator
from training.data.dataset import PackedClips
from training.data.degrade import KINDS, SCALE, Kind, degrade
from training.data.shards import INDEX
from training.data.sources import DataError
from training.evaluation.footage import Footage, Stored, below, by_number

type Flat = Literal["truth", "lr"]

STANDARD: tuple[Kind, ...] = ("clean", "web", "real")
"""Kinds that are made where none lies ready and none is asked for."""

_TRUTH = re.compile(r"(?:gt|hr|hq|truth|ground_?truth)(?P<video>[_-]?videos?)?", re.IGNORECASE)
_LR = re.compile(
    r"(?:(?:lq|lr|input)(?:[_-]?x?(?P<scale>[2348]))?|(?:bi|bd|blur|bicubic|lr_bicubic)[_-]?x?(?P<named>[2348]))"
    r"(?P<video>[_-]?videos?)?",
    re.IGNORECASE,
)
_SETS: dict[str, Flat] = {"videolq": "lr", "aigc": "lr", "youhq": "truth", "udm10": "truth", "spmc": "truth"}
"""How the names of known sets begin -> what they hold where no folder says."""
_LAYOUTS = (
    "known layouts: GT/CLIP beside LQ/CLIP, LR/CLIP, BIx4/CLIP or BDx4/CLIP (UDM10, YouHQ40); CLIP/truth beside "
    "CLIP/input4 or CLIP/blur4 (SPMCS); CLIP alone with --clips truth or --clips lr (VideoLQ); a folder that `pack` "
    "wrote; each CLIP a folder of pictures or a video file"
)


@dataclass(frozen=True, slots=True)
class EvaluationClip:
    """One clip of a set."""

    name: str
    group: str
    """Clips of one group show the same film; the bootstrap draws groups."""
    truth: Footage | None
    lr: Mapping[str, Footage]
    """Ready-made LR by kind."""

    def read_truth(self, frames: int) -> U8 | None:
        """The first frames of the ground truth, (t, 4h, 4w, 3): up to 3 rows and columns beyond 4 h, 4 w are cut off,
        as all sets do that shrink by four. None where there is no ground truth."""
        if self.truth is None:
            return None
        clip = self.truth.read(frames)
        height, width = (size // SCALE * SCALE for size in clip.shape[1:3])
        return clip[:, :height, :width]

    def read_lr(self, kind: str, frames: int, truth: U8 | None, seed: int) -> U8:
        """LR of one kind, (t, h, w, 3): as the set has it, else made from `truth`; seeded by the clip's name.

        DataError where LR and ground truth do not belong together.
        """
        given = self.lr.get(kind)
        if given is None:
            assert truth is not None and kind in KINDS
            return degrade(truth, kind, int(generator(seed, "evaluate", self.name).integers(2**62)))[0]
        lr = given.read(frames)
        if truth is not None:
            self._check(kind, lr, truth)
        return lr

    def _check(self, kind: str, lr: U8, truth: U8) -> None:
        """DataError where frames or sizes do not fit."""
        assert self.truth is not None
        totals = [self.lr[kind].total, self.truth.total]
        low, high = (len(lr), len(truth)) if None in totals else totals
        if low != high:
            raise DataError(f"{kind} has {low} frames and the ground truth {high}; each needs the frames of the other")
        (h, w), (height, width) = lr.shape[1:3], truth.shape[1:3]
        if (h * SCALE, w * SCALE) != (height, width):
            raise DataError(
                f"{kind} is {w}x{h} and the ground truth {width}x{height}; an LR of {width // SCALE}x{height // SCALE} "
                f"or a ground truth of {w * SCALE}x{h * SCALE} is needed"
            )


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Clips, and which kinds of LR there are for all of them."""

    clips: tuple[EvaluationClip, ...]
    given: tuple[str, ...]
    """Kinds that lie ready."""

    @property
    def has_truth(self) -> bool:
        return self.clips[0].truth is not None

    def kinds(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """What to evaluate: what was asked for, else what lies ready, else what can be made.

        OptionError names a kind that there is none of.
        """
        known = [*self.given, *(k for k in KINDS if self.has_truth and k not in self.given)]
        wrong = [kind for kind in asked or () if kind not in known]
        if wrong:
            raise OptionError(f"--kinds {' '.join(wrong)}: there is no such LR here; choose from {' '.join(known)}")
        return tuple(dict.fromkeys(asked)) if asked else self.given or STANDARD

    def describe(self, kinds: Sequence[str]) -> str:
        """One sentence on what is compared with what."""
        made = [kind for kind in kinds if kind not in self.given]
        ready = [kind for kind in kinds if kind in self.given]
        number = len(self.clips)
        what = "with ground truth" if self.has_truth else "of LR only"
        parts = [f"{number} clip{'s' if number > 1 else ''} {what}"]
        parts += [f"LR of the set: {' '.join(ready)}"] if ready else []
        parts += [f"LR made from the ground truth: {' '.join(made)}"] if made else []
        return "; ".join(parts)


def find(folder: Path, flat: Flat | None = None) -> EvaluationSet:
    """The clips of a folder. flat: what clips are that no folder name tells apart.

    DataError: no folder, no clips, an unknown layout, or clips that lack their other side; each by name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name the folder of a set of clips, or one that `pack` wrote")
    if (folder / INDEX).is_file():
        return _packed(folder)
    footage = below(folder)
    if not footage:
        raise DataError(f"{folder} holds no clips; {_LAYOUTS}")
    sides, loose = _sides(footage)
    if sides and loose:
        raise DataError(f"{folder / loose[0]}: neither ground truth nor LR by its path; {_LAYOUTS}")
    if not sides:
        which = flat or _guess(folder)
        sides = {("truth" if which == "truth" else "LR"): {path: footage[path] for path in loose}}
        return _matched(folder, sides if which == "truth" else {}, {} if which == "truth" else sides)
    truths = {name: clips for name, clips in sides.items() if _TRUTH.fullmatch(name)}
    return _matched(folder, truths, {name: clips for name, clips in sides.items() if name not in truths})


def _packed(folder: Path) -> EvaluationSet:
    clips = PackedClips(folder, "val")
    found = []
    for i, row in enumerate(clips.rows):
        clip = clips.clip(i)
        lr: dict[str, Footage] = {k: Stored(clip.of_kind(k)[0]) for k in KINDS if k in row.lr_kinds}
        found.append(EvaluationClip(row.clip, row.group, Stored(clip.hr), lr))
    return EvaluationSet(tuple(found), tuple(k for k in KINDS if all(k in clip.lr for clip in found)))


def _sides(footage: Mapping[Path, Footage]) -> tuple[dict[str, dict[Path, Footage]], list[Path]]:
    """Clips by the folder name that tells their side, which is taken out of their path; and those without one.

    Other scales (input2, BIx3) are passed over, and LQ-Video where there is LQ.
    """
    sides: dict[str, dict[Path, Footage]] = {}
    loose: list[Path] = []
    for path, clip in footage.items():
        at = next((i for i, part in enumerate(path.parts) if _TRUTH.fullmatch(part) or _LR.fullmatch(part)), None)
        if at is None:
            loose.append(path)
            continue
        side, rest = path.parts[at], Path(*path.parts[:at], *path.parts[at + 1 :])
        low = _LR.fullmatch(side)
        if low is None or (low["scale"] or low["named"] or str(SCALE)) == str(SCALE):
            sides.setdefault(side, {})[rest] = clip
    return {side: clips for side, clips in sides.items() if _still(side) == side or _still(side) not in sides}, loose


def _still(side: str) -> str:
    """LQ of LQ-Video."""
    match = _TRUTH.fullmatch(side) or _LR.fullmatch(side)
    assert match is not None
    return side[: match.start("video")] if match["video"] else side


def _guess(folder: Path) -> Flat:
    """What clips are that lie in no folder GT or LQ: the set's name tells, or that of its folder."""
    name = folder.resolve().name
    for start, which in _SETS.items():
        if name.lower().startswith(start):
            return which
    if _TRUTH.fullmatch(name) or (folder / "manifest.json").is_file():  # `pack` reads it: these are originals
        return "truth"
    if _LR.fullmatch(name):
        return "lr"
    raise DataError(f"{folder}: nothing says what these clips are; add --clips truth or --clips lr ({_LAYOUTS})")


def _matched(
    folder: Path, truths: Mapping[str, Mapping[Path, Footage]], lows: Mapping[str, Mapping[Path, Footage]]
) -> EvaluationSet:
    """Clips under names that all sides share. DataError where one side lacks a clip."""
    if len(truths) > 1:
        raise DataError(f"{folder}: {' and '.join(truths)} could both be the ground truth; take one of them away")
    sides = {**truths, **lows}
    names = sorted(set().union(*sides.values()), key=lambda path: by_number(path.as_posix()))
    for side, clips in sides.items():
        missing = [path for path in names if path not in clips]
        if missing:
            counts = ", ".join(f"{name} {len(there)}" for name, there in sides.items())
            raise DataError(
                f"{folder}: {side} lacks the clip {_shown(folder, missing[0])} (clips: {counts}); each side needs the "
                "clips of the others"
            )
    truth = next(iter(truths.values()), {})
    found = []
    for path in names:
        name = _shown(folder, path)
        found.append(EvaluationClip(name, name, truth.get(path), {kind: clips[path] for kind, clips in lows.items()}))
    return EvaluationSet(tuple(found), tuple(lows))


def _shown(folder: Path, path: Path) -> str:
    """A clip's name: the path left of it, or the folder's own."""
    return path.as_posix() if path.parts else folder.resolve().name
