"""What a user can cause, as sentences: what was found, what is needed, what to do. Nobody sees a traceback."""

from __future__ import annotations


class DuoVsrError(Exception):
    """Base of every error that duovsr raises on purpose; its text is one sentence for people."""


class OptionError(DuoVsrError, ValueError):
    """An option's value is out of range, or two options contradict each other."""


class ModelError(DuoVsrError, ValueError):
    """A model is unknown, or its file is not one that duovsr can use."""


class FormatError(DuoVsrError, ValueError):
    """Frames of a kind that cannot be upscaled: too small, interlaced, of changing size."""


class VideoError(DuoVsrError, OSError):
    """A file that cannot be read or written as video."""


class DamagedVideoError(VideoError):
    """A file that ends early or holds frames that do not decode; what could be decoded has been used."""
