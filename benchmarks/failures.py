"""Where a model fails: a face, small writing, foliage and fine lines, cut out at 1:1 beside Lanczos and the truth.

    python benchmarks/failures.py --data DIR [--model NAME_OR_FILE] [--kind clean] [-o docs/failures.png]

DIR holds eval_public/*.mp4 and make_lr.py. The places were chosen by eye in the ground truth, before a model was seen.
"""

import argparse
import sys
from pathlib import Path

import sheet
from baselines import enlarge
from cliprun import SCALE, load_maker
from modelrun import ModelRun
from sheet import Panel

from duovsr_vs.engine.options import Options
from duovsr_vs.errors import DuoVsrError

PLACES = {
    "selfie": ("face", (360, 300)),
    "shopsign_pan": ("small writing", (328, 757)),
    "juggle": ("foliage", (80, 185)),
    "facade": ("fine lines", (480, 200)),
}
"""Clip -> what is there, and its centre (y, x) in the truth."""
FRAMES = 5
LIMIT = 300_000


def panels(data: Path, name: str, kind: str, run: ModelRun) -> list[Panel]:
    """LR, Lanczos, the model and the truth of one place, in the middle of the first frames."""
    maker, where = load_maker(data / "make_lr.py"), PLACES[name][1]
    truth = maker.read_video(data / "eval_public" / f"{name}.mp4", count=FRAMES)
    lr = maker.make_lr(truth, kind, SCALE, name=name)
    clips = {
        "LR": lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2),
        "Lanczos": enlarge(lr, "lanczos"),
        "model": run.upscale(lr)[0],
        "truth": truth,
    }
    return [Panel.cut(label, clip, where) for label, clip in clips.items()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with eval_public/ and make_lr.py")
    parser.add_argument("--model", default=None, help="shipped name or file (the default model)")
    parser.add_argument("--kind", choices=("clean", "web", "real"), default="clean", help="kind of LR (clean)")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/failures.png"), help="picture to write")
    args = parser.parse_args(arguments)
    try:
        run = ModelRun(Options(model=args.model))
        shown = {PLACES[name][0]: panels(args.data, name, args.kind, run) for name in PLACES}
        sheet.save(args.out, shown, sheet.crops, LIMIT)
    except (DuoVsrError, OSError) as error:
        print(f"failures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
