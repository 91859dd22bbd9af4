"""What a check found: one finding for each promise, from fine to wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "doubtful", "wrong", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """name: a word.  text: what was found, in one short line.  facts: the same for programs (JSON values)."""

    name: str
    status: Status
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"name": self.name, "status": self.status, "text": self.text, **self.facts}


def passed(findings: Sequence[Finding], strict: bool = False) -> bool:
    """Whether nothing is wrong; strict: nor doubtful."""
    bad = {"wrong", "doubtful"} if strict else {"wrong"}
    return not any(finding.status in bad for finding in findings)


def verdict(bad: Sequence[object], doubts: Sequence[object] = ()) -> Status:
    """The status for sentences about what is bad and what is doubtful."""
    return "wrong" if bad else "doubtful" if doubts else "ok"


def listed(items: Sequence[Any], most: int = 5) -> str:
    """`3, 4, 5, 9, 12 and 7 more`."""
    text = ", ".join(str(item) for item in items[:most])
    return text if len(items) <= most else f"{text} and {len(items) - most} more"


def every_nth(step: int, what: str = "frame") -> str:
    """`every frame`, `every 2nd frame`, `every 13th frame`."""
    if step == 1:
        return f"every {what}"
    ending = "th" if step // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(step % 10, "th")
    return f"every {step}{ending} {what}"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 frame`, `2 frames`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
