"""`--report`: what was kept of each input and what became of it, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import OptionError
from ..video.facts import facts_of
from ..video.kept import check, kept, surprises
from ..video.manifest import plain, write_json
from .exits import say

if TYPE_CHECKING:
    from ..engine.plan import Plan
    from .job import Job


class Reporter:
    """Collects what is told of each file, and writes it once at the end."""

    def __init__(self, file: str | None):
        """file: where to write; None: nowhere. Raises OptionError when there is no such folder."""
        self._path = None if file is None else Path(file)
        if self._path is not None and (not self._path.parent.is_dir() or self._path.is_dir()):
            raise OptionError(f"--report {file}: a file in a folder that exists is needed")
        self._files: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}

    def check(self, job: Job, plan: Plan, path: Path, written: int) -> None:
        """Read a finished output, still under its temporary name, and compare it with its source. written: frames.

        What changed without a reason is said. Raises VideoError when it is the frames or their timestamps.
        """
        found = kept(
            facts_of(job.reader), path, kind=job.kind, encoding=job.encoding, start=job.start, stop=job.stop,
            written=written, left_out=job.copier.left_out,
        )  # fmt: skip
        check(found, job.request.output)
        for surprise in surprises(found):
            say(f"note     {surprise}")
        self._facts = {"plan": plan.as_dict(), "encoding": job.encoding.describe(), "items": found["items"]}

    def add(self, source: str, output: str, **facts: Any) -> None:
        """One input has ended. facts: result, code, frames, seconds, error."""
        self._files.append({"source": source, "output": output, **facts, **self._facts})
        self._facts = {}

    def write(self) -> None:
        """Write the file. Raises VideoError when the disk does not take it."""
        if self._path is not None:
            write_json(self._path, plain({"duovsr": __version__, "files": self._files}))
