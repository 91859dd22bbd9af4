"""The filter in every kind of host: it ends, reloads, is interrupted, and is loaded where there is no Python."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import vapoursynth as vs

PACKAGE = Path(vs.__file__).parent
HOSTS = Path(__file__).parent / "hosts"
EXAMPLE = Path(__file__).parents[1] / "examples" / "upscale.vpy"
TIMEOUT = 120
"""Seconds after which a host counts as hanging; the hosts need a few."""

START = """
import sys, time
import vapoursynth as vs
core = vs.core
clip = core.std.BlankClip(width=32, height=24, format=vs.RGBS, length=200)
clip = core.duovsr.Upscale(clip, model=sys.argv[1])
"""

SLOW = """
import time
from duovsr_vs.engine.upscaler import Upscaler
plain = Upscaler.chunk_frames
def slow(self, *args, **kw):
    time.sleep(0.3)
    yield from plain(self, *args, **kw)
Upscaler.chunk_frames = slow
"""


def environment() -> dict[str, str]:
    """vspipe finds this Python by the PATH, and remembers nothing in the user's home."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def python(code: str, model: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-c", code, str(model)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=False)


def script(folder: Path, model: Path, extra: str = "", format: str = "YUV420P8", length: int = 20) -> Path:
    path = folder / "clip.vpy"
    path.write_text(f"""
import vapoursynth as vs
core = vs.core
{extra}
clip = core.std.BlankClip(width=32, height=24, format=vs.{format}, length={length})
clip = core.duovsr.Upscale(clip, model={str(model)!r}{", matrix=1" if format.startswith("YUV") else ""})
clip.set_output()
""")
    return path


