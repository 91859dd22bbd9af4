"""What `make demo` runs: a video upscaled by the command line and by VapourSynth, compared, with two pictures of it.

    python examples/demo.py [VIDEO] [--out DIR] [--model NAME_OR_FILE]

Writes DIR/upscaled.mkv (every frame, four times the size, with the sound), DIR/before-after.png and
DIR/temporal-profile.png, replacing those of an earlier run and nothing else.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from demo_pictures import View, before_after, count_frames, rgb_frames, save_png, temporal_profile

from duovsr_vs.errors import DuoVsrError

EXAMPLES = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
VIDEO, PICTURE, PROFILE = "upscaled.mkv", "before-after.png", "temporal-profile.png"
COMPARED = 16
"""Frames of the RGB copy that both ways upscale."""
THROUGH_VSPIPE = 120
"""Greatest number of frames of the video itself that also go through vspipe."""
PICTURE_BYTES = 300_000
"""Greatest size of a picture: they are made for web pages."""
DAMAGED = 3
"""Exit code of `duovsr upscale` for an input that was damaged, and upscaled as far as it decodes."""
Frame = np.ndarray
"""(3, height, width) uint16, planes in libav's order G, B, R."""


class DemoError(Exception):
    """The demo cannot go on; its text is one sentence for people, or empty where a command has said it already."""


def say(text: str) -> None:
    print(text, flush=True)


def check_video(path: Path) -> None:
    """Raises DemoError unless the file holds at least one frame of video that decodes."""
    if not path.is_file():
        raise DemoError(f"{path} is not a file; name a video: make demo VIDEO=my.mp4")
    try:
        with av.open(path) as container:
            if container.streams.video and next(container.decode(video=0), None) is not None:
                return
    except (av.FFmpegError, OSError):
        pass
    raise DemoError(f"{path} holds no video that can be decoded; name another: make demo VIDEO=my.mp4")


def write_copy(source: Path, target: Path, frames: int = COMPARED) -> int:
    """The first frames as lossless 16-bit RGB (ffv1), so that nothing is rounded away before the comparison.

    Returns how many frames there were, at most `frames`.
    """
    with av.open(source) as video, av.open(target, "w") as copy:
        rate = video.streams.video[0].average_rate or Fraction(25)
        stream, count = None, 0
        for frame in video.decode(video=0):
            if count == frames:
                break
            if stream is None:
                stream = copy.add_stream("ffv1", rate=rate)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "gbrp16le"
            rgb = frame.reformat(width=stream.width, height=stream.height, format="gbrp16le")
            rgb.pts, rgb.time_base = count, 1 / Fraction(rate)
            copy.mux(stream.encode(rgb))
            count += 1
        if stream is not None:
            copy.mux(stream.encode(None))
    return count


