"""Types of the command line's arguments: what each is called and what `--help` says of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

MAKE, PART, ENCODE, RUN = "What to make", "Which part", "How to read and write", "How to run"


def _option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _flag(panel: str | None, text: str, name: str) -> Any:
    return _option(panel, text, name, show_default=False)


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", help="Videos, folders of them, images (in/%05d.png), or - for stdin.", show_default=False
    ),
]
Output = Annotated[
    str,
    _option(
        None, "mkv, mp4, mov, webm, y4m, images (out/%05d.png), - for y4m on stdout, or a folder/.", "--output", "-o"
    ),
]

Model = Annotated[str | None, _option(MAKE, "Shipped name or .safetensors file (default: nano).")]
Scale = Annotated[int, _option(MAKE, "Output size over input size, 1 to 4.")]
Width = Annotated[int | None, _option(MAKE, "Output width; alone it keeps the aspect; wins over --scale.")]
Height = Annotated[int | None, _option(MAKE, "Output height, likewise.")]
Strength = Annotated[float, _option(MAKE, "0: plain resampling; 1: all that the model adds.")]
Detail = Annotated[float | None, _option(MAKE, "0: faithful; 1: detailed (default: the model's).")]
Seed = Annotated[int, _option(MAKE, "Of the model's noise.")]
NoSceneCut = Annotated[bool, _flag(MAKE, "Do not keep shots apart.", "--no-scene-cut")]

Start = Annotated[str | None, _option(PART, "First frame, counted from 0, or a time hh:mm:ss.")]
Frames = Annotated[str | None, _option(PART, "Number of frames, or a duration hh:mm:ss.")]

Codec = Annotated[
    str | None, _option(ENCODE, "Encoder (default: libx264, above 10 bits libx265; in webm libvpx-vp9 or libsvtav1).")
]
Crf = Annotated[
    float | None,
    _option(ENCODE, "Quality, smaller is better (default: libx264 16, libx265 18, libvpx-vp9 20, libsvtav1 22)."),
]
PixFmt = Annotated[str | None, _option(ENCODE, "Pixel format (default: depth and subsampling of the input).")]
EncoderOptions = Annotated[
    list[str] | None, _option(ENCODE, "More for the encoder: preset=slow,tune=film.", metavar="K=V,...")
]
Matrix = Annotated[str | None, _option(ENCODE, "Matrix of the input: 709, 170m, 2020ncl, ... (default: its tag).")]
AssumeProgressive = Annotated[bool, _flag(ENCODE, "Take interlaced frames as whole pictures.", "--assume-progressive")]
Overwrite = Annotated[bool, _flag(ENCODE, "Replace an existing output.", "--overwrite")]
Resume = Annotated[bool, _flag(ENCODE, "Go on with an output that was begun before.", "--resume")]
Preview = Annotated[
    float | None,
    _option(
        PART, "Render only so much of a few places (of --start), with a page and an estimate.", metavar="SECONDS",
        min=0.04, max=60,
    ),
]  # fmt: skip
Report = Annotated[str | None, _option(ENCODE, "Write what was kept as JSON to this file.", metavar="FILE")]

Device = Annotated[str, _option(RUN, "auto, cpu, cuda or cuda:N.")]
Devices = Annotated[str, _option(RUN, "auto, cpu, cuda (all of a kind), cuda:N, or several: cuda:0,cuda:1.")]
Precision = Annotated[str, _option(RUN, "auto, float32, bfloat16 or float16.")]
Tile = Annotated[int, _option(RUN, "Side of a tile in input pixels; 0: chosen from model and size.")]
TileOverlap = Annotated[int, _option(RUN, "Halo of a tile in input pixels; 0: as far as the model sees.")]
Vram = Annotated[
    str | None,
    _option(RUN, "Memory to stay within, such as 6GB: of the GPU, or of the model on a CPU.", metavar="SIZE"),
]
Threads = Annotated[int | None, _option(RUN, "CPU threads of the model (default: torch's choice).")]
Workers = Annotated[
    int, _option(RUN, "Processes for a long job, on each device and node; the output is the same.", min=1, max=256)
]
Ray = Annotated[
    str | None,
    _option(RUN, "Share a long job with the nodes of a Ray cluster: host:port, or auto.", metavar="ADDRESS"),
]
Segment = Annotated[
    int | None,
    _option(RUN, "Frames after which a long job is safe from a break (default: ten seconds).", min=1, max=1_000_000),
]

File = Annotated[str | None, typer.Argument(metavar="[FILE]", help="A video, a model file, or a model's name.")]
SelfTest = Annotated[bool, _flag(None, "Check that the model gives its golden frame on this machine.", "--self-test")]
AsJson = Annotated[bool, _flag(None, "For programs.", "--json")]
BenchSize = Annotated[str, _option(None, "Input size.", metavar="WxH")]
BenchFrames = Annotated[int, _option(None, "Frames to time.", min=1, max=100_000)]
