"""Turns folders of videos and photos into shards that training reads at random: HR, ready-made LR versions, flow.

python -m training pack --data DIR --out DIR [--jobs N] [--lr SPEC]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from duovsr_vs.errors import DuoVsrError
from training.data.arrays import generator
from training.data.clips import Clip, photo_clips, sharpness, video_clips
from training.data.degrade import Kind, degrade
from training.data.flow import clip_flow
from training.data.quality import label_soft
from training.data.shards import INDEX, ClipRow, ShardWriter, write_index
from training.data.sources import DataError, Source, find, hold_out, ignored
from training.data.variants import DEFAULT_LR, HELD_OUT_LR, parse_variants, variants_in_words

_SHARD_BYTES = 1 << 30
_PHOTOS_PER_UNIT = 16
_HELD_OUT = (
    "training refuses such a pack: add a film of another place, or two photos or more, and a --val-share above 0"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every clip of a pack."""

    out: Path
    held: frozenset[str]
    """Groups of the validation split."""
    seed: int
    variants: tuple[Kind, ...]
    """LR versions of each clip; (): made on line."""

    def variants_of(self, split: str) -> tuple[Kind, ...]:
        return self.variants or (HELD_OUT_LR if split == "val" else ())


@dataclass(slots=True)
class Unit:
    """What one process packs in one go, and what came of it."""

    name: str
    sources: list[Source]
    rows: list[ClipRow] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it holds, for people."""
        first, last = self.sources[0].name, self.sources[-1].name
        return first if len(self.sources) == 1 else f"{len(self.sources)} photos, {first} to {last}"


def _known(clip: Clip, source: Source, split: str) -> dict[str, Any]:
    """What the index and the clip's json both say."""
    return {
        "source": source.name,
        "group": source.group,
        "origin": source.origin,
        "author": source.author,
        "licence": source.licence,
        "is_video": source.is_video,
        "split": split,
        "look": clip.look,
        "first_frame": clip.first_frame,
        "fps": clip.fps,
        "sharpness": sharpness(clip.frames),
        "bits_per_pixel": clip.bits_per_pixel,
    }


def _write_clip(writer: ShardWriter, clip: Clip, source: Source, name: str, plan: Plan) -> ClipRow:
    """Degrade, find the flow, append everything to the shard."""
    split = "val" if source.group in plan.held else "train"
    kinds = plan.variants_of(split)
    # The seed knows the file and the place in it, so other files in the folder change nothing here.
    seeds = [int(generator(plan.seed, "lr", source.name, clip.name, i).integers(2**62)) for i in range(len(kinds))]
    drawn = [degrade(clip.frames, kind, own) for kind, own in zip(kinds, seeds, strict=True)]
    flow, mask = clip_flow(clip.frames)
    known = _known(clip, source, split)
    strengths = [{"kind": kind, **strength} for kind, (_, strength) in zip(kinds, drawn, strict=True)]
    writer.add_json(name, {**known, "lr": strengths})
    return ClipRow(
        **known,
        soft=False,  # decided when every clip is known
        clip=name,
        shard=writer.path.name,
        frames=clip.frames.shape[0],
        height=clip.frames.shape[1],
        width=clip.frames.shape[2],
        hr_offset=writer.add_array(f"{name}.hr", clip.frames),
        flow_offset=writer.add_array(f"{name}.flow", flow),
        mask_offset=writer.add_array(f"{name}.mask", np.packbits(mask, axis=-1)),
        lr_offsets=[writer.add_array(f"{name}.lr.{i}", lr) for i, (lr, _) in enumerate(drawn)],
        lr_kinds=list(kinds),
    )


def _pack_unit(unit: Unit, plan: Plan) -> Unit:
    """Write the shards of one unit. A source that cannot be read is skipped and named with its reason."""
    writer: ShardWriter | None = None
    for source in unit.sources:
        before = len(unit.rows)
        try:
            for clip in video_clips(source) if source.is_video else photo_clips(source, plan.seed):
                writer = writer or ShardWriter(plan.out / f"{unit.name}-{len(unit.sizes):03d}.tar")
                name = f"{unit.name}-{len(unit.rows):05d}"  # tar has no room for long names
                unit.rows.append(_write_clip(writer, clip, source, name, plan))
                if writer.size > _SHARD_BYTES:
                    unit.sizes[writer.path.name] = writer.close()
                    writer = None
        except (DuoVsrError, ValueError) as error:
            told = str(error)
            unit.skipped[source.name] = told if str(source.path) in told else f"{source.path}: {told}"
        if len(unit.rows) == before:
            unit.skipped.setdefault(source.name, f"{source.path}: no shot of it is two frames long")
    if writer:
        unit.sizes[writer.path.name] = writer.close()
    return unit


def _units(sources: Sequence[Source]) -> list[Unit]:
    """A unit per video, one per handful of photos; the largest first, so that processes end together."""
    videos = sorted((s for s in sources if s.is_video), key=lambda s: -s.path.stat().st_size)
    photos = [s for s in sources if not s.is_video]
    parts = [[v] for v in videos] + [photos[i : i + _PHOTOS_PER_UNIT] for i in range(0, len(photos), _PHOTOS_PER_UNIT)]
    return [Unit(f"{i:05d}", part) for i, part in enumerate(parts)]


