"""What is published works where it is installed: source archive -> wheel -> a clean environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import vapoursynth as vs

import duovsr_vs

ROOT = Path(__file__).parents[1]
OUTER = Path(sysconfig.get_path("purelib"))
TIMEOUT = 300

CHECK = """
import sys, vapoursynth as vs, duovsr_vs
core = vs.core
print(core.duovsr.plugin_path)
print(duovsr_vs.__file__)
print(core.duovsr.Version())
print(*core.duovsr.Models().values())
clip = core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=3)
frame = core.duovsr.Upscale(clip, matrix=1).get_frame(2)
print(frame.format.name, frame.width, frame.height)
"""


def run(*command: str | Path, **more: str) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, check=False,
        env={**os.environ, **more},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, so that nothing is missing there."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with VapourSynth and the wheel of its own; everything else (torch) is seen in the outer one."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    shutil.copytree(Path(vs.__file__).parent, site / "vapoursynth", ignore=shutil.ignore_patterns("plugins"))
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    (site / "outer.pth").write_text(f"{OUTER}\n")
    return python


@pytest.mark.slow
def test_the_wheel_holds_plugin_weights_and_licence_and_nothing_else(wheel: Path) -> None:
    assert re.fullmatch(rf"duovsr-{re.escape(duovsr_vs.__version__)}-py3-none-linux_\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert folders == {"duovsr_vs", "vapoursynth", f"duovsr-{duovsr_vs.__version__}.dist-info"}
    plugin = {name for name in names if name.startswith("vapoursynth/")}
    assert plugin == {f"vapoursynth/plugins/duovsr/{name}" for name in ("libduovsr.so", "manifest.vs")}
    weights = {path.name for path in (ROOT / "duovsr_vs" / "weights").glob("*.safetensors")}
    assert weights and {Path(name).name for name in names if name.endswith(".safetensors")} == weights
    assert any(name.endswith("/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(clean: Path) -> None:
    plugin, package, version, models, frame = run(clean, "-I", "-c", CHECK).splitlines()
    inside = str(clean.parents[1])
    assert plugin.startswith(inside) and package.startswith(inside)
    assert version == duovsr_vs.__version__
    assert all(path.startswith(inside) for path in models.split()[1:]) and len(models.split()) >= 2
    assert frame == "YUV420P8 128 96"


@pytest.mark.slow
def test_the_plugin_shows_its_entry_point_only_and_needs_no_python_library(wheel: Path, tmp_path: Path) -> None:
    if not (shutil.which("nm") and shutil.which("ldd")):
        pytest.skip("no binutils")
    zipfile.ZipFile(wheel).extract("vapoursynth/plugins/duovsr/libduovsr.so", tmp_path)
    library = tmp_path / "vapoursynth/plugins/duovsr/libduovsr.so"
    shown = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()]
    assert shown == ["VapourSynthPluginInit2"]
    needed = run("ldd", library)
    assert "libpython" not in needed and "libstdc++" not in needed


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiler, sentence",
    [("", r"no C\+\+ compiler was found"), ("/nowhere/c++", r"cannot be run"), ("false", r"could not compile")],
)
def test_without_a_working_compiler_the_build_says_so(compiler: str, sentence: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    # A PATH with nothing but `false`, for the third case.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "false").symlink_to(shutil.which("false") or "/bin/false")
    outside = {**os.environ, "CXX": compiler, "PATH": str(tmp_path / "bin")}
    result = subprocess.run(command, capture_output=True, text=True, env=outside, timeout=TIMEOUT, check=False)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and re.search(rf"duovsr: .*{sentence}", said)
    assert "Traceback" not in said