def frames_of_file(path: Path) -> Iterator[Frame]:
    """Frames of a lossless 16-bit RGB file."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.format.name != "gbrp16le":
                raise DemoError(f"{path.name} holds {frame.format.name}, 16-bit RGB was expected; please report it")
            planes = [np.frombuffer(plane, "<u2").reshape(plane.height, -1) for plane in frame.planes]
            yield np.stack([plane[:, : frame.width] for plane in planes])


def frames_of_pipe(pipe: IO[bytes], width: int, height: int) -> Iterator[Frame]:
    """Frames that vspipe writes without headers; a last, partial one is left out."""
    size = 3 * height * width * 2
    while len(data := pipe.read(size)) == size:
        yield np.frombuffer(data, "<u2").reshape(3, height, width)


def differing_pixels(one: Iterator[Frame], other: Iterator[Frame]) -> tuple[int, int]:
    """(frames compared, pixels that differ in any channel). DemoError when one has more frames or another size."""
    count = pixels = 0
    while True:
        a, b = next(one, None), next(other, None)
        if a is None and b is None:
            return count, pixels
        if a is None or b is None or a.shape != b.shape:
            raise DemoError(f"command line and vspipe differ in number or size of frames, after frame {count}")
        pixels += int((a != b).any(axis=0).sum())
        count += 1


class Demo:
    """One run: which video, where to, with which model (None: the built-in one)."""

    def __init__(self, video: Path, out: Path, model: str | None):
        self.video, self.out = video, out
        self.model = str(Path(model).resolve()) if model and Path(model).is_file() else model

    def run(self) -> None:
        """All of it. Raises DemoError."""
        check_video(self.video)
        self.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.out, prefix=".demo-") as scratch:
            self.scratch = Path(scratch)
            say(f"1. {self.video.name} through the command line")
            self.upscale(self.video, self.out / VIDEO)
            frames = count_frames(self.out / VIDEO)
            shown = min(frames, THROUGH_VSPIPE)
            say(f"\n2. its frames 0 to {shown - 1} through vspipe and examples/upscale.vpy (not kept)")
            self.vspipe(self.video, "-p", "-e", str(shown - 1), "--")
            say("\n3. are the pixels equal?")
            say(f"   {self.compare()}")
        self.draw(frames)
        say(f"\nResults in {self.out}/: {VIDEO}, {PICTURE}, {PROFILE}")

    def environment(self) -> dict[str, str]:
        """vspipe finds this Python by the PATH, and remembers nothing in the user's home.

        PASSIVE: threads of the network sleep while they wait, and leave the cores to others (in vspipe on two busy
        cores that is eight times faster); the command line sets it by itself.
        """
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
        own = {"PATH": path, "XDG_CONFIG_HOME": str(self.scratch / "config")}
        return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}

    def upscale(self, source: Path, target: Path, *more: str, quiet: bool = False) -> None:
        """`duovsr upscale`; quiet: what it says is shown only if it fails."""
        command = [BIN / "duovsr", "upscale", source, "-o", target, "--overwrite", *more]
        command += ["--model", self.model] if self.model else []
        done = subprocess.run(command, env=self.environment(), check=False, stderr=subprocess.PIPE if quiet else None)
        if done.returncode not in (0, DAMAGED):
            said = (done.stderr or b"").decode(errors="replace").strip()
            raise DemoError(f"the RGB copy was not upscaled: {said}" if quiet else "")

    def vspipe_command(self, source: Path, *more: str) -> list[str]:
        arguments = {"source": str(source.resolve())} | ({"model": self.model} if self.model else {})
        pairs = [text for name, value in arguments.items() for text in ("-a", f"{name}={value}")]
        return [str(BIN / "vspipe"), *pairs, str(EXAMPLES / "upscale.vpy"), *more]

    def vspipe(self, source: Path, *more: str) -> None:
        """vspipe with examples/upscale.vpy; its progress is shown."""
        if subprocess.run(self.vspipe_command(source, *more), env=self.environment(), check=False).returncode:
            raise DemoError("vspipe did not finish; see the lines above")

    def compare(self) -> str:
        """Upscale an RGB copy both ways and compare every pixel; the sentence to print. DemoError if one differs."""
        copy, made = self.scratch / "copy.mkv", self.scratch / "made.mkv"
        write_copy(self.video, copy)
        self.upscale(copy, made, "--codec", "ffv1", quiet=True)
        with av.open(made) as container:
            width, height = container.streams.video[0].width, container.streams.video[0].height
        log = self.scratch / "vspipe.txt"
        with (
            log.open("wb") as said,
            subprocess.Popen(
                self.vspipe_command(copy, "-"), stdout=subprocess.PIPE, stderr=said, env=self.environment()
            ) as process,
        ):
            assert process.stdout is not None
            try:
                frames, pixels = differing_pixels(frames_of_file(made), frames_of_pipe(process.stdout, width, height))
            except DemoError as error:
                process.stdout.close()
                process.wait()
                raise DemoError(f"{error}; vspipe said: {' '.join(log.read_text().split())}") from None
        total = frames * width * height
        if pixels:
            raise DemoError(f"NO: {pixels} of {total} pixels differ between command line and vspipe; please report it")
        return f"yes: of a 16-bit RGB copy (frames 0 to {frames - 1}), all {total} pixels are equal through both"

    def draw(self, frames: int) -> None:
        """Both pictures. frames: of the upscaled video."""
        large = self.out / VIDEO
        view, after = View.of(self.video, frames), next(rgb_frames(large, [frames // 2]))
        save_png(self.out / PICTURE, lambda height: before_after(view, after, height), PICTURE_BYTES)
        save_png(
            self.out / PROFILE, lambda height: temporal_profile(view, self.video, large, frames, height), PICTURE_BYTES
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed with one sentence, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=EXAMPLES / "dog.mp4", help="a video (examples/dog.mp4)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (demo)")
    parser.add_argument("--model", default=None, help="a shipped name or a file (the default model)")
    args = parser.parse_args(arguments)
    try:
        Demo(args.video, args.out, args.model).run()
    except (DemoError, DuoVsrError, OSError) as error:
        if str(error):
            print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
