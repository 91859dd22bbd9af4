"""Arguments of the command line that nobody should give, and some that one may.

What would merely be a lot of work (a sound width of 16384) is left out, and so is every path outside of the current
folder under which something could be written.
"""

import random

NUMBERS = (
    "0", "1", "2", "4", "-1", "-0", "5", "0.5", "1e-9", "1e308", "-1e308", "1e999", "nan", "-nan", "inf", "-inf", "1.0",
    "99999999999999999999", str(2**63), str(2**63 - 1), str(-(2**63)), "0x10", "0b1", "1_0", "٣", "½", "²", " 1", "1 ",
    "", " ", "+1", "--1", "1,5", "1e", "e1", "one", "1" * 5000, "0" * 5000 + "1", "1." + "0" * 5000, "\t1", "1\n",
    "None", "true", "[]", "{}", "%d", "1;2", "１", "1\u200b", "\ufeff1", "NaN", "1e-400", "9" * 300, "16385", "-16384",
    "1000000001",
)  # fmt: skip
TIMES = (
    "0", "1", "2", "3", "9", "10", "11", "-1", "00:00:00", "0:00", "0:00.1", "0:00.04", "00:00:01", "99:59:59", "0:60",
    "1:2:3:4", ":1", "0:", "::", "0:00.", "0:00." + "1" * 5000, "9" * 5000, "9" * 5000 + ":00", "0:٣٣", "٣", "²", "1e3",
    "0.5", "1s", "nan", "", " ", "00:00:00,5", "-0:01", "1/2", "99999999999999999999", "0:00:00:00", "a:bc", "0:0",
    "0:5", "0:00:0.0000001",
)  # fmt: skip
NAMES = (
    "", " ", ".", "..", "-", "--", "~", "~nobody-at-all/x", "none", "none.mkv", "x" * 300, "x" * 5000,
    "a/" * 3000 + "b", "é.mkv", "\u202egpj.mkv", "a\nb.mkv", "a\tb", "\x1b[31mred", "\udcff\udcfe", "😀", "%d", "%05d",
    "%s", "%n%n", "%05d.png", "%d%d.png", "{}", "$HOME", "`id`", "'", '"', "a b", "file:a.mkv", "file:none",
    "concat:a.mkv|a.mkv", "pipe:0", "pipe:9", "fd:", "subfile,,start,0,end,100,,:a.mkv", "data:,x",
    "data:video/mp4;base64,AAAA", "crypto:a.mkv", "async:a.mkv", "cache:a.mkv", "md5:", "a.mkv/", "a.mkv/x",
    "/dev/null", "/proc/self/exe", "/root/none/none", "CON", "nul", "a.mkv:stream", "\\\\host\\x", "text.txt",
    "empty.mkv", "folder", "folder.mkv", "loop.mkv",
)  # fmt: skip
"""Names of things that exist, that do not, and that libav may understand in a way of its own."""
OUTPUTS = (
    "b.mkv", "b.mkv", "b.mkv", "b.mp4", "b.mov", "b.webm", "b.m4v", "b.y4m", "%05d.png", "out%d.tif", "o%05d.exr",
    "b.png", "-", "b.gif", "b", "", " ", ".", "b.", ".mkv", "b.MKV", "b.mkv ", "a.mkv", "none/b.mkv", "folder",
    "folder/", "folder/b.mkv", "folder.mkv", "x" * 252 + ".mkv", "x" * 5000 + ".mkv", "é😀.mkv", "a\nb.mkv",
    "\udcff.mkv", "%s.png", "%d%d.png", "%099999d.png", "%5d.mkv", "text.txt", "text.txt/b.mkv", "loop.mkv", "-.mkv",
    "--", "~nobody-at-all/b.mkv", "b.mkv/", "b.mkv.", "/none/b.mkv", "b.tar.mkv", "%d/%d.png", "dangling.mkv",
    "b%%.png", "\x1b[31m.mkv",
)  # fmt: skip
WORDS = (
    "", " ", "x", "auto", "cpu", "cuda", "cuda:", "cuda:0", "cuda:99999999999999999999", "cuda:-1", "cuda:²", "cuda:٣",
    "mps", "CPU", "float32", "bfloat16", "float16", "int8", "709", "170m", "rgb", "0", "2020ncl", "ycgco", "240m",
    "fcc", "470bg", "٣", "x" * 5000, "\n", "\udcff", "%s", "None", "\x1b[31mred",
)  # fmt: skip
CODECS = (
    "libx264", "libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "prores_ks", "mpeg4", "mpeg2video", "mjpeg",
    "png", "exr", "gif", "rawvideo", "huffyuv", "h264", "hevc", "aac", "copy", "none", "", " ", "LIBX264", "libx264 ",
    "srt", "pcm_s16le", "wrapped_avframe", "\udcff", "x" * 5000, "\n", "utvideo", "dnxhd", "cinepak", "dvvideo", "h263",
    "flv", "wmv2", "msmpeg4v3", "jpeg2000", "libopenjpeg", "qtrle", "zlib", "snow", "vc2", "apng", "libwebp",
    "libaom-av1", "librav1e", "libvpx", "libtheora", "roqvideo", "asv1", "ljpeg", "magicyuv", "cfhd", "speedhq", "tiff",
    "dpx", "xwd", "pam",
)  # fmt: skip
FORMATS = (
    "yuv420p", "yuv444p", "yuv420p10le", "yuv420p10", "yuv422p12le", "gray", "gray16le", "rgb24", "gbrp", "yuva420p",
    "nv12", "p010le", "bgr0", "rgb565", "pal8", "monow", "vaapi", "cuda", "bayer_rggb8", "xyz12le", "yuvj420p",
    "gbrpf32le", "none", "", " ", "YUV420P", "x" * 5000, "\udcff", "0", "-1", "\n",
)  # fmt: skip
OPTIONS = (
    "preset=fast", "preset=", "preset=none", "=", "=x", "x", "x=y", "crf=99", "crf=nan", "qp=-1", "b=-1", "b=1e30",
    "threads=0", "threads=-1", "threads=x", "threads=99999", "threads=", "threads=²", "g=-1", "g=0", "bf=99", "bf=-2",
    "refs=99", "level=-99", "profile=none", "x264-params=", "x264-params=x", "x264-params=:::",
    "x264-params=keyint=0:bframes=99", "x264-params=threads=0", "x265-params=pools=x", "x265-params=log-level=9",
    "tune=film,preset=slow", "tune=none", "g=1,bf=0", "flags=+global_header", "flags=none", "strict=-99",
    "color_range=99", "pixel_format=x", "time_base=0/0", ",,,", "preset=fast,,", "\udcff=1", "😀=1", "a\n=1",
    "b=" + "9" * 400, "qmin=99,qmax=1", "rc-lookahead=-5", "slices=99999", "slices=-1", "level=3,coder=9",
    "cpu-used=99", "lag-in-frames=-9", "pix_fmt=gray", "width=1", "s=1x1", "aspect=0", "max_b_frames=99",
    "keyint_min=-1", "nal-hrd=cbr", "x264opts=foo=1", "x264opts=", "preset=fast=slow", "crf=", "flags2=x", "debug=99",
)  # fmt: skip
BYTES = (
    "6GB", "6 GB", "6gb", "6G", "GB", "0GB", "-1GB", "1e999GB", "nanGB", "infMB", "9" * 5000 + "GB", "٣GB", "1TB",
    "1kB", "0.0001MB", "1e-300GB", "1MB", "100MB", "6GBGB", "6\nGB", "6GiB", "1" * 400 + "MB",
)  # fmt: skip
ADDRESSES = (
    "", " ", "x", "x:", ":1", ":", "x:0", "x:99999", "x:-1", "x:1e3", "x:²", "a:b:c", "\n", "x" * 5000, "\udcff",
)  # fmt: skip
"""None of them names a host and a port: nothing is to be reached."""
MANY = ("2", "4", "5", "٣", "1_0")
"""Numbers of threads and processes that would be made."""
VALUES: dict[str, tuple[str, ...]] = {
    "--model": (*NAMES, "nano", "nanno", "NANO", "tiny.safetensors", "a.mkv", "text.txt", "empty.safetensors"),
    "--scale": NUMBERS, "--width": NUMBERS, "--height": (*NUMBERS, "100", "33", "16", "15"), "--strength": NUMBERS,
    "--detail": NUMBERS, "--seed": NUMBERS, "--start": TIMES, "--frames": TIMES, "--codec": CODECS, "--crf": NUMBERS,
    "--pix-fmt": FORMATS, "--encoder-options": OPTIONS, "--matrix": WORDS, "--device": WORDS, "--precision": WORDS,
    "--tile": (*NUMBERS, "32", "31", "33"), "--tile-overlap": (*NUMBERS, "8", "32"), "--segment": (*NUMBERS, "8"),
    "--threads": tuple(n for n in NUMBERS if n not in MANY), "--workers": tuple(n for n in NUMBERS if n not in MANY),
    "--vram": (*NUMBERS, *BYTES), "--preview": NUMBERS, "--ray": ADDRESSES,
    "--report": (*(name for name in NAMES if not name.startswith("/dev")), "r.json", "none/r.json"),
}  # fmt: skip
"""Option of `upscale` -> values."""
FLAGS = ("--no-scene-cut", "--assume-progressive", "--overwrite", "--resume", "--version", "--help", "--none", "-x")
SIZES = (
    "16x16", "17x33", "0x0", "16x", "x16", "16", "-1x5", "٣٣x٣٣", "16385x16", "15x16", "9" * 5000 + "x1", "", "16×16",
    "16X16", " 16x16", "1e1x16", "\n",
)  # fmt: skip
CROPS = (
    "64x64+0+0",
    "10x10",
    "-1x1+0+0",
    "9" * 5000 + "x1+0+0",
    "99999x9+0+0",
    "",
    "32x32+60+60",
    "0x0+0+0",
    "٣x٣+0+0",
)
ANY = (*NUMBERS, *WORDS, *TIMES)


