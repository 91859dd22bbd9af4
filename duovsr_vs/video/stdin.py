"""Reading a video from stdin without ever being stuck in it: a silent pipe can be given up."""

from __future__ import annotations

import os
import select

POLL = 0.2
"""Seconds between two looks at whether somebody gave up."""


class StdinPipe:
    """A file object for libav over file descriptor 0; `give_up` makes it end, from any thread."""

    def __init__(self) -> None:
        self.given_up = False
        self.interrupted = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end, after `give_up`, and after Ctrl-C (libav would swallow the exception)."""
        try:
            while os.name != "nt" and not self.given_up and not select.select([0], [], [], POLL)[0]:
                pass
            return b"" if self.given_up else os.read(0, size)
        except KeyboardInterrupt:
            self.interrupted = self.given_up = True
            return b""

    def give_up(self) -> None:
        """End of file from now on."""
        self.given_up = True
