"""How the output is encoded: codec, pixel format and options, from container, source and what was asked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import av

from ..errors import FormatError, OptionError
from .colour import TRANSFER_HDR, ColourTags
from .curve import LINEAR, SRGB
from .hdr import MATROSKA_CODECS, HdrMetadata, encoder_options
from .pixels import Family, PixelLayout, layout_of

MUXERS = {
    ".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm", ".y4m": "y4m",
    ".png": "image", ".tif": "image", ".tiff": "image", ".exr": "image",
}  # fmt: skip
"""Output kinds by suffix. `y4m` and `image` are written by this package, the others by libav."""
IMAGE_CODECS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".exr": "exr"}
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
    "prores_ks": {"vendor": "apl0"},  # what editors look for
    "exr": {"compression": "zip16"},
}
ALPHA_KEEPERS = {
    "matroska": "--codec ffv1 or libvpx-vp9 keeps it", "mov": "--codec prores_ks keeps it",
    "webm": "libvpx-vp9 with even sides keeps it",
}  # fmt: skip
"""What to do so that alpha is kept, by kind of output."""
Y4M_LAYOUTS = tuple(
    PixelLayout("gray" if sub is None else "yuv", bits, *(sub or (0, 0)))
    for sub in (None, (1, 1), (1, 0), (0, 0))
    for bits in (8, 10, 12)
)
"""What the y4m writer can label."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """codec: libav encoder, or y4m.  pix_fmt: libav name that the encoder gets.  layout: its samples.  tags: of the
    signal that is encoded, written in the file and used for the conversion.  notes: sentences about what differs from
    the source.  hdr: what is written of its HDR metadata.
    """

    codec: str
    pix_fmt: str
    layout: PixelLayout
    tags: ColourTags
    options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hdr: HdrMetadata | None = None

    def describe(self) -> str:
        """`libx264, yuv420p, crf 16, preset veryfast`."""
        named = [f"{name} {self.options[name]}" for name in ("crf", "preset") if name in self.options]
        return ", ".join([self.codec, self.pix_fmt, *named])


X264_NAMES = {
    "preset": (
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
    ),
    "tune": ("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"),
    "profile": ("baseline", "main", "high", "high10", "high422", "high444"),
}  # fmt: skip
"""What libx264 would complain about on stderr by itself; presets also have numbers, tunes are joined by +."""


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
    hdr: HdrMetadata | None = None,
) -> Encoding:
    """The encoding of `output` for frames of `size` made from a source of that layout and those (resolved) tags.

    Keeps family, depth, subsampling, alpha and HDR metadata where the codec can; every difference is a note. Raises
    OptionError where what was asked does not exist or does not fit together.
    """
    kind = output_kind(output)
    wanted, notes = _wanted(kind, output, source, size)
    if kind == "y4m":
        _refuse(kind, codec=codec, crf=crf, pix_fmt=pix_fmt, encoder_options=options)
        layout = min(Y4M_LAYOUTS, key=lambda one: _distance(wanted, one))
        notes += _changes(wanted, layout, "y4m", kind) + _no_hdr(hdr, "y4m")
        made = _tags(layout, source, tags, kind)
        return Encoding("y4m", layout.planar_name, layout, made, {}, tuple(notes))
    if kind == "image":
        _refuse(kind, codec=codec, crf=crf)
        codec = _image_codec(output)
    name = _encoder(codec) if codec else default_codec(kind, source, tags, size)
    formats = _formats(name, size, wanted.alpha)
    if pix_fmt:
        chosen = _asked(pix_fmt, formats, name, size)
        notes += _no_alpha(wanted, layout_of(chosen), name, kind)
    else:
        aim = replace(wanted, family="yuv") if codec is None and wanted.family == "rgb" else wanted
        chosen = min(formats, key=lambda one: _distance(aim, layout_of(one)))
        notes += _changes(wanted, layout_of(chosen), name, kind)
    layout = layout_of(chosen)
    notes += _light_notes(source, layout, tags)
    held = hdr if name in MATROSKA_CODECS and kind != "image" else None
    notes += _no_hdr(hdr, name) if held is None else []
    return Encoding(
        name, chosen, layout, _tags(layout, source, tags, kind),
        _encoder_options(name, crf, options or {}, source, held), tuple(notes), held,
    )  # fmt: skip


def default_codec(kind: str, source: PixelLayout, tags: ColourTags, size: tuple[int, int]) -> str:
    """The encoder of a container where none is asked for.

    webm: VP9 at 8 bits and for alpha, else AV1. Others: H.264 up to 10 bits, HEVC above them and for PQ and HLG (which
    players expect there); alpha goes to ProRes in mov, to VP9 (8 bits) or FFV1 in mkv, and is lost in mp4.
    """
    if source.alpha and PixelLayout("yuv", 8, 1, 1).fits(*size) and kind in ("matroska", "webm"):
        return "libvpx-vp9" if source.bits == 8 or kind == "webm" else "ffv1"
    if source.alpha and kind in ("matroska", "mov"):
        return "ffv1" if kind == "matroska" else "prores_ks"
    deep = source.bits > (8 if kind == "webm" else 10) or (source.bits == 10 and tags.transfer in TRANSFER_HDR)
    plain, better = ("libvpx-vp9", "libsvtav1") if kind == "webm" else ("libx264", "libx265")
    even = kind != "webm" or PixelLayout("yuv", 8, 1, 1).fits(*size)
    return better if deep and even and min(size) >= SMALLEST.get(better, 0) else plain


def _image_codec(output: str) -> str:
    return IMAGE_CODECS["." + output.rsplit(".", 1)[-1].lower()]


def _wanted(kind: str, output: str, source: PixelLayout, size: tuple[int, int]) -> tuple[PixelLayout, list[str]]:
    """The layout to aim for, and why it differs from the source's."""
    bits = 16 if source.floating else source.bits
    wanted = replace(source, bits=bits, full=False, floating=False)
    notes: list[str] = []
    if kind == "image":
        if _image_codec(output) == "exr":
            return PixelLayout("rgb", 32, alpha=source.alpha, floating=True), notes
        family: Family = "gray" if source.family == "gray" and not source.alpha else "rgb"
        return PixelLayout(family, 8 if bits == 8 else 16, alpha=source.alpha), notes
    if wanted.family == "gray" and wanted.alpha:
        wanted = PixelLayout("yuv", bits, alpha=True)
    if not wanted.fits(*size):
        name = wanted.opaque.planar_name
        notes.append(f"{name} becomes 4:4:4, because it cannot hold {size[0]}x{size[1]} (an odd side)")
        wanted = wanted.without_subsampling()
    return wanted, notes


