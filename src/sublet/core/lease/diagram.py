"""The phases of a lease, drawn from the tables that rule them."""

from sublet.core.lease.phase import Phase
from sublet.core.lease.table import DEADLINES, STEPS, UNFUNDED


def diagram() -> str:
    """Draw the tables as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> matched: Order"]
    for (phase, kind), move in STEPS.items():
        lines.append(f"    {phase.value} --> {move.to.value}: {kind.__name__}")
    lines.append("    running --> closing: duration_s passed (timeout)")
    for phase, due in (*DEADLINES.items(), (Phase.PREPARING, UNFUNDED)):
        lines.append(
            f"    {phase.value} --> settled: {due.span} passed "
            f"({due.reason}, fault {due.fault.value})"
        )
    lines.append("    settling --> settled: Voucher that covers what is owed")
    lines.append("    note right of settled: ProviderLost settles every open lease")
    lines.append("    settled --> [*]")
    return "\n".join(lines) + "\n"
