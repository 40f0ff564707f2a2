"""Texts that are compared are written in one way only, or refused by name.

Small ASCII letters and digits with a few signs: so no two texts look alike to a person
and differ for the book, and nobody wins or hides by a letter of another alphabet, an
accent or a space. A text that breaks its rule is refused, never mended: what is
signed is what counts.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.limits import LATENCY_MS_MAX
from sublet.core.document import Attestation, Offer, Order
from sublet.core.member import Document


class Rule(Struct, frozen=True):
    """How one sort of text is written."""

    pattern: re.Pattern[str]
    cure: str


_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
_PATH = r"[a-z0-9](?:[a-z0-9._/:+@-]{0,62}[a-z0-9])?"
NAME = Rule(
    re.compile(rf"\A{_NAME}\Z"),
    "a name has 1 to 64 of a-z, 0-9 and, within, . _ -",
)
FEATURE = Rule(
    re.compile(rf"\A{_PATH}\Z"),
    "a feature has 1 to 64 of a-z, 0-9 and, within, . _ - / : + @",
)
PAIR = Rule(
    re.compile(rf"\A{_PATH}={_PATH}\Z"),
    "an attribute is key=value, each of 1 to 64 of a-z, 0-9 and, within, . _ - / : + @",
)
REGION = Rule(
    re.compile(r"\A[A-Z]{2}(?:-[A-Z0-9]{1,3})?\Z"),
    "write an ISO 3166 code, such as DE or US-CA",
)
LATENCY = Rule(
    re.compile(rf"\A{_NAME}=(?:0|[1-9][0-9]{{0,3}})\Z"),
    f"write place=milliseconds, such as frankfurt=12, of at most {LATENCY_MS_MAX} ms",
)
GPU = Rule(
    re.compile(r"\A[a-z0-9]{1,64}(?:/[0-9]{1,4}GiB)?(?:/[a-z0-9]{1,16})?\Z"),
    "write MODEL, MODEL/80GiB (at least) or MODEL/80GiB/sxm, of a-z and 0-9",
)


def _one_of(*names: str) -> Rule:
    return Rule(
        re.compile(rf"\A(?:{'|'.join(names)})\Z"), f"it is one of: {', '.join(names)}"
    )


# By the name of the field, in whichever document it stands. "" needs no rule: it is no
# text at all, but in a list.
RULES: Mapping[type[Document], Mapping[str, Rule]] = {
    Offer: {
        "disk_class": NAME,
        "gpu_model": NAME,
        "gpu_vendor": NAME,
        "gpu_interface": NAME,
        "gpu_sharing": NAME,
        "region": REGION,
        "jurisdiction": REGION,
        "network": NAME,
        "latencies": LATENCY,
        "sandboxes": NAME,
        "features": FEATURE,
        "attributes": PAIR,
    },
    Order: {
        "disk_classes": NAME,
        "gpu_models": GPU,
        "gpu_vendor": NAME,
        "gpu_interface": NAME,
        "gpu_sharing": NAME,
        "regions": REGION,
        "jurisdictions": REGION,
        "latencies": LATENCY,
        "sandbox": NAME,
        "features": FEATURE,
        "attributes": PAIR,
        "work": _one_of("cpu", "disk", "gpu"),
        "near": NAME,
        "apart": _one_of("provider", "region", "network"),
        "pricing": _one_of("second_score", "pay_as_bid"),
    },
    Attestation: {"attributes": PAIR},
}


# A document's kind, and the texts that have rules.
_READ = {kind: attrgetter("__class__", *rules) for kind, rules in RULES.items()}


def check_wording(document: Offer | Order | Attestation, *, whose: str) -> None:
    """Refuse a document with a text that is compared and not written by its rule.

    Args:
        document: to be looked at.
        whose: what people call it: "offer".

    Raises:
        Refused: ``bad_wording``, with the field and the cure.
    """
    if _are_right(_READ[type(document)](document)):
        return
    for field, rule in RULES[type(document)].items():
        value: str | tuple[str, ...] = getattr(document, field)
        texts = (value,) if isinstance(value, str) else value
        for number, text in enumerate(texts if value else ()):
            place = "" if isinstance(value, str) else f"[{number}]"
            check_text(text, rule, field=f"{whose}.{field}{place}")


@lru_cache(maxsize=1_024)
def _are_right(read: tuple[Any, ...]) -> bool:
    """Say whether all texts of a document are right; orders repeat one another."""
    kind, *values = read
    rules = RULES[kind].values()
    return all(
        not value or _is_right(value, rule.pattern)
        for value, rule in zip(values, rules, strict=True)
    )


@lru_cache(maxsize=1_024)
def _is_right(value: str | tuple[str, ...], pattern: re.Pattern[str]) -> bool:
    """Say whether a text, or each of several, is right; offers repeat some."""
    texts = (value,) if isinstance(value, str) else value
    return all(_is_written(text, pattern) for text in texts)


def check_text(text: str, rule: Rule, *, field: str) -> None:
    """Refuse a text that is not written by a rule.

    Raises:
        Refused: ``bad_wording``; what is not ASCII is shown by its number.
    """
    if not _is_written(text, rule.pattern):
        raise Refused(
            f"{field} is {text!a}; {rule.cure}", code="bad_wording", field=field
        )


def _is_written(text: str, pattern: re.Pattern[str]) -> bool:
    if pattern.match(text) is None:
        return False
    is_latency = pattern is LATENCY.pattern
    return not is_latency or int(text.partition("=")[2]) <= LATENCY_MS_MAX
