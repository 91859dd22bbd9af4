"""Compiles the VapourSynth plugin while the wheel is built, and puts it where VapourSynth loads plugins from."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).resolve().parent / "native"
FOLDER = "vapoursynth/plugins/duovsr"
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = "duovsr" if sys.platform == "win32" else "libduovsr"

COMMON_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]
PLATFORM_FLAGS = {
    # nodelete: VapourSynth unloads plugins when a core is freed, and Python may still hold an address in this one.
    # exports.map: only the entry point is visible, so that no other library's C++ symbols get mixed up with ours.
    "linux": [
        *["-static-libstdc++", "-static-libgcc", "-ldl", "-pthread", "-Wl,-z,nodelete", "-Wl,--exclude-libs,ALL"],
        f"-Wl,--version-script={SOURCES / 'exports.map'}",
    ],
    "darwin": [],  # untried
    "win32": ["-static"],  # MinGW; untried
}


class PluginBuildHook(BuildHookInterface[Any]):
    """Adds the compiled plugin to the wheel, also to an editable one."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary folder, which lasts until `finalize`."""
        self.folder = Path(tempfile.mkdtemp(prefix="duovsr-build-"))
        library = self.folder / (LIBRARY + SUFFIX)
        compile_plugin(library, self.metadata.version)
        manifest = self.folder / "manifest.vs"
        manifest.write_text(f"[VapourSynth Manifest V1]\n{LIBRARY}\n", encoding="ascii")
        files = {str(path): f"{FOLDER}/{path.name}" for path in (library, manifest)}
        build_data["force_include"].update(files)
        build_data["force_include_editable"] = {**build_data.get("force_include_editable", {}), **files}
        build_data["pure_python"] = False
        # One library serves every Python. On Linux, auditwheel turns the plain tag into a manylinux one.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what `initialize` made."""
        shutil.rmtree(self.folder, ignore_errors=True)


def compile_plugin(library: Path, version: str) -> None:
    """Compile all of native/ into `library`; ends the build with one sentence where that is impossible."""
    command = compile_command(library, version)
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        sys.exit(f"duovsr: the C++ compiler {command[0]} cannot be run ({error.strerror}); install one or set CXX.")
    if result.returncode != 0:
        sys.exit(f"{result.stdout}{result.stderr}\nduovsr: {command[0]} could not compile the VapourSynth plugin.")


def compile_command(library: Path, version: str) -> list[str]:
    """The one command that makes the library."""
    compiler = find_compiler()
    include = find_headers()
    files = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
    if Path(compiler[0]).stem.lower() in ("cl", "clang-cl"):  # Microsoft's options; untried
        options = ["/nologo", "/std:c++17", "/O2", "/EHsc", "/LD", f"/I{include}", f"/DDUOVSR_VERSION={version}"]
        return [*compiler, *options, *files, f"/Fo{library.parent}\\", f"/Fe{library}"]
    platform = "linux" if sys.platform not in PLATFORM_FLAGS else sys.platform
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))
    options = [*COMMON_FLAGS, *extra, f"-isystem{include}", f"-DDUOVSR_VERSION={version}"]
    return [*compiler, *options, *files, "-o", str(library), *PLATFORM_FLAGS[platform]]


def find_compiler() -> list[str]:
    """The compiler that CXX names, else the first one found."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    names = ["cl", "clang-cl", "g++"] if sys.platform == "win32" else ["c++", "g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return [found]
    sys.exit(
        "duovsr: no C++ compiler was found, and its VapourSynth filter has to be compiled; install one "
        "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install) or set CXX."
    )


def find_headers() -> str:
    """The folder of VapourSynth's headers, which come with its wheel."""
    spec = importlib.util.find_spec("vapoursynth")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (Path(folder) / "include" / "VapourSynth4.h").is_file():
            return str(Path(folder) / "include")
    sys.exit("duovsr: VapourSynth's headers were not found; install vapoursynth>=78 beside hatchling and build again.")
