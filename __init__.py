"""ComfyUI loads a clone of this repository as a custom node pack through this file; nothing else uses it.

Everything is imported inside the entry point: tools that import a folder's `__init__.py` (pytest does) know no ComfyUI.
"""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "web"
FLOOR = (0, 23)
"""Oldest ComfyUI whose interface has everything that the nodes use."""


async def comfy_entrypoint() -> Any:
    """The extension. ImportError, with a sentence, on a ComfyUI or Python that is too old."""
    import logging

    try:
        _check_version()
        from .nodes import DuoVSRExtension

        return DuoVSRExtension()
    except Exception:
        logging.exception("DUO-VSR could not be loaded")  # ComfyUI itself logs one line without the cause
        raise


def _check_version() -> None:
    import sys

    if sys.version_info < (3, 12):  # noqa: UP036 (ComfyUI runs on older ones, too)
        raise ImportError(f"DUO-VSR needs Python 3.12 or newer, and this is {sys.version.split()[0]}")
    from comfyui_version import __version__ as found  # type: ignore[import-not-found]

    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < FLOOR:
        needed = ".".join(map(str, FLOOR))
        raise ImportError(f"DUO-VSR needs ComfyUI {needed}.0 or newer, and this is {found}; update ComfyUI")
