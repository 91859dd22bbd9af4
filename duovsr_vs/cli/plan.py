"""The plan: what will be made of what, what is kept and what is changed; printed before the run."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ..video.colour import TRANSFER_HDR
from ..video.output import segment_folder
from ..video.pipeline import WRITE_BEHIND
from ..video.reader import VideoReader
from ..video.segments import Grid
from ..video.sequence import ASSUMED_RATE, is_pattern
from ..video.streams import Span, chapters_in, kept_tags
from .job import Job

if TYPE_CHECKING:
    from ..engine.plan import Plan

LIBRARIES = 830_000_000
"""Bytes that Python, torch, VapourSynth, libav and what they keep for reuse take; on Linux."""
FLOAT_FRAMES, CODED_FRAMES = WRITE_BEHIND + 3, 45
"""Output frames alive at once: float RGB between engine and encoder, and in the encoder (1.5 bytes a pixel)."""


def plan_lines(job: Job, engine: Plan, grid: Grid | None = None) -> list[str]:
    """The plan of a run, one fact a line: a word, then what it is. grid: of a job that is written in segments."""
    lines = [f"input    {input_line(job.reader)}", f"output   {_output(job)}"]
    if job.frames is not None and (job.start or job.stop is not None):
        lines.append(f"part     frames {job.start} to {job.start + job.frames - 1}; times begin at 0")
    lines += [_memory(engine, job.request.workers) if line[:6] == "memory" else line for line in engine.lines()]
    if grid is not None:
        folder = segment_folder(job.request.output)
        lines.append(f"segments {grid.count} of up to {grid.length} frames, kept in {folder} until all are there")
    kept, lost = kept_facts(job.reader, job.kind, job.span, job.encoding.hdr is not None)
    copied, dropped = job.copier.names()
    kept, lost = kept + copied, lost + dropped
    lines.append(f"kept     {', '.join(kept)}")
    if lost:
        lines.append(f"not kept {', '.join(lost)}: {_holder(job.kind)}")
    lines += [f"note     {note}" for note in _notes(job)]
    return lines


def _memory(engine: Plan, workers: int) -> str:
    """The engine's share, and on a CPU what the whole process will take."""
    own = engine.memory()
    if engine.device != "cpu":
        return f"memory   about {own} on {engine.device}"
    pixels = engine.out_width * engine.out_height
    total = LIBRARIES + engine.memory_bytes + pixels * 12 * FLOAT_FRAMES + int(pixels * 1.5 * CODED_FRAMES)
    each = f", for each of {workers} workers" if workers > 1 else ""
    return f"memory   about {total / 1e9:.1f} GB in all, whatever the length ({own}){each}"


def input_line(reader: VideoReader) -> str:
    """`dog.mp4: h264, yuv420p, 480x270, 29.97 fps, 119 frames, matrix 709, limited range`."""
    info = reader.info
    rate = f"{float(info.rate):.6g} fps" if info.rate else "no frame rate"
    count = f"{reader.total} frames" if reader.total is not None else "unknown length"
    facts = [info.codec, info.pix_fmt, f"{info.width}x{info.height}", rate, count, info.tags.describe()]
    return f"{info.name}: {', '.join(facts)}"


def kept_facts(reader: VideoReader, kind: str, span: Span, hdr: bool) -> tuple[list[str], list[str]]:
    """What of the video itself is kept and what is not, in a few words each. hdr: HDR metadata is written."""
    info, container = reader.info, reader.container
    chapters, tags = len(chapters_in(container, span)), bool(kept_tags(container.metadata))
    if kind in ("y4m", "image"):
        lost = ["timestamps"] + (["rotation"] if info.rotation else []) + (["chapters"] if chapters else [])
        return ["every frame", "sample aspect"] if info.sar else ["every frame"], lost
    kept = ["every frame", "every timestamp", "colour tags"]
    kept += ["sample aspect"] if info.sar else []
    kept += ["rotation"] if info.rotation else []
    kept += [f"{chapters} chapters"] if chapters else []
    kept += ["metadata"] if tags else []
    kept += ["HDR metadata"] if hdr else []
    return kept, [*info.hdr_metadata, *(["closed captions"] if info.captions else [])]


def _output(job: Job) -> str:
    name = "stdout" if job.request.output == "-" else job.request.output
    text = f"{name}: {job.encoding.describe()}, {job.size[0]}x{job.size[1]}"
    return text if job.sar == job.reader.info.sar else f"{text}, sample aspect {_ratio(job.sar)}"


def _ratio(value: Fraction | None) -> str:
    return "1:1" if value is None else f"{value.numerator}:{value.denominator}"


def _holder(kind: str) -> str:
    return {
        "y4m": "y4m is frames only",
        "image": "images are frames only",
        "matroska": "mkv cannot hold it",
    }.get(kind, f"{kind} cannot hold it; mkv holds most things")


def _needs_rounding(reader: VideoReader) -> bool:
    """Whether a timestamp, as far as they are known, is not a whole millisecond."""
    ticks = reader.info.time_base * 1000
    stamps = reader.scan.pts if reader.scan and reader.scan.pts else (1,)
    return any((stamp * ticks.numerator) % ticks.denominator for stamp in stamps)


def _notes(job: Job) -> list[str]:
    info, notes = job.reader.info, []
    if job.matrix_note:
        notes.append(job.matrix_note)
    notes += job.encoding.notes
    if job.pending is not None and not job.resumable:
        why = "y4m is written as one stream" if job.reader.scan else "a pipe cannot be read again"
        notes.append(f"--resume will not be possible: {why}")
    if job.kind in ("matroska", "webm") and _needs_rounding(job.reader):
        notes.append("timestamps are rounded to milliseconds, which is how mkv and webm store them; mp4 and mov do not")
    if info.tags.transfer in TRANSFER_HDR:
        notes.append(f"{TRANSFER_HDR[info.tags.transfer]} video is upscaled in its code values, without tone mapping")
    if is_pattern(job.request.source) and job.kind not in ("image",):
        notes.append(f"images have no frame rate; {ASSUMED_RATE} fps is written")
    if job.reader.scan and job.reader.scan.cut_off:
        notes.append(f"the file announces {job.reader.scan.declared} frames and holds {job.reader.scan.packets}")
    return notes
