"""The arguments of one run as they were typed, checked by nothing but their types."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.options import Options
from ..errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One input, one output."""

    source: str
    output: str
    options: Options
    start: str | None = None
    frames: str | None = None
    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: tuple[str, ...] = ()
    matrix: str | None = None
    assume_progressive: bool = False
    overwrite: bool = False
    resume: bool = False
    segment: int | None = None
    """Frames of a segment; None: about ten seconds."""
    workers: int = 1
    """Of each device, of each node of a cluster."""
    devices: tuple[str, ...] = ()
    """Of this machine, where several are named; the first is that of the options."""
    ray: str | None = None
    """Address of a cluster that makes the segments."""
    report: str | None = None

    def __post_init__(self) -> None:
        if self.ray is not None and self.devices:
            raise OptionError("--ray takes all devices of a kind that the nodes have; name one --device")

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with absolute paths: another process may stand somewhere else."""
        options = self.options
        if options.model is not None and Path(options.model).suffix:
            options = replace(options, model=_absolute(options.model))
        return {
            **asdict(self), "options": asdict(options), "source": _absolute(self.source),
            "output": _absolute(self.output), "encoder_options": list(self.encoder_options),
            "devices": list(self.devices),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """Inverse of `as_dict`."""
        lists = {name: tuple(values.get(name, ())) for name in ("encoder_options", "devices")}
        return cls(**{**values, **lists, "options": Options(**values["options"])})


def devices_in(text: str) -> tuple[str, ...]:
    """The names in `cuda:0,cuda:1`. Raises OptionError for an unknown one."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        Options(device=name)
    return names


def _absolute(path: str) -> str:
    return path if path == "-" else str(Path(path).expanduser().absolute())
