"""How the output is encoded: codec, pixel format and options, from container, source and what was asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import av

from ..errors import FormatError, OptionError
from .colour import ColourTags
from .pixels import PixelLayout, layout_of

MUXERS = {
    ".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm", ".y4m": "y4m",
    ".png": "image", ".tif": "image", ".tiff": "image",
}  # fmt: skip
"""Output kinds by suffix. `y4m` and `image` are written by this package, the others by libav."""
IMAGE_CODECS = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}
THREADS = 2
"""Encoder threads: fixed, because with x264 the bitstream depends on them, and two do not crowd out the engine."""
SMALLEST = {"libx265": 64, "libsvtav1": 64}
"""Smallest side that an encoder takes: below its coding block libx265 writes past its memory, libsvtav1 refuses."""
DEFAULT_CRF = {"libx264": 16.0, "libx265": 18.0, "libvpx-vp9": 20.0, "libsvtav1": 22.0}
_OPTIONS: dict[str, dict[str, str]] = {
    # veryfast: within 5 % of medium's size at CRF 16 and a third of its time. mbtree, cutree: not repeatable.
    "libx264": {"preset": "veryfast", "x264-params": "mbtree=0"},
    "libx265": {"preset": "fast", "x265-params": f"cutree=0:pools={THREADS}:frame-threads={THREADS}:log-level=error"},
    "libvpx-vp9": {"b": "0", "cpu-used": "4", "row-mt": "1", "deadline": "good"},
    "libsvtav1": {"preset": "8"},
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1"},
}
Y4M_LAYOUTS = tuple(
    PixelLayout("gray" if sub is None else "yuv", bits, *(sub or (0, 0)))
    for sub in (None, (1, 1), (1, 0), (0, 0))
    for bits in (8, 10, 12)
)
"""What the y4m writer can label."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """codec: libav encoder, or y4m.  pix_fmt: libav name that the encoder gets.  layout: its samples.  tags: what is
    written in the file and used for the conversion.  notes: sentences about what differs from the source.
    """

    codec: str
    pix_fmt: str
    layout: PixelLayout
    tags: ColourTags
    options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """`libx264, yuv420p, crf 16, preset veryfast`."""
        named = [f"{name} {self.options[name]}" for name in ("crf", "preset") if name in self.options]
        return ", ".join([self.codec, self.pix_fmt, *named])


def output_kind(output: str) -> str:
    """Muxer of an output name. Raises OptionError for an unknown suffix."""
    if output == "-":
        return "y4m"
    suffix = "." + output.rsplit(".", 1)[-1].lower() if "." in output.rsplit("/", 1)[-1] else ""
    if suffix not in MUXERS:
        found = f"{suffix} is not one of them" if suffix else "the name has no suffix"
        raise OptionError(f"{output}: the output can be {', '.join(MUXERS)} or - for y4m on stdout; {found}")
    return MUXERS[suffix]


def parse_options(texts: list[str]) -> dict[str, str]:
    """`preset=slow,tune=film` (several times, too) as a dictionary. Raises OptionError."""
    options: dict[str, str] = {}
    for part in (p for text in texts for p in text.split(",") if p):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise OptionError(f"--encoder-options {part}: name=value is needed, several separated by commas")
        options[name.strip()] = value.strip()
    return options


def choose(
    output: str,
    source: PixelLayout,
    tags: ColourTags,
    size: tuple[int, int],
    *,
    codec: str | None = None,
    crf: float | None = None,
    pix_fmt: str | None = None,
    options: dict[str, str] | None = None,
) -> Encoding:
    """The encoding of `output` for frames of `size` made from a source of that layout and those (resolved) tags.

    Keeps family, depth and subsampling where the codec can; every difference is a note. Raises OptionError where what
    was asked does not exist or does not fit together.
    """
    kind = output_kind(output)
    wanted, notes = _wanted(kind, source, size)
    if kind == "y4m":
        _refuse(kind, codec=codec, crf=crf, pix_fmt=pix_fmt, encoder_options=options)
        layout = min(Y4M_LAYOUTS, key=lambda one: _distance(wanted, one))
        notes += _changes(wanted, layout, "y4m")
        return Encoding("y4m", layout.planar_name, layout, _tags(layout, source, tags, kind), {}, tuple(notes))
    if kind == "image":
        _refuse(kind, codec=codec, crf=crf)
        codec = IMAGE_CODECS["." + output.rsplit(".", 1)[-1].lower()]
    name = codec or _default_codec(kind, source.bits, size)
    formats = _formats(name, size)
    if pix_fmt:
        chosen = _asked(pix_fmt, formats, name, size)
    else:
        aim = PixelLayout("yuv", wanted.bits) if codec is None and wanted.family == "rgb" else wanted
        chosen = min(formats, key=lambda one: _distance(aim, layout_of(one)))
        notes += _changes(wanted, layout_of(chosen), name)
    layout = layout_of(chosen)
    made = _tags(layout, source, tags, kind)
    return Encoding(name, chosen, layout, made, _encoder_options(name, crf, options or {}), tuple(notes))


def _default_codec(kind: str, bits: int, size: tuple[int, int]) -> str:
    plain, deep, limit = ("libvpx-vp9", "libsvtav1", 8) if kind == "webm" else ("libx264", "libx265", 10)
    return plain if bits <= limit or min(size) < SMALLEST.get(deep, 0) else deep


def _wanted(kind: str, source: PixelLayout, size: tuple[int, int]) -> tuple[PixelLayout, list[str]]:
    """The layout to aim for, and why it differs from the source's."""
    wanted, notes = _normal(source), []
    if source.alpha:
        notes.append("the alpha channel is dropped")
    if kind == "image":
        return PixelLayout("gray" if source.family == "gray" else "rgb", 8 if source.bits == 8 else 16), notes
    if not wanted.fits(*size):
        notes.append(f"{wanted.planar_name} becomes 4:4:4, because it cannot hold {size[0]}x{size[1]} (an odd side)")
        wanted = wanted.without_subsampling()
    return wanted, notes