def _refuse(kind: str, **given: object) -> None:
    for name, value in given.items():
        if value:
            what = "y4m is raw video" if kind == "y4m" else "the codec of images follows from their suffix"
            raise OptionError(f"--{name.replace('_', '-')} has no meaning here: {what}")


def _encoder(codec: str) -> str:
    """The encoder of a name that may be a format's: hevc is libx265, whose limits and defaults then hold. Raises
    OptionError."""
    try:
        found = av.Codec(codec, "w")
    except (av.FFmpegError, ValueError):
        found = None
    if found is not None and found.type == "video":
        return found.name
    usual = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
    known = ", ".join(c for c in usual if c in av.codecs_available)
    raise OptionError(f"--codec {codec}: there is no such video encoder; usual ones are {known}")


def _formats(codec: str, size: tuple[int, int], alpha: bool) -> list[str]:
    """Pixel formats of an encoder that this package can fill, plain planar ones first. Raises OptionError.

    alpha: those with alpha count, too.
    """
    if min(size) < (least := SMALLEST.get(codec, 0)):
        raise OptionError(f"--codec {codec} takes no {size[0]}x{size[1]} frames; each side must be {least} or more")
    found = av.Codec(codec, "w")
    names = []
    for fmt in found.video_formats or []:
        try:
            layout = layout_of(fmt.name)
        except FormatError:
            continue
        usable = fmt.components[0].bits >= 8 and layout.floating == (codec == "exr") and not fmt.has_palette
        if usable and not layout.full and (alpha if layout.alpha else True) and _is_read_back(codec, layout):
            names.append(fmt.name)
    if not names:
        raise OptionError(f"--codec {codec}: it takes no gray, YUV or RGB frames from 8 to 16 bits")
    names = [name for name in names if layout_of(name).fits(*size)]
    if not names:
        raise OptionError(f"--codec {codec} takes no {size[0]}x{size[1]} frames: both sides must be even")
    return sorted(names, key=lambda name: name != layout_of(name).planar_name)


def _is_read_back(codec: str, layout: PixelLayout) -> bool:
    """Whether libav reads a layout again as it was written: alpha of HEVC, and of VP9 except in 4:2:0, is lost."""
    if not layout.alpha:
        return layout.family != "gray" or not layout.floating
    vp9 = codec != "libvpx-vp9" or (layout.family, layout.sub_w, layout.sub_h) == ("yuv", 1, 1)
    return layout.family != "gray" and codec != "libx265" and vp9


def _asked(pix_fmt: str, formats: list[str], codec: str, size: tuple[int, int]) -> str:
    if pix_fmt in formats:
        return pix_fmt
    with suppress(FormatError):
        if not layout_of(pix_fmt).fits(*size):
            raise OptionError(
                f"--pix-fmt {pix_fmt} cannot hold {size[0]}x{size[1]} (an odd side); use a 4:4:4 format or even sizes"
            )
    raise OptionError(f"--pix-fmt {pix_fmt}: {codec} takes {', '.join(formats)}")