def arguments(chance: random.Random) -> list[str]:
    """The words behind `duovsr`, in a folder that holds what NAMES speaks of, with a sound video a.mkv in it."""
    make = chance.choices([make for make, _ in COMMANDS], [share for _, share in COMMANDS])[0]
    return make(chance)


def _upscale(chance: random.Random) -> list[str]:
    given: list[str] = []
    names = chance.choices(("source", "output", "options"), (2, 2, 10))[0]
    given += [chance.choice(NAMES) if names == "source" else "a.mkv"]
    if chance.random() < 0.05:
        given.append(chance.choice(NAMES))
    given += ["-o", chance.choice(OUTPUTS) if names == "output" or chance.random() < 0.1 else "b.mkv"]
    options = chance.sample(sorted(VALUES), chance.choice((0, 1, 1, 1, 2, 3))) if names == "options" else []
    for option in options:
        value = chance.choice(VALUES[option])
        given += [f"{option}={value}"] if chance.random() < 0.5 else [option, value]
    if "--model" not in options:
        given += ["--model", "tiny.safetensors"]
    if not {"--scale", "--width", "--height"} & set(options):
        given += ["--scale", "1"]
    given += chance.sample(FLAGS, 1) if chance.random() < 0.15 else []
    if chance.random() < 0.05:
        chance.shuffle(given)
    if chance.random() < 0.05:
        del given[chance.randrange(len(given))]
    return ["upscale", *given]


