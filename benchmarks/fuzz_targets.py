"""What is done with a malformed input, and what of that is a fault. Runs in a worker process, which may die of it."""

import os
import random
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import fuzz_arguments
import fuzz_models
import fuzz_odd
from fuzz_mutations import mutated
from fuzz_worker import MAKING

from duovsr_vs.cli.main import main
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.video.colour import resolve_matrix
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.facts import facts_of
from duovsr_vs.video.hdr import HdrMetadata
from duovsr_vs.video.join import Span
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import StreamCopier, chapters_in, lost_tags

CODES = (0, 1, 2, 3, 130)
"""Documented exit codes."""
FRAMES = 4
CONTAINERS = ("b.mkv", "b.mp4", "b.mov", "b.webm", "b.y4m", "%05d.png")
OWN_WORDS = (
    "input", "output", "model", "size", "part", "source", "base", "windows?", "tiles?", "device", "machine", "memory",
    "segments?", "kept", "not kept", "note", "done", "resumed", "skipped", "failed", "damaged", "there already",
    "preview", "estimate", "cluster", r"\d+ of", r"\d+ frames",
)  # fmt: skip
OWN_LINE = re.compile(rf"({'|'.join(OWN_WORDS)})\b|\[\d+/\d+\] ")
"""How lines on stderr begin that are no errors."""


class Fault(Exception):  # noqa: N818 (not an error of this program)
    """Something that must not happen has happened."""


def run(kind: str, seed: str, corpus: Path, folder: Path) -> str:
    """One input: made from the seed in an empty folder, then used. A word for what became of it; raises Fault."""
    chance = random.Random(seed)
    try:
        return TARGETS[kind](chance, corpus, folder)
    except DuoVsrError as error:
        if "\n" in str(error) or not str(error):
            raise Fault(f"not one sentence: {str(error)!r}") from error
        return "refused"
    except (Fault, KeyboardInterrupt):
        raise
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = next((one for one in reversed(place) if "duovsr_vs" in one.filename), place[-1])
        where = f"{Path(ours.filename).parent.name}/{Path(ours.filename).name}:{ours.lineno}"
        raise Fault(f"{type(error).__name__} at {where}: {str(error)[:200]}") from error


# -- videos ------------------------------------------------------------------------------------------------------------


def _damaged(chance: random.Random, corpus: Path, folder: Path) -> Path:
    """A malformed video or image in the folder."""
    files = sorted((corpus / "media").iterdir())
    chosen = chance.choice(files)
    data = chosen.read_bytes()
    path = folder / f"a.{chosen.suffix[1:]}"
    path.write_bytes(mutated(data, chosen.suffix[1:], chance, [file.read_bytes() for file in files[:6]]))
    if chosen.suffix in (".png", ".exr", ".tif"):
        shutil.copy(chosen, folder / f"00001{chosen.suffix}")
        path = path.rename(folder / f"0000{chance.randrange(1, 3)}{chosen.suffix}")
        return folder / f"%05d{chosen.suffix}" if chance.random() < 0.7 else path
    return path


def _odd(chance: random.Random, folder: Path) -> Path | None:
    mark = folder.parent / MAKING
    mark.touch()
    try:
        return fuzz_odd.make(folder, chance)
    except (av.FFmpegError, ValueError, OSError, OverflowError):
        path = next(folder.glob("odd.*"), None)
        return path if path is not None and path.stat().st_size else None
    finally:
        mark.unlink()


def read(chance: random.Random, corpus: Path, folder: Path) -> str:
    """A damaged video through everything that looks at an input before and while it is upscaled."""
    return _read(str(_damaged(chance, corpus, folder)), chance)


def odd(chance: random.Random, corpus: Path, folder: Path) -> str:
    """The same with a video that is sound and strange."""
    path = _odd(chance, folder)
    return "not made" if path is None else _read(str(path), chance)


