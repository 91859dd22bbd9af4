"""`duovsr info`: facts about a video, a model or the installation."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ModelError
from ..model.registry import describe, in_bytes, known, resolve, stages_of
from .exits import FAILED

PACKAGES = ("torch", "numpy", "av", "vapoursynth", "safetensors")


def run(file: str | None, self_test: bool) -> int:
    """Print the facts; the exit code."""
    if self_test:
        return _self_test(resolve(file))
    if file is None:
        print("\n".join(_installation()))
    elif file in known() or Path(file).suffix == ".safetensors":
        print("\n".join(_model(describe(resolve(file)))))
    else:
        print("\n".join(_video(file)))
    return 0


def _installation() -> list[str]:
    from ..engine.machine import machine_class, resolve_device, resolve_precision

    device = resolve_device("auto")
    lines = [f"duovsr   {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"]
    lines.append("packages " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    lines.append(f"machine  {machine_class('cpu')}")
    if str(device) != "cpu":
        lines.append(f"device   {machine_class(str(device))}")
    lines.append(f"runs     on {device} in {str(resolve_precision('auto', device)).removeprefix('torch.')} by default")
    lines.append(f"models   {', '.join(known()) or 'none'}")
    return lines


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _model(facts: dict[str, Any]) -> list[str]:
    config, provenance = facts["config"], facts["provenance"]
    lines = [
        f"model    {config.get('name')}: {facts['path']}",
        f"hash     {facts['hash']}",
        f"size     {in_bytes(facts['bytes'])}, {facts['tensors']} tensors",
    ]
    lines.append(f"stages   {stages_of(provenance)}")
    lines += _listed("data", [_source(source) for source in _list(provenance.get("data"))])
    lines += [f"{name:<8} {value}" for name, value in provenance.items() if name not in ("stages", "data")]
    lines += [f"{name:<8} {_fields(part)}" for name, part in config.items() if isinstance(part, dict)]
    lines.append(f"config   {_fields({k: v for k, v in config.items() if k != 'name' and not isinstance(v, dict)})}")
    return lines


def _fields(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items() if value is not None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _source(source: Any) -> str:
    return ", ".join(str(value) for value in source.values() if value) if isinstance(source, dict) else str(source)


def _listed(name: str, items: list[str]) -> list[str]:
    return [f"{name if n == 0 else '':<8} {item}" for n, item in enumerate(items)]


def _short(value: Any) -> str:
    return f"[{len(value)} numbers]" if isinstance(value, list) else str(value)


def _video(file: str) -> list[str]:
    """What `upscale` sees in a video, and what it would keep in an .mkv and in an .mp4."""
    import av.logging

    from ..video.reader import VideoReader
    from ..video.streams import Span, StreamCopier
    from .plan import input_line, kept_facts

    av.logging.set_level(None)
    with VideoReader(file, assume_progressive=True) as reader:
        lines = [f"input    {input_line(reader)}"]
        for kind, name in (("matroska", "mkv"), ("mp4", "mp4")):
            kept, lost = kept_facts(reader, kind, Span(), reader.info.hdr is not None)
            copied, dropped = StreamCopier(reader.container, reader.stream.index, kind, Span()).names()
            lines.append(f"in {name:<5} kept: {', '.join(kept + copied)}")
            if lost + dropped:
                lines.append(f"         not kept: {', '.join(lost + dropped)}")
        if reader.interlaced:
            lines.append("note     interlaced: deinterlace it first, or --assume-progressive if its frames are whole")
        if reader.scan and reader.scan.cut_off:
            lines.append(f"note     cut off: it announces {reader.scan.declared} frames")
    return lines


def _self_test(path: Path) -> int:
    from ..engine.selftest import run as check

    try:
        result = check(path)
    except ModelError as error:
        print(f"failed   {error}")
        return FAILED
    print(result)
    return 0
