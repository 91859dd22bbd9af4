"""How good a model is on a set of clips: PSNR, SSIM, SSIMULACRA2, NIQE, E_warp and more, beside Lanczos and the base
resampler of the same LR in the same run, with paired bootstrap intervals.

    python -m training evaluate nano --data UDM10
    python -m training evaluate RUN --data VideoLQ --against nano -o results.json

Upscaling runs through the engine, as users get it; a clip is its first --frames frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.engine.options import Options
from duovsr_vs.errors import DuoVsrError, OptionError
from duovsr_vs.metrics.bootstrap import FEWEST
from training.evaluation.findings import Findings, write
from training.evaluation.measures import WITH_TRUTH, Measures, choose
from training.evaluation.methods import MEANING, RESAMPLERS, Method, Model, open_models
from training.evaluation.networks import open_networks
from training.evaluation.sets import EvaluationClip, EvaluationSet, find
from training.evaluation.tables import show

FRAMES = 24


class EvaluationError(DuoVsrError):
    """A clip that cannot be evaluated, by name."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that is decided before the first clip is read."""

    data: EvaluationSet
    kinds: tuple[str, ...]
    methods: tuple[Method, ...]
    measures: Measures
    frames: int
    seed: int

    def run(self, say: Callable[[str], None], keep: Callable[[Findings], None]) -> Findings:
        """Measure clip after clip; `keep` hears of the findings after each of them."""
        names = (*self.measures.names, *(network.name for network in self.measures.networks))
        groups = {clip.name: clip.group for clip in self.data.clips}
        findings = Findings(tuple(method.label for method in self.methods), names, groups)
        for number, clip in enumerate(self.data.clips, 1):
            try:
                self._clip(clip, findings)
            except DuoVsrError as error:
                raise EvaluationError(f"{clip.name}: {error}") from error
            say(f"[{number}/{len(self.data.clips)}] {clip.name}")
            keep(findings)
        return findings

    def _clip(self, clip: EvaluationClip, findings: Findings) -> None:
        truth = clip.read_truth(self.frames)
        reference = None
        for kind in self.kinds:
            lr = clip.read_lr(kind, self.frames, truth, self.seed)
            if reference is None or truth is None:
                reference = self.measures.reference(truth, lr)
            for method in self.methods:
                findings.add(kind, clip.name, method.label, self.measures.score(method.upscale(lr), lr, reference))
        if reference is not None and truth is not None:
            findings.truth[clip.name] = reference.own()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "model", help="shipped name, .safetensors file, run folder (its last finished stage), or a stage's folder in it"
    )
    add("--data", type=Path, required=True, help="folder of the set: ground truth and LR, one of them, or a pack")
    add("--against", metavar="MODEL2", help="compare with a second model, clip by clip")
    add("--frames", type=int, default=FRAMES, help=f"first frames of each clip ({FRAMES})")
    add(
        "--kinds",
        nargs="+",
        help="kinds of LR: folders of the set such as BIx4, or clean, web, real made from the truth",
    )
    add("--clips", choices=("truth", "lr"), help="what clips are that no folder name tells apart")
    add("--measures", nargs="+", metavar="NAME", help=f"some of {' '.join(WITH_TRUTH)} (all that fit)")
    add("--crop", type=int, default=0, help="border pixels of the output left out (0, as the papers do)")
    add("--detail", type=float, help="the model's detail dial (its file's default; 1 for a run)")
    add("--against-detail", type=float, help="the second model's")
    add("--seed", type=int, default=0, help="of the LR that is made and of the models' noise (0)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    add("--pyiqa", default="", metavar="NAMES", help="further measures if pyiqa has them here: musiq,clipiqa,lpips")
    add("-o", "--out", type=Path, metavar="JSON", help="file for the results, written after every clip")
    return parser.parse_args(arguments)


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Evaluation, tuple[Model, ...], list[str]]:
    """Find and open everything, so that a mistake shows before the first clip. folder: for temporary files."""
    if options.frames < 1:
        raise OptionError(f"--frames {options.frames}: 1 or more is needed")
    if options.against is None and options.against_detail is not None:
        raise OptionError("--against-detail belongs to --against; name the second model too")
    data = find(options.data, options.clips)
    kinds = data.kinds(options.kinds)
    engine = Options(seed=options.seed, device=options.device, precision=options.precision)
    second = [] if options.against is None else [(options.against, options.against_detail)]
    names, details = zip((options.model, options.detail), *second, strict=True)
    judged, *others = open_models(names, details, engine, folder)
    wanted = [name for name in options.pyiqa.split(",") if name]
    networks, notes = open_networks(wanted, str(resolve_device(options.device))) if wanted else ([], [])
    measures, more = choose(data.has_truth, options.measures, options.crop, networks)
    evaluation = Evaluation(data, kinds, (*RESAMPLERS, *others, judged), measures, options.frames, options.seed)
    return evaluation, (judged, *others), notes + more + _cautions(evaluation)


def _cautions(evaluation: Evaluation) -> list[str]:
    """What the tables do not say of themselves."""
    told = []
    if not evaluation.data.has_truth and "e_warp" in evaluation.measures.names:
        told.append("E_warp: without ground truth its flow is that of the LR enlarged by Lanczos")
    films = len({clip.group for clip in evaluation.data.clips})
    if films < len(evaluation.data.clips):
        told.append(f"the clips come from {films} films: the bootstrap draws whole films")
    if films < FEWEST:
        told.append(f"no difference can be resolved with fewer than {FEWEST} films, here {films}")
    return told


def describe(options: argparse.Namespace, evaluation: Evaluation, models: Sequence[Model]) -> dict[str, Any]:
    """Head of the JSON: what was measured, how, and on which class of machine."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        "machine": models[0].plan.machine,
        "arguments": given,
        "data": evaluation.data.describe(evaluation.kinds),
        "flow": "of the ground truth" if evaluation.data.has_truth else "of the Lanczos-enlarged LR",
        "models": {model.label: model.facts() for model in models},
        "resamplers": MEANING,
        "networks": {network.name: network.lower_is_better for network in evaluation.measures.networks},
    }


def say(text: str) -> None:
    """Progress and notes, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m training evaluate`. Raises a DuoVsrError where model, data or options do not fit."""
    options = parse(argv)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        evaluation, models, notes = prepare(options, folder)
        head: dict[str, Any] = {**describe(options, evaluation, models), "notes": notes}
        for line in (head["data"], f"machine: {head['machine']}", *notes):
            say(line)

        def keep(findings: Findings, complete: bool = False) -> None:
            if options.out is not None:
                write(options.out, head | findings.record(complete))

        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.open("a").close()  # a place that cannot be written to shows now
        findings = evaluation.run(say, keep)
        keep(findings, complete=True)
    show(findings, {network.name for network in evaluation.measures.networks if network.lower_is_better})
    return 0


if __name__ == "__main__":
    sys.exit(main())
