"""A statement as PDF, by ReportLab: the extra ``sublet[pdf]``."""

import io
from html import escape

from sublet.cli.paper.layout import COLUMNS, Paper

_WIDTHS_MM = (26, 28, 54, 22, 16, 16, 20)  # A4's 210 less the margins; letter is wider
_MARGIN_MM = 14
_GREY = "#666666"


def write_pdf(paper: Paper, *, is_letter: bool = False) -> bytes:
    """Give the bytes of a PDF, on A4 or letter.

    The letters of Western Europe alone: others come out as boxes, so that HTML and a
    browser's printer are the better way for them.
    """
    from reportlab.lib.pagesizes import A4, LETTER
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    plain = ParagraphStyle("plain", fontName="Helvetica", fontSize=7.5, leading=9.5)
    plain.wordWrap = "CJK"  # breaks long names anywhere, rather than overprinting
    title = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=18, leading=24)
    note = ParagraphStyle("note", plain, textColor=_GREY, spaceBefore=4)

    def write(text: str, style: ParagraphStyle = plain) -> Paragraph:
        return Paragraph(escape(text, quote=False), style)

    story = [write(paper.title, title), write(paper.number, note), Spacer(0, 5 * mm)]
    for label, lines in paper.heads:
        story += [write(label, note), *(write(line) for line in lines)]
    story += [Spacer(0, 6 * mm), _make_table(paper, write), Spacer(0, 5 * mm)]
    story += [_make_totals(paper), Spacer(0, 6 * mm)]
    story += [write(text, note) for text in paper.notes]
    out = io.BytesIO()
    SimpleDocTemplate(
        out,
        pagesize=LETTER if is_letter else A4,
        leftMargin=_MARGIN_MM * mm,
        rightMargin=_MARGIN_MM * mm,
        topMargin=_MARGIN_MM * mm,
        bottomMargin=_MARGIN_MM * mm,
        title=f"{paper.title} {paper.number}",
        invariant=1,  # the same statement is the same file
    ).build(story, onLaterPages=_number_page)
    return out.getvalue()


def _make_table(paper: Paper, write: object) -> object:
    from reportlab.lib.units import mm
    from reportlab.platypus import LongTable, TableStyle

    assert callable(write)
    # Right-hand columns are figures: drawn as they are, aligned to the right.
    rows = [[*(write(cell) for cell in row[:4]), *row[4:]] for row in paper.rows]
    style = [
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 7.5),
        ("FONT", (4, 1), (-1, -1), "Helvetica", 7.5),
        ("ALIGN", (4, 0), (-1, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 1, "#1a1a1a"),
        ("LINEBELOW", (0, 1), (-1, -1), 0.3, "#dddddd"),
    ]
    return LongTable(
        [list(COLUMNS), *rows],
        colWidths=[width * mm for width in _WIDTHS_MM],
        style=TableStyle(style),
        repeatRows=1,
    )


def _make_totals(paper: Paper) -> object:
    from reportlab.platypus import Table, TableStyle

    style = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
        ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 9),
        ("ALIGN", (0, 0), (-1, -1), "RIGHT"),
    ]
    return Table(
        [list(each) for each in paper.totals], style=TableStyle(style), hAlign="RIGHT"
    )


def _number_page(canvas: object, _: object) -> None:
    canvas.setFont("Helvetica", 7)  # type: ignore[attr-defined] # ReportLab has no types
    page = canvas.getPageNumber()  # type: ignore[attr-defined] # as above
    canvas.drawRightString(560, 20, str(page))  # type: ignore[attr-defined] # as above
