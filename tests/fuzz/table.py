"""All targets, by name."""

from tests.fuzz import (
    image_targets,
    paper_targets,
    price_targets,
    proxy_targets,
    statement_targets,
    text_targets,
    wire_targets,
)
from tests.fuzz.target import TARGETS

__all__ = ["TARGETS"]

_ = image_targets, paper_targets, price_targets, proxy_targets
_ = statement_targets, text_targets, wire_targets
