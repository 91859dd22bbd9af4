"""Exit codes, and the one place where errors become sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..errors import DuoVsrError, OptionError
from ..interrupts import INTERRUPTED, listen

FAILED, USAGE, DAMAGED = 1, 2, 3


def say(text: str) -> None:
    """One line on stderr; what a name or a tag holds of line ends and control characters is shown as an escape."""
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr, flush=True)


@contextmanager
def guarded() -> Iterator[None]:
    """Run a handler: what a user can cause becomes one sentence on stderr and an exit code, never a traceback."""
    listen()
    try:
        yield
    except OptionError as error:
        say(f"duovsr: {error}")
        raise typer.Exit(USAGE) from None
    except DuoVsrError as error:
        say(f"duovsr: {error}")
        raise typer.Exit(FAILED) from None
    except MemoryError:
        say("duovsr: there is not enough memory; use --tile, a smaller output, or close other programs")
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit has somewhere to go
        raise typer.Exit(FAILED) from None
    except OSError as error:  # a name that is too long, a folder that nobody may read
        say(f"duovsr: {shortened(error.filename or 'a file')}: {error.strerror or shortened(error)}")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt as error:
        say("")
        say(f"duovsr: interrupted; {str(error) or 'nothing was kept'}")
        raise typer.Exit(INTERRUPTED) from None


def shortened(name: object, length: int = 200) -> str:
    """A name that fits into a sentence."""
    text = str(name)
    return text if len(text) <= length else f"{text[:length]}..."


def quiet() -> None:
    """libav writes no lines of its own; what matters arrives as an error."""
    import av.logging

    av.logging.set_level(None)