def _begin_worker() -> None:
    """One thread; Ctrl-C, which every process of a terminal gets, is the first one's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _run(units: list[Unit], jobs: int, plan: Plan, say: Callable[[str], None]) -> list[Unit]:
    done: list[Unit] = []

    def finished(unit: Unit) -> None:
        done.append(unit)
        say(f"[{len(done)}/{len(units)}] {unit.title}: {len(unit.rows)} clips")

    if jobs <= 1:
        for unit in units:
            finished(_pack_unit(unit, plan))
        return done
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_worker) as pool:
        try:
            for future in as_completed([pool.submit(_pack_unit, u, plan) for u in units]):
                finished(future.result())
        except BaseException:  # a stop, or a full disk: what the others make is of no use
            for worker in active_children():
                worker.terminate()
            raise
    return sorted(done, key=lambda u: u.name)


def _clear(out: Path, overwrite: bool) -> None:
    """Make room: an old index goes first, so that a half-written pack never looks whole."""
    if (out / INDEX).exists() and not overwrite:
        raise DataError(f"{out} already holds a pack; name another folder or say --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)
    for old in [*out.glob("[0-9]*.tar"), *out.glob("*.partial")]:
        old.unlink()


def _summary(rows: Sequence[ClipRow], sizes: dict[str, int], skipped: dict[str, str], plan: Plan) -> dict[str, Any]:
    return {
        "clips": len(rows),
        "frames": sum(r.frames for r in rows),
        "train_clips": sum(r.split == "train" for r in rows),
        "val_clips": sum(r.split == "val" for r in rows),
        "val_groups": sorted({r.group for r in rows if r.split == "val"}),
        "video_clips": sum(r.is_video for r in rows),
        "soft_clips": sum(r.soft for r in rows),
        "bytes": sum(sizes.values()),
        "skipped": skipped,
        "seed": plan.seed,
        "lr": variants_in_words(plan.variants),
    }


def pack(
    data_dir: Path,
    out_dir: Path,
    jobs: int = 1,
    val_share: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    lr: str = DEFAULT_LR,
) -> dict[str, Any]:
    """Pack every video and photo below `data_dir` into `out_dir`; returns counts, bytes, seconds and what was skipped.

    lr: the LR versions stored per clip (variants.py); `none` stores them for held-out clips only.
    The bytes of the shards are a function of the files, the seed, `lr` and the codec builds, not of `jobs`.
    DataError: nothing usable, a bad `lr`, or a pack is there already and `overwrite` is False.
    """
    variants = parse_variants(lr)
    begin = time.perf_counter()
    sources = find(data_dir)
    _clear(out_dir, overwrite)
    plan = Plan(out_dir, hold_out(sources, val_share, seed), seed, variants)
    if remark := ignored(data_dir, sources):
        say(remark)
    if not plan.held:
        say(f"0 of {len({s.group for s in sources})} sources are held out for validation; {_HELD_OUT}")
    done = _run(_units(sources), jobs, plan, say)
    rows = label_soft([row for unit in done for row in unit.rows])
    sizes = {name: size for unit in done for name, size in unit.sizes.items()}
    skipped = {name: why for unit in done for name, why in unit.skipped.items()}
    for why in skipped.values():
        say(f"skipped {why}")
    if not rows:
        first = next(iter(skipped.values()))
        raise DataError(f"{data_dir}: none of the {len(sources)} files could be used; the first: {first}")
    facts = _summary(rows, sizes, skipped, plan)
    if plan.held and not (facts["val_clips"] and facts["train_clips"]):
        what = "training" if facts["val_clips"] else "validation"
        say(f"0 clips are left for {what}, since its files were skipped; {_HELD_OUT}")
    write_index(out_dir, rows, sizes, facts)
    return {**facts, "seconds": time.perf_counter() - begin}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training pack", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of videos and photos, searched below")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards and their index")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the sources held out (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--lr",
        default=DEFAULT_LR,
        metavar="SPEC",
        help="LR versions stored per clip, as kind or kind*count, of clean, web, real, realbasicvsr, web_wide "
        f"(default: {DEFAULT_LR}); 'none' stores none for training, LR is then made at every draw",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a pack that is there")
    a = parser.parse_args(argv)
    try:
        facts = pack(a.data, a.out, a.jobs, a.val_share, a.seed, a.overwrite, lr=a.lr)
    except (DuoVsrError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    free = shutil.disk_usage(a.out).free / 1e9
    print(
        f"{facts['clips']} clips ({facts['video_clips']} of video; {facts['val_clips']} held out; "
        f"{facts['soft_clips']} soft), {facts['frames']} frames, "
        f"{facts['bytes'] / 1e9:.2f} GB in {facts['seconds']:.0f} s; "
        f"{len(facts['skipped'])} files skipped; {free:.0f} GB left"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
