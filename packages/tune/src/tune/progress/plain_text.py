"""Tables as plain text, for logs and files. Pure."""

from __future__ import annotations

from tune.progress.tables import Table


def as_text(table: Table) -> str:
    """Return a table with aligned columns, numbers to the right."""
    columns = list(zip(table.titles, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(map(_is_number, column[1:])) for column in columns]
    lines = [table.titles, ["-" * width for width in widths], *table.rows]
    text = [
        "  ".join(
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*text, table.note] if table.note else text)


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
