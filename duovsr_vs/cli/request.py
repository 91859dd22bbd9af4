"""The arguments of one run as they were typed, checked by nothing but their types."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..engine.options import Options


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
    report: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with absolute paths: another process may stand somewhere else."""
        options = self.options
        if options.model is not None and Path(options.model).suffix:
            options = replace(options, model=_absolute(options.model))
        return {
            **asdict(self), "options": asdict(options), "source": _absolute(self.source),
            "output": _absolute(self.output), "encoder_options": list(self.encoder_options),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """Inverse of `as_dict`."""
        known = {**values, "options": Options(**values["options"]), "encoder_options": tuple(values["encoder_options"])}
        return cls(**known)


def _absolute(path: str) -> str:
    return path if path == "-" else str(Path(path).expanduser().absolute())
