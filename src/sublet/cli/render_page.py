"""A render as one page: a grid of frames; a click says who rendered and checked each.

The page needs no server and no network: a file that is written anew while the render
runs, and loads itself again until it is over. Every word of a stranger's is escaped.
"""

from html import escape

from sublet.base.units import format_duration, format_money
from sublet.core.render.look import DONE, FrameLook, RenderLook, UnitLook

REFRESH_S = 3
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --ok: #2a7d4f; --run: #b7791f;
  --bad: #b3261e }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 }
.sub { opacity: .75; margin: .2rem 0 1rem }
.bar { height: .6rem; background: var(--line); border-radius: .3rem; overflow: hidden }
.bar i { display: block; height: 100%; background: var(--ok) }
.facts, .grid { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
.facts { margin: 1rem 0 }
.facts div, details { border: 1px solid var(--line); border-radius: .4rem }
.facts div { padding: .4rem .6rem }
.facts b { display: block; font-size: 1.05rem }
.facts span { font-size: .8rem; opacity: .75 }
details { overflow: hidden }
details[open] { grid-column: 1 / -1 }
summary { cursor: pointer; list-style: none }
summary img, .none { width: 100%; aspect-ratio: 16/9; object-fit: contain;
  display: block; background: #0003 }
summary p { margin: 0; padding: .2rem .5rem; display: flex;
  justify-content: space-between }
.done { color: var(--ok) }
.running, .checking { color: var(--run) }
.failed { color: var(--bad) }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
.wide { overflow-x: auto; padding: .5rem }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line) }
"""


def format_page(look: RenderLook) -> str:
    """Write the whole page, as text."""
    refresh = (
        f'<meta http-equiv="refresh" content="{REFRESH_S}">'
        if look.state == "running"
        else ""
    )
    share = 100 * look.units_done // max(1, look.units)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; img-src 'self' file:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(look.scene)}: {share} %</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>{escape(look.scene)}</h1>"
        f'<p class="sub">{escape(_tell_state(look))}</p>'
        f'<div class="bar" role="progressbar" aria-valuenow="{share}">'
        f'<i style="width:{share}%"></i></div>'
        f'<div class="facts">{"".join(_fact(*one) for one in list_facts(look))}</div>'
        f"{''.join(f'<p>{escape(note)}</p>' for note in look.notes)}"
        f'<div class="grid">{"".join(_frame(one) for one in look.frames)}</div></html>\n'
    )


def list_facts(look: RenderLook) -> list[tuple[str, str]]:
    """Give what stands over the grid: a value, and what it is."""
    facts = [
        (f"{look.units_done} of {look.units}", "units rendered"),
        (str(look.units_checked), "of them checked by another provider"),
        (str(look.machines), "machines at work"),
        (format_money(look.cost), f"so far, of about {format_money(look.cost_likely)}"),
    ]
    if look.state == "running":
        facts.append((tell_left(look), "left"))
    return facts


def tell_left(look: RenderLook) -> str:
    """Say how long it takes, with the spread."""
    if look.left_ms < 0:
        return "nobody can tell yet"
    likely, low, high = (
        format_duration(max(1, ms // 1_000))
        for ms in (look.left_ms, look.left_low_ms, look.left_high_ms)
    )
    return f"{likely} ({low} to {high})"


def _tell_state(look: RenderLook) -> str:
    done = sum(frame.state == DONE for frame in look.frames)
    return f"{look.state}: {done} of {len(look.frames)} frames are done"


def _fact(value: str, name: str) -> str:
    return f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"


def _frame(frame: FrameLook) -> str:
    picture = (
        f'<img loading="lazy" alt="frame {frame.frame}" src="{escape(frame.picture)}">'
        if frame.picture
        else '<div class="none"></div>'
    )
    rows = "".join(_unit(unit) for unit in frame.units)
    return (
        f'<details id="f{frame.frame}"><summary>{picture}<p><span>{frame.frame}</span>'
        f'<span class="{escape(frame.state)}">{escape(frame.state)}</span></p></summary>'
        '<div class="wide"><table><tr><th>unit<th>state<th>rendered by<th>on<th>took'
        f"<th>checked by<th>finding</tr>{rows}</table></div></details>"
    )


def _unit(unit: UnitLook) -> str:
    state = unit.state
    if state == "running" and unit.progress_milli:
        state = f"running, {unit.progress_milli // 10} %"
    cells = (
        unit.id,
        state,
        unit.provider and f"{unit.machine} of {unit.provider}",
        unit.device,
        f"{unit.took_ms / 1_000:.1f} s" if unit.took_ms else "",
        unit.checked_by,
        unit.finding,
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells) + "</tr>"
