"""Texts that are compared: written in one way, or refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.core.document import Offer, Order
from sublet.core.wording import RULES, check_wording
from tests.unit.core.book.world import make_offer, make_order

GOOD = [
    ("gpu_models", ("h100", "a100/80GiB", "a100/80GiB/sxm", "a100/sxm")),
    ("regions", ("DE", "US-CA")),
    ("features", ("image", "image:ghcr.io", "image:localhost:5000")),
    ("attributes", ("capabilities/gpu=x", "tier=data-center")),
    ("latencies", ("new-york=0", "oslo=1000")),
    ("work", "gpu"),
]


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_good_wording_passes(field: str, value: object) -> None:
    check_wording(make_order(**{field: value}), whose="order")


BAD = [
    ("gpu_models", ("h100", "h\N{CYRILLIC SMALL LETTER ES}100")),  # looks like c
    ("gpu_models", ("H100",)),
    ("gpu_models", ("h100/80GB",)),
    ("gpu_models", ("",)),
    ("gpu_vendor", "nvidia "),
    ("gpu_vendor", "\N{FULLWIDTH LATIN SMALL LETTER N}vidia"),
    ("gpu_vendor", "nvi\N{ZERO WIDTH SPACE}dia"),
    ("gpu_vendor", "x" * 65),
    ("regions", ("de",)),
    ("sandbox", "pod\nman"),
    ("attributes", ("soc2",)),
    ("attributes", ("soc2=\N{ARABIC-INDIC DIGIT ONE}",)),
    ("latencies", ("oslo=1001",)),
    ("latencies", ("oslo=01",)),
    ("work", "cpus"),
    ("pricing", "auction"),
    ("near", "New York"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_wording_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(Refused) as refusal:
        check_wording(make_order(**{field: value}), whose="order")
    assert refusal.value.code == "bad_wording"
    assert (refusal.value.field or "").startswith(f"order.{field}")
    assert refusal.value.message.isascii()


def test_offers_have_rules_too() -> None:
    with pytest.raises(Refused) as refusal:
        check_wording(make_offer(latencies=("oslo=5", "oslo=x")), whose="offer")
    assert refusal.value.field == "offer.latencies[1]"


FIELDS = [(kind, field) for kind in (Offer, Order) for field in RULES[kind]]


@given(
    place=st.sampled_from(FIELDS),
    sign=st.characters(min_codepoint=128, exclude_categories=["Cs"]),
    before=st.text("abc019", max_size=8),
    after=st.text("abc019", max_size=8),
)
def test_no_other_alphabet_passes(
    place: tuple[type, str], sign: str, before: str, after: str
) -> None:
    """Whatever stands around it: no sign beyond ASCII is in anything that is compared."""
    kind, field = place
    make = make_offer if kind is Offer else make_order
    whole = before + sign + after
    texts = (whole, f"key={whole}", f"{whole}=1")
    is_list = isinstance(getattr(make(), field), tuple)
    for text in texts:
        with pytest.raises(Refused) as refusal:
            check_wording(make(**{field: (text,) if is_list else text}), whose="it")
        assert refusal.value.code == "bad_wording"