def vspipe(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """The vspipe of this environment, as its wrapper starts it."""
    command = [str(PACKAGE / "vspipe"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT, env=environment(), check=False)


ENDINGS = {
    "the clip alive": "frame = clip.get_frame(3)",
    "the clip in a cycle": "frame = clip.get_frame(3); cycle = [clip, frame]; cycle.append(cycle)",
    "chunks pending": SLOW + "pending = [clip.get_frame_async(n) for n in range(0, 200, 20)]; time.sleep(0.2)",
    "sys.exit": SLOW + "pending = [clip.get_frame_async(n) for n in range(0, 60, 20)]; sys.exit(7)",
    "an exception": SLOW + "pending = [clip.get_frame_async(n) for n in range(0, 60, 20)]; raise ValueError('mine')",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_with(tiny_model: Path, ending: str) -> None:
    result = python(START + ENDINGS[ending], tiny_model)
    assert result.returncode == {"sys.exit": 7, "an exception": 1}.get(ending, 0), result.stderr
    assert result.stdout == "" and "Fatal" not in result.stderr


def test_many_instances_come_and_go(tiny_model: Path) -> None:
    code = """
import threading
stop = False
def busy():
    while not stop: sum(range(1000)); time.sleep(0.001)
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
core.num_threads = 12
for i in range(12):
    small = core.std.BlankClip(width=16 + i % 3, height=16, format=vs.RGBS, length=9)
    made = core.duovsr.Upscale(small, model=sys.argv[1])
    if i % 4 == 0:
        pending = [made.get_frame_async(n) for n in range(9)]
stop = True
print(made.get_frame(8).width)
"""
    result = python(START + code, tiny_model)
    assert (result.returncode, result.stdout) == (0, f"{4 * (16 + 11 % 3)}\n"), result.stderr


def test_instances_between_python_filters_do_not_lock_up(tiny_model: Path) -> None:
    code = """
core.num_threads = 12
def same(n, f): return f
one = core.std.ModifyFrame(clip[:40], clip[:40], same)
two = core.duovsr.Upscale(one, model=sys.argv[1], width=32)
three = core.std.FrameEval(two, lambda n: core.duovsr.Upscale(two[n:n + 1], model=sys.argv[1], scale=1))
pending = [three.get_frame_async(n) for n in range(20)]
print(sum(p.result().width for p in pending))
"""
    result = python(START + code, tiny_model)
    assert (result.returncode, result.stdout) == (0, f"{20 * 32}\n"), result.stderr


def interrupted(command: list[str], ready: bytes) -> tuple[int, str]:
    """Starts a command, presses Ctrl-C a moment after it has said `ready`; its exit code and what it said."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    try:
        while ready not in said:
            piece = os.read(process.stdout.fileno(), 4096)
            assert piece, said.decode()
            said += piece
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    return process.returncode, (said + rest).decode()


def test_ctrl_c_during_output_ends_python(tiny_model: Path) -> None:
    text = START + SLOW + "print('ready', flush=True)\nclip.output(open('/dev/null', 'wb'))\n"
    command = [sys.executable, "-c", text.replace("length=200", "length=100000"), str(tiny_model)]
    code, said = interrupted(command, b"ready\n")
    assert code in (130, -signal.SIGINT) and "KeyboardInterrupt" in said, said


def test_ctrl_c_ends_vspipe(tiny_model: Path, tmp_path: Path) -> None:
    path = script(tmp_path, tiny_model, length=100000)
    code, said = interrupted([str(PACKAGE / "vspipe"), "-p", str(path), "--"], b"Frame:")
    assert code == 1, said


def test_a_previewer_reloads_while_chunks_run(tiny_model: Path) -> None:
    """As in-process previewers do: a policy of their own, environments destroyed with frames under way."""
    code = """
import sys, vapoursynth as vs
class Policy(vs.EnvironmentPolicy):
    current = None
    def on_policy_registered(self, api): self.api = api
    def on_policy_cleared(self): pass
    def get_current_environment(self): return self.current
    def set_environment(self, environment):
        former, self.current = self.current, environment
        return former
policy = Policy()
vs.register_policy(policy)
for i in range(4):
    policy.current = made = policy.api.create_environment()
    clip = vs.core.std.BlankClip(width=32, height=24, format=vs.RGBS, length=200)
    clip = vs.core.duovsr.Upscale(clip, model=sys.argv[1])
    print(clip.get_frame(i).width)
    pending = [clip.get_frame_async(n) for n in range(0, 100, 10)]
    del clip
    policy.current = None
    policy.api.destroy_environment(made)
    del pending, made
"""
    result = python(code, tiny_model)
    assert (result.returncode, result.stdout) == (0, "128\n" * 4), result.stderr


def test_the_video_of_vspipe_is_clean_whatever_the_engine_prints(tiny_model: Path, tmp_path: Path) -> None:
    loud = """
from duovsr_vs.engine.upscaler import Upscaler
plain = Upscaler.chunk_frames
def loud(self, *args, **kw):
    print("soil")
    yield from plain(self, *args, **kw)
Upscaler.chunk_frames = loud
"""
    result = vspipe("-c", "y4m", script(tmp_path, tiny_model, loud), "-")
    assert result.returncode == 0, result.stderr.decode()
    header, _, frames = result.stdout.partition(b"\n")
    assert re.match(rb"YUV4MPEG2 C420\w* W128 H96 ", header)
    frame = len(b"FRAME\n") + 128 * 96 * 3 // 2
    assert len(frames) == 20 * frame and frames[::frame] == b"F" * 20
    assert b"soil" in result.stderr


def test_parts_of_a_job_give_the_frames_of_the_whole(tiny_model: Path, tmp_path: Path) -> None:
    """vspipe -s and -e, with different numbers of requests, against one run."""
    path = script(tmp_path, tiny_model, format="RGBS")
    moving = "still = clip\nclip = core.std.FrameEval(still, lambda n: still.std.BlankClip(color=[n / 20, 0.5, 0.1]))\n"
    path.write_text(path.read_text().replace("clip = core.duovsr", moving + "clip = core.duovsr"))
    whole = vspipe(path, "-").stdout
    split = [("0", "4", "1"), ("5", "17", "16"), ("18", "19", "3")]
    parts = [vspipe("-s", start, "-e", end, "-r", requests, path, "-").stdout for start, end, requests in split]
    frame = 3 * 128 * 96 * 4
    assert len(whole) == 20 * frame and whole[:frame] != whole[frame : 2 * frame]
    assert b"".join(parts) == whole


def test_an_error_ends_vspipe_with_one_sentence(tmp_path: Path) -> None:
    result = vspipe(script(tmp_path, Path("nanoo")), "--")
    assert result.returncode == 1
    assert b"Upscale: there is no model named 'nanoo'; known are" in result.stderr


def test_the_example_upscales_a_file(tiny_model: Path, tmp_path: Path) -> None:
    if not hasattr(vs.core, "bs"):
        pytest.skip("vapoursynth-bestsource is not installed")
    video = write_video(tmp_path / "in.mkv")
    result = vspipe("-c", "y4m", "-a", f"source={video}", "-a", f"model={tiny_model}", EXAMPLE, "-")
    assert result.returncode == 0, result.stderr.decode()
    header, _, frames = result.stdout.partition(b"\n")
    assert b" W256 H192 " in header and len(frames) == 10 * (6 + 256 * 192 * 3 // 2)
    missing = vspipe(EXAMPLE, "--")
    assert missing.returncode != 0 and b"which video? Give it with -a source=FILE" in missing.stderr


def write_video(path: Path) -> Path:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(10):
            picture = np.full((48, 64, 3), 10 * n + 40, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def compile_host(name: str, folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    host = folder / name
    source = HOSTS / f"{name}.c"
    subprocess.run([compiler, f"-I{PACKAGE / 'include'}", str(source), "-o", str(host), "-ldl"], check=True)
    return host


def test_a_host_without_python_gets_a_sentence(tmp_path: Path) -> None:
    host = compile_host("plain", tmp_path)
    plugin = vs.core.duovsr.plugin_path
    library = PACKAGE / "libvapoursynth.so.4"
    result = subprocess.run(
        [str(host), str(library), plugin], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    version, models, upscale = result.stdout.splitlines()
    assert result.returncode == 0 and version == vs.core.duovsr.Version()
    assert models.startswith("Models: no running Python interpreter in this process")
    assert upscale.startswith("Upscale: no running Python interpreter in this process")


def test_a_script_host_runs_three_scripts_in_a_row(tiny_model: Path, tmp_path: Path) -> None:
    subprocess.run(["vapoursynth", "config"], env=environment(), check=True, capture_output=True)
    host = compile_host("scripts", tmp_path)
    command = [str(host), str(PACKAGE / "libvsscript.so"), str(script(tmp_path, tiny_model)), "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=False)
    assert (result.returncode, result.stdout) == (0, "128 \n" * 3), result.stderr