def _info(chance: random.Random) -> list[str]:
    names = chance.sample(NAMES, chance.choice((1, 1, 1, 2)))
    return ["info", *names, *(["--self-test"] if chance.random() < 0.2 else [])]


def _check(chance: random.Random) -> list[str]:
    given = ["a.mkv", "a.mkv"]
    if chance.random() < 0.5:
        given[chance.randrange(2)] = chance.choice(NAMES)
    for option in chance.sample(("--start", "--frames", "--every", "--window", "--tile", "--model"), 2):
        pool = TIMES if option in ("--start", "--frames") else NAMES if option == "--model" else NUMBERS
        given += [option, chance.choice(pool)]
    return ["check", *given, *(["--json"] if chance.random() < 0.3 else [])]


def _compare(chance: random.Random) -> list[str]:
    given = ["a.mkv", chance.choice(("a.mkv", chance.choice(NAMES))), "-o"]
    given.append(chance.choice(("p.html", "p.png", chance.choice(OUTPUTS))))
    pools = {
        "--frames": NUMBERS, "--at": TIMES, "--start": TIMES, "--length": TIMES, "--crop": CROPS,
        "--enlarge": WORDS, "--truth": NAMES,
    }  # fmt: skip
    for option in chance.sample(sorted(pools), chance.choice((1, 2))):
        given += [option, chance.choice(pools[option])]
    return ["compare", *given]


def _bench(chance: random.Random) -> list[str]:
    model = chance.choice(("tiny.safetensors", chance.choice(NAMES)))
    given = ["bench", "--size", chance.choice(SIZES), "--frames", "1", "--model", model]
    if chance.random() < 0.5:
        option = chance.choice(("--device", "--precision", "--tile"))
        given += [option, chance.choice(VALUES[option])]
    return given


def _models(chance: random.Random) -> list[str]:
    return ["models", *chance.sample(("--json", "x", "--none", ""), chance.choice((0, 1, 2)))]


def _words(chance: random.Random) -> list[str]:
    return [chance.choice((*ANY, *NAMES, *FLAGS, "upscale", "-o")) for _ in range(chance.randrange(5))]


COMMANDS = ((_upscale, 80), (_info, 6), (_check, 3), (_compare, 3), (_bench, 3), (_models, 1), (_words, 4))
"""What makes the words of a command, and its share."""
