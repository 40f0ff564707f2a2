"""A statement as a table in a terminal."""

from sublet.cli.paper.layout import COLUMNS, Paper


def write_text(paper: Paper) -> str:
    """Give the whole text; a stranger's words cannot move a cursor."""
    from sublet.cli.output import format_table

    said = [f"{paper.title} {paper.number}"]
    for label, lines in paper.heads:
        said.append(f"  {label:<9}{', '.join(lines)}")
    said += ["", format_table(COLUMNS, list(paper.rows)) if paper.rows else "No lines."]
    width = max(len(name) for name, _ in paper.totals)
    said += ["", *(f"{name:<{width}}  {amount:>16}" for name, amount in paper.totals)]
    text = "\n".join([*said, "", *paper.notes]) + "\n"
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
