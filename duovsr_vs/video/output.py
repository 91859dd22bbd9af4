"""The output's name never holds a partial file: everything is written beside it and renamed when it is whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..errors import DuoVsrError, VideoError
from .sequence import is_pattern, numbers_of


class PendingOutput:
    """A file, or a numbered set of files, that comes into being at `commit`. Used as a context manager.

    part: where a short job writes.  folder: where a long one keeps its segments (video/segments.py).
    """

    def __init__(self, output: str, source: str, *, overwrite: bool = False, images: bool = False):
        """Checks that the output may be written at all. images: one file per frame. Raises VideoError."""
        self.path = Path(output)
        self._images = images
        folder = self.path.parent
        if not folder.is_dir():
            raise VideoError(f"{output}: the folder {folder} does not exist; create it first")
        if self.path.is_dir():
            raise VideoError(f"{output} is a folder; name a file in it")
        if _same(output, source):
            raise VideoError(f"{output} is the input itself; give the output another name")
        if not overwrite and exists(output, images=images):
            raise VideoError(f"{output} exists; give --overwrite to replace it, or another name")
        if not os.access(folder, os.W_OK):
            raise VideoError(f"{output}: no permission to write in {folder}")
        self.part = folder / f".{_plain(self.path)}.{os.getpid()}.part"
        self.folder = segment_folder(output)

    def __enter__(self) -> PendingOutput:
        if self._images:
            self.part.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self.part.is_dir():
            shutil.rmtree(self.part, ignore_errors=True)
        else:
            self.part.unlink(missing_ok=True)

    def commit(self) -> None:
        """Give what was written its name. Raises VideoError when the disk does not take it."""
        put_in_place(sorted(self.part.iterdir()) if self._images else [self.part], self.path, images=self._images)


def exists(output: str, *, images: bool = False) -> bool:
    """Whether anything of an output is there already."""
    return bool(numbers_of(output)) if images and is_pattern(output) else Path(output).exists()


def segment_folder(output: str) -> Path:
    """Where a long job keeps the finished parts of an output: `.NAME.duovsr` beside it."""
    path = Path(output)
    return path.parent / f".{_plain(path)}.duovsr"


def put_in_place(files: list[Path], output: Path, *, images: bool) -> None:
    """Rename finished files: images to their own names in the output's folder, a video to the output's name."""
    try:
        for file in files:
            sync(file)
            file.replace(output.parent / file.name if images else output)
    except OSError as error:
        raise write_error(error, str(output)) from None


def sync(path: Path) -> None:
    """Wait until a file is on the disk, so that its name never comes before its bytes."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def write_error(error: Exception, output: str) -> DuoVsrError:
    """One sentence for an error of writing."""
    if isinstance(error, DuoVsrError):
        return error
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VideoError(f"{output}: no space is left on the disk")
    if code == errno.EPIPE:
        return VideoError("the program that read the output has ended")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return VideoError(f"{output}: no permission to write there")
    text = getattr(error, "strerror", None) or str(error)
    return VideoError(f"{output} cannot be written: {text}")


def _plain(path: Path) -> str:
    return path.name.replace("%", "_")


def _same(output: str, source: str) -> bool:
    if source == "-":
        return False
    try:
        return Path(output).samefile(source)
    except OSError:
        return Path(output).absolute() == Path(source).absolute()