def _read(source: str, chance: random.Random) -> str:
    with VideoReader(source, assume_progressive=chance.random() < 0.5) as reader:
        info, kind = reader.info, chance.choice(("matroska", "mp4", "mov", "webm"))
        tags, _ = resolve_matrix(info.tags, info.layout, info.height, None)
        to_rgb = ToRGB(info.layout, tags, info.width, info.height)
        total = reader.total or 0
        start = chance.choice((0, 0, total // 2, max(total - 1, 0)))
        facts_of(reader)
        copier = StreamCopier(reader.container, reader.stream.index, kind, Span())
        copier.names()
        lost_tags(reader.container.metadata, kind)
        chapters_in(reader.container, Span())
        assert info.hdr is None or isinstance(info.hdr, HdrMetadata)
        if max(info.width, info.height) < 4000:
            choose("b.mkv", info.layout, tags, (info.width * 2, info.height * 2), hdr=info.hdr)
        for frame in islice(reader.frames(start), FRAMES):
            to_rgb(frame.image)
    return "read"


def command(chance: random.Random, corpus: Path, folder: Path) -> str:
    """A damaged or strange video through the whole command line, from a file or a pipe, in one go or in segments."""
    if chance.random() < 0.3:
        path = _odd(chance, folder)
        if path is None:
            return "not made"
    else:
        path = _damaged(chance, corpus, folder)
    if chance.random() < 0.15:
        return _called(["info", path.name], folder)
    output = chance.choice(CONTAINERS)
    given = ["upscale", path.name, "-o", output, "--model", str(corpus / "tiny.safetensors"), "--scale", "1"]
    given += ["--report", "r.json"] if chance.random() < 0.3 else []
    given += ["--segment", "8"] if chance.random() < 0.3 else []
    given += ["--start", chance.choice(("1", "3", "00:00:00.1"))] if chance.random() < 0.15 else []
    given += ["--assume-progressive"] if chance.random() < 0.5 else []
    if chance.random() < 0.15 and path.is_file():
        given[1] = "-"
        return _called(given, folder, stdin=path)
    return _called(given, folder)


# -- models, jobs, arguments -------------------------------------------------------------------------------------------


def model(chance: random.Random, corpus: Path, folder: Path) -> str:
    """A damaged model: loaded, described, tested against itself."""
    from duovsr_vs.model.checkpoint import load, read_golden

    chosen = chance.choice(sorted((corpus / "models").iterdir()))
    path = folder / "m.safetensors"
    path.write_bytes(fuzz_models.model(chosen.read_bytes(), chance))
    how = chance.choice(("load", "load", "load", "golden", "info", "test", "upscale"))
    if how == "load":
        load(path, chance.choice((None, None, 0.0, 0.5)))
    elif how == "golden":
        read_golden(path)
    elif how == "upscale":
        source = str(corpus / "media" / "plain.avi")
        return _called(
            ["upscale", source, "-o", "b.mkv", "--model", path.name, "--scale", "1", "--frames", "1"], folder
        )
    else:
        return _called(["info", path.name, *(["--self-test"] if how == "test" else [])], folder)
    return "loaded"


def job(chance: random.Random, corpus: Path, folder: Path) -> str:
    """A long job whose folder was damaged, taken up again."""
    shutil.copytree(corpus / "job", folder, dirs_exist_ok=True)
    fuzz_models.job(folder / ".b.mkv.duovsr", chance)
    given = ["upscale", "a.mkv", "-o", "b.mkv", "--model", str(corpus / "tiny.safetensors"), "--scale", "1"]
    given += ["--segment", "8", "--threads", "1", *chance.choice((["--resume"],) * 6 + ([], ["--overwrite"]))]
    return _called(given, folder)


def arguments(chance: random.Random, corpus: Path, folder: Path) -> str:
    """Arguments, in a folder with all kinds of things."""
    shutil.copy(corpus / "job" / "a.mkv", folder / "a.mkv")
    shutil.copy(corpus / "tiny.safetensors", folder)
    (folder / "text.txt").write_text("no video\n" * 50)
    (folder / "empty.mkv").touch()
    (folder / "empty.safetensors").touch()
    (folder / "folder").mkdir()
    (folder / "folder.mkv").mkdir()
    (folder / "loop.mkv").symlink_to("loop.mkv")
    (folder / "dangling.mkv").symlink_to("nowhere.mkv")
    return _called(fuzz_arguments.arguments(chance), folder)


# -- the command line --------------------------------------------------------------------------------------------------


def _called(words: list[str], folder: Path, stdin: Path | None = None) -> str:
    """Run `duovsr` in this process, standing in the folder; raises Fault when it breaks what it promises."""
    before = _names(folder)
    out, log = folder.parent / "out.txt", folder.parent / "log.txt"
    saved = [os.dup(number) for number in range(3)]
    argv, here = sys.argv, Path.cwd()
    try:
        new = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        for number, (path, mode) in enumerate([(stdin or os.devnull, os.O_RDONLY), (out, new), (log, new)]):
            opened = os.open(path, mode)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(folder)
        sys.argv = ["duovsr", *words]
        code = _code(main)
    finally:
        sys.argv = argv
        os.chdir(here)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
            os.close(copy)
    text = log.read_text(errors="replace")
    if code == 2 and not text and "Usage: " in out.read_text(errors="replace"):
        return "help"
    _judge(words, code, text, _names(folder) - before, folder)
    return f"code {code}"


def _code(called: Callable[[], None]) -> int:
    try:
        called()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    return 0


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _judge(words: list[str], code: int, text: str, new: set[str], folder: Path) -> None:
    """Raise Fault for an exit code, a text or a file that should not be."""
    if code not in CODES:
        raise Fault(f"exit code {code}")
    if "Traceback" in text:
        raise Fault(f"traceback: {text.strip().splitlines()[-1][:200]}")
    lines = text.splitlines()
    errors = [n for n, line in enumerate(lines) if line.startswith("duovsr: ")]
    usage = "Usage: " in text or "╭─ Error" in text
    batch = any(line.startswith("[") for line in lines)
    strange = [line for line in lines if not line.startswith("duovsr: ") and not OWN_LINE.match(line)]
    if strange and not usage and words[:1] != ["bench"]:
        raise Fault(f"a line of its own: {strange[0][:200]!r}")
    quiet = words[:1] == ["check"] or "--self-test" in words  # they tell their findings on stdout
    needed = 1 if code in (1, 2, 3) and not usage else 0
    if not batch and len(errors) != needed and not (quiet and not errors):
        raise Fault(f"code {code} with {len(errors)} lines of error: {text[-200:]!r}")
    if code == 1 and not batch and errors and errors[-1] != len(lines) - 1:
        raise Fault(f"more than one line of error: {text[-300:]!r}")
    _judge_files(words, code, text, new, folder)


def _judge_files(words: list[str], code: int, text: str, new: set[str], folder: Path) -> None:
    """What may be left: the output of a run that says so, its finished segments, the report."""
    if parts := [name for name in new if name.endswith(".part")]:
        raise Fault(f"left behind: {parts[0]}")
    # A run that is refused may have locked a folder that was there before; that is no segment.
    segments = [n for n in new if ".duovsr" in n and not (Path(n).name == "lock" and str(Path(n).parent) not in new)]
    if segments and (code == 0 or "segments are finished" not in text):
        raise Fault(f"segments left behind: {segments[0]}, code {code}")
    outputs = {name for name in new if ".duovsr" not in name and not (folder / name).is_dir()} - {"r.json"}
    outputs -= {words[n + 1] for n, word in enumerate(words[:-1]) if word == "--report"}
    outputs -= {word.partition("=")[2] for word in words if word.startswith("--report=")}
    batch = "[1/" in text
    if outputs and code not in (0, 3) and not batch and "-o" in words:
        raise Fault(f"an output in spite of code {code}: {sorted(outputs)[0]}")
    for name in outputs if words[:1] == ["upscale"] else ():
        _whole(folder / name)


def _whole(path: Path) -> None:
    """A finished output can be read to its end, the page of a preview too."""
    if path.suffix == ".html":
        if not path.read_bytes().rstrip().endswith(b"</html>"):
            raise Fault(f"{path.name} is cut short")
        return
    try:
        with av.open(path, "r") as container:
            if not sum(1 for packet in container.demux(video=0) if packet.size):
                raise Fault(f"{path.name} holds no frame")
    except (av.FFmpegError, OSError) as error:
        raise Fault(f"{path.name} cannot be read: {error}") from error


TARGETS: dict[str, Callable[[random.Random, Path, Path], str]] = {
    "read": read, "odd": odd, "command": command, "model": model, "job": job, "arguments": arguments,
}  # fmt: skip