def _distance(wanted: PixelLayout, one: PixelLayout) -> tuple[int, ...]:
    """What is lost by going from one layout to another, worst kind first, then what is wasted."""
    ranks = {("gray", "yuv"): 1, ("rgb", "yuv"): 2, ("gray", "rgb"): 3, ("yuv", "rgb"): 4}
    family = 0 if wanted.family == one.family else ranks.get((wanted.family, one.family), 9)
    chroma = [a - b for a, b in ((one.sub_w, wanted.sub_w), (one.sub_h, wanted.sub_h))]
    lost = sum(max(0, c) for c in chroma)
    depth = max(0, wanted.bits - one.bits), max(0, one.bits - wanted.bits)
    return wanted.alpha - one.alpha, family, lost, *depth, sum(max(0, -c) for c in chroma)


def _changes(wanted: PixelLayout, layout: PixelLayout, codec: str, kind: str) -> list[str]:
    """Sentences when the chosen layout is not the wanted one."""
    notes = _no_alpha(wanted, layout, codec, kind)
    from_to = f"{wanted.opaque.planar_name} becomes {layout.opaque.planar_name}"
    if layout.opaque == wanted.opaque:
        return notes
    if wanted.family == "rgb" and layout.family == "yuv":
        return [*notes, f"RGB: {from_to} with matrix 709 (--codec ffv1 keeps RGB)"]
    if layout.bits < wanted.bits:
        more = "" if codec == "ffv1" else " (--codec ffv1 holds 16)"
        return [*notes, f"{from_to}: {codec} holds no more than {layout.bits} bits of it{more}"]
    return [*notes, f"{from_to}, the nearest that {codec} holds"]


def _no_alpha(wanted: PixelLayout, layout: PixelLayout, codec: str, kind: str) -> list[str]:
    if not wanted.alpha or layout.alpha:
        return []
    advice = ALPHA_KEEPERS.get(kind, "a .mov, .webm, .mkv or .png keeps it")
    return [f"the alpha channel is dropped: {codec} holds none ({advice})"]


def _no_hdr(hdr: HdrMetadata | None, codec: str) -> list[str]:
    if hdr is None:
        return []
    return [f"HDR metadata ({hdr.describe()}) is dropped: there is no place for it beside {codec}"]


def _light_notes(source: PixelLayout, layout: PixelLayout, tags: ColourTags) -> list[str]:
    """What becomes of linear light (EXR)."""
    if source.floating and not layout.floating:
        return ["linear light becomes sRGB: what is brighter than white (1.0) is clipped (.exr keeps it)"]
    if layout.floating and not source.floating:
        curve = TRANSFER_HDR.get(tags.transfer, "sRGB")
        return [f"{curve} becomes linear light, 1.0 = reference white"]
    return []


def _tags(layout: PixelLayout, source: PixelLayout, tags: ColourTags, kind: str) -> ColourTags:
    """Colour tags of the output: the source's, except where the family changes; images are always full range."""
    if source.floating and not layout.floating and tags.transfer == LINEAR:
        tags = replace(tags, transfer=SRGB)
    if layout.family == "rgb":
        return replace(tags, matrix=0, full=True, chroma=0)
    if kind == "image":
        return replace(tags, full=True, chroma=0)
    if source.family == "rgb":
        tags = replace(tags, matrix=1, full=False)
    return tags if layout.sub_w or layout.sub_h else replace(tags, chroma=0)


def _encoder_options(
    codec: str, crf: float | None, extra: dict[str, str], source: PixelLayout, hdr: HdrMetadata | None
) -> dict[str, str]:
    """Defaults of the codec and its HDR parameters, then --crf, then --encoder-options; unknown names are refused."""
    context = av.CodecContext.create(codec, "w")
    private = {option.name for option in context.supported_options.private}
    known = private | {option.name for option in context.supported_options.generic} | {"threads"}
    options = dict(_OPTIONS.get(codec, {}))
    parameter, value = encoder_options(codec, hdr) if hdr else ("", "")
    if parameter:
        options[parameter] = f"{options[parameter]}:{value}" if parameter in options else value
    if codec == "exr" and source.bits <= (16 if source.floating else 12):
        options["format"] = "half"
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
        known_values = X264_NAMES.get(name, ()) if codec == "libx264" else ()
        if known_values and not {part for part in value.split("+") if not part.isdecimal()} <= set(known_values):
            raise OptionError(f"--encoder-options {name}={value[:50]}: libx264 knows {', '.join(known_values)}")
        joined = name in ("x264-params", "x265-params", "svtav1-params") and name in options
        options[name] = f"{options[name]}:{value}" if joined else value
    return options