def _normal(layout: PixelLayout) -> PixelLayout:
    return replace(layout, alpha=False, full=False)


def _refuse(kind: str, **given: object) -> None:
    for name, value in given.items():
        if value:
            what = "y4m is raw video" if kind == "y4m" else "the codec of images follows from their suffix"
            raise OptionError(f"--{name.replace('_', '-')} has no meaning here: {what}")


def _formats(codec: str, size: tuple[int, int]) -> list[str]:
    """Pixel formats of an encoder that this package can fill, plain planar ones first. Raises OptionError."""
    if min(size) < SMALLEST.get(codec, 0):
        least = SMALLEST[codec]
        raise OptionError(f"--codec {codec} takes no {size[0]}x{size[1]} frames; each side must be {least} or more")
    try:
        found = av.Codec(codec, "w")
    except (av.FFmpegError, ValueError):
        found = None
    if found is None or found.type != "video":
        known = [
            c
            for c in ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
            if c in av.codecs_available
        ]
        raise OptionError(f"--codec {codec}: there is no such video encoder; usual ones are {', '.join(known)}")
    names = []
    for fmt in found.video_formats or []:
        try:
            layout = layout_of(fmt.name)
        except FormatError:
            continue
        if not layout.full and not layout.alpha and fmt.components[0].bits >= 8:
            names.append(fmt.name)
    if not names:
        raise OptionError(f"--codec {codec}: it takes no gray, YUV or RGB frames from 8 to 16 bits")
    return sorted(names, key=lambda name: name != layout_of(name).planar_name)


def _asked(pix_fmt: str, formats: list[str], codec: str, size: tuple[int, int]) -> str:
    if pix_fmt not in formats:
        raise OptionError(f"--pix-fmt {pix_fmt}: {codec} takes {', '.join(formats)}")
    if not layout_of(pix_fmt).fits(*size):
        raise OptionError(
            f"--pix-fmt {pix_fmt} cannot hold {size[0]}x{size[1]} (an odd side); use a 4:4:4 format or even sizes"
        )
    return pix_fmt


def _distance(wanted: PixelLayout, one: PixelLayout) -> tuple[int, ...]:
    """What is lost by going from one layout to another, worst kind first, then what is wasted."""
    ranks = {("gray", "yuv"): 1, ("rgb", "yuv"): 2, ("gray", "rgb"): 3, ("yuv", "rgb"): 4}
    family = 0 if wanted.family == one.family else ranks.get((wanted.family, one.family), 9)
    chroma = [a - b for a, b in ((one.sub_w, wanted.sub_w), (one.sub_h, wanted.sub_h))]
    lost = sum(max(0, c) for c in chroma)
    return family, lost, max(0, wanted.bits - one.bits), max(0, one.bits - wanted.bits), sum(max(0, -c) for c in chroma)


def _changes(wanted: PixelLayout, layout: PixelLayout, codec: str) -> list[str]:
    """A sentence when the chosen layout is not the wanted one."""
    if layout == wanted:
        return []
    from_to = f"{wanted.planar_name} becomes {layout.planar_name}"
    if wanted.family == "rgb" and layout.family == "yuv":
        return [f"RGB: {from_to} with matrix 709 (--codec ffv1 keeps RGB)"]
    if layout.bits < wanted.bits:
        return [f"{from_to}: {codec} holds no more than {layout.bits} bits of it (--codec ffv1 holds 16)"]
    return [f"{from_to}, the nearest that {codec} holds"]


def _tags(layout: PixelLayout, source: PixelLayout, tags: ColourTags, kind: str) -> ColourTags:
    """Colour tags of the output: the source's, except where the family changes; images are always full range."""
    if layout.family == "rgb":
        return replace(tags, matrix=0, full=True, chroma=0)
    if kind == "image":
        return replace(tags, full=True, chroma=0)
    if source.family == "rgb":
        tags = replace(tags, matrix=1, full=False)
    return tags if layout.sub_w or layout.sub_h else replace(tags, chroma=0)


def _encoder_options(codec: str, crf: float | None, extra: dict[str, str]) -> dict[str, str]:
    """Defaults of the codec, then --crf, then --encoder-options; unknown names are refused."""
    context = av.CodecContext.create(codec, "w")
    private = {option.name for option in context.supported_options.private}
    known = private | {option.name for option in context.supported_options.generic} | {"threads"}
    options = dict(_OPTIONS.get(codec, {}))
    if crf is None and codec in DEFAULT_CRF and not {"crf", "qp", "b"} & extra.keys():
        crf = DEFAULT_CRF[codec]
    elif crf is not None and "crf" not in private:
        raise OptionError(f"--crf: {codec} has no constant rate factor; leave it out")
    elif crf is not None and not 0 <= crf <= 63:
        raise OptionError(f"--crf {crf:g}: a number from 0 (lossless or nearly so) to 63 is needed")
    if crf is not None:
        options["crf"] = f"{crf:g}"
    for name, value in extra.items():
        if name not in known:
            raise OptionError(f"--encoder-options {name}: {codec} has no such option")
        joined = name in ("x264-params", "x265-params") and name in options
        options[name] = f"{options[name]}:{value}" if joined else value
    return options
