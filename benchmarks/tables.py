"""Tables in markdown that also read well as plain text."""

from collections.abc import Iterable, Sequence


def table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; every row has as many cells as the head."""
    grid = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in grid]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]
