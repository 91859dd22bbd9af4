"""Time: the fixed grid of windows, shots, and which frames each output frame is made of.

Window k covers frames [kS − O, kS − O + F) of the clip, S = F − O; indices are held inside the shot. Frame n belongs
to window n // S, and where window n // S + 1 also covers it, the two are cross-faded. All of this is a function of
the frame number and the cuts around it, never of what was asked before. Models without windows have F = S = 1, O = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormatError


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of `length` frames that overlap by `overlap`."""

    length: int
    overlap: int

    @property
    def stride(self) -> int:
        """Frames from one window to the next."""
        return self.length - self.overlap

    @property
    def before(self) -> int:
        """Input frames needed before a chunk of whole strides: the overlap and one neighbour."""
        return self.overlap + 1

    @property
    def after(self) -> int:
        """Input frames needed behind a chunk of whole strides: the rest of the next window and one neighbour."""
        return 1 if self.length == 1 else self.stride + 1

    def inputs(self, start: int, stop: int, total: int) -> tuple[int, int]:
        """[first, last) input frames needed for the output frames [start, stop) of a clip of `total` frames."""
        if not 0 <= start < stop <= total:
            raise FormatError(
                f"frames {start} to {stop} were asked of a clip of {total} frames; ask for some inside it"
            )
        first = (start // self.stride) * self.stride - self.before
        last = ((stop - 1) // self.stride + 1) * self.stride + self.after
        return max(first, 0), min(last, total)

    def first_frame(self, window: int) -> int:
        """Number of a window's first frame; negative for the first window where windows overlap."""
        return window * self.stride - self.overlap

    def window_frames(self, window: int, shot: tuple[int, int]) -> list[int]:
        """The length + 2 frames of a window and its two neighbours, held inside the shot [first, last)."""
        first = self.first_frame(window)
        return [min(max(n, shot[0]), shot[1] - 1) for n in range(first - 1, first + self.length + 1)]

    def blend(self, frame: int, shot_end: int) -> list[tuple[int, int, float]]:
        """(window, position in it, weight) of the one or two windows that make a frame; weights sum to 1."""
        window = frame // self.stride
        position = frame - window * self.stride + self.overlap
        next_position = position - self.stride
        if next_position < 0 or (window + 1) * self.stride >= shot_end:
            return [(window, position, 1.0)]
        weight = (next_position + 1) / (self.overlap + 1)
        return [(window, position, 1 - weight), (window + 1, next_position, weight)]


def shot_of(frame: int, first: int, cuts: list[bool]) -> tuple[int, int]:
    """[start, end) of the shot of `frame` within the known frames [first, first + len(cuts))."""
    start = frame
    while start > first and not cuts[start - first]:
        start -= 1
    end = frame + 1
    while end < first + len(cuts) and not cuts[end - first]:
        end += 1
    return start, end
