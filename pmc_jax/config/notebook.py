"""HTML of public objects for notebooks."""

import html
from collections.abc import Mapping


def table(title: str, rows: Mapping[str, object], note: str = "") -> str:
    """Returns an HTML table with one row for each name and value.

    Args:
        title: caption of the table.
        rows: value of each row by its name. The caller passes no private text.
        note: text that replaces the rows if there are none.
    """
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    text = f"<p>{html.escape(note)}</p>" if note and not rows else ""
    caption = f'<caption style="text-align: left"><b>{html.escape(title)}</b></caption>'
    return f"<table>{caption}{body}</table>{text}"
