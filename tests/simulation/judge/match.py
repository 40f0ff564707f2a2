"""Who may order, who had to win, and at what price: worked out again, slowly."""

from sublet.base.ids import NO_DIGEST
from sublet.core.document import Offer, Order
from sublet.core.lease.phase import Fault, Lease
from tests.simulation.judge.notes import IN_USE, Notes

GIB = 1 << 30


def check_right(notes: Notes, signer: str, order: Order, lease: Lease) -> None:
    """Whoever ordered may, and what it may cost is allowed."""
    assert lease.tenant == order.tenant
    assert lease.hold <= order.total_max, "more is held than the order allows"
    assert lease.duration_s <= order.duration_s_max, "it may run for too long"
    assert lease.price_hour <= order.price_hour_max, "dearer than the order allows"
    check_signer(notes, signer, order)
    if order.delegation == NO_DIGEST:
        return
    _, delegation = notes.delegations[order.delegation]
    assert delegation.expires_at_s > notes.now_s, "the delegation has expired"
    assert order.delegation not in notes.revoked, "the delegation was revoked"
    allowed = delegation.providers
    assert not allowed or lease.provider in allowed, "out of the delegation's scope"
    under = [
        case
        for case in notes.cases.values()
        if case.lease.delegation == order.delegation
    ]
    at_once = sum(case.phase in IN_USE for case in under)
    assert at_once < delegation.leases_max, "too many leases under a delegation"
    used = sum(
        case.paid if case.phase == "settled" else case.lease.hold for case in under
    )
    used += sum(
        wish.hold
        for wish in notes.open_wishes
        if wish.order.delegation == order.delegation
    )
    assert used + lease.hold <= delegation.budget, "over the delegation's budget"


def check_signer(notes: Notes, signer: str, order: Order) -> None:
    """It is the tenant, or who may order in its name."""
    if order.delegation == NO_DIGEST:
        assert signer == order.tenant, "a stranger ordered"
        return
    tenant, delegation = notes.delegations[order.delegation]
    assert (tenant, delegation.delegate) == (order.tenant, signer)


def check_room(notes: Notes, lease: Lease, offer: Offer) -> None:
    """No more of a machine is let than was offered, and no GPU twice."""
    used = notes.used(lease.provider, lease.machine)
    gpus = {uuid for one in used for uuid in one.gpu_uuids}
    assert set(lease.gpu_uuids) <= set(offer.gpu_uuids) - gpus, "a GPU twice"
    assert not offer.leases_max or len(used) < offer.leases_max, "a lease too many"
    for what in ("cpus_milli", "memory_bytes", "disk_bytes"):
        taken = sum(getattr(one, what) for one in (*used, lease))
        assert taken <= getattr(offer, what), f"more {what} than offered"


def check_match(notes: Notes, order: Order, lease: Lease) -> None:
    """The best score won, for the price at which it would just tie the next."""
    fitting = {
        key: cost_hour(order, offer)
        for key, (provider, offer) in notes.offers.items()
        if fits(notes, order, provider, offer)
    }
    costs = {k: cost for k, cost in fitting.items() if cost <= order.price_hour_max}
    assert lease.offer_id in costs, "the winner does not fit"
    provider, offer = notes.offers[lease.offer_id]
    assert lease.provider == provider
    check_room(notes, lease, offer)
    assert len(set(lease.gpu_uuids)) == order.gpu_count
    if notes.open_wishes:
        # Slices that are spoken for keep some of these out; not whoever wins.
        assert costs[lease.offer_id] <= lease.price_hour, "below the winner's floor"
        return
    chances = {p: chance_ppm(notes, p, order) for p, _ in notes.offers.values()}
    scale = (1 << 62) // max(1, order.price_hour_max)
    scores = {
        k: cost * scale // chances[notes.offers[k][0]] for k, cost in costs.items()
    }
    assert scores[lease.offer_id] == min(scores.values()), "not the best score won"
    if order.pricing == "pay_as_bid" or all(
        notes.offers[k][0] == provider for k in fitting
    ):
        price = costs[lease.offer_id]  # a lone seller is paid what it asks
    elif all(notes.offers[k][0] == provider for k in costs):
        price = order.price_hour_max
    else:
        next_score = min(
            score for k, score in scores.items() if notes.offers[k][0] != provider
        )
        # With scales as large as here no two prices have one score.
        price = -(-next_score * chances[provider] // scale)
        while (price + 1) * scale // chances[provider] <= next_score:
            price += 1
        while price * scale // chances[provider] > next_score:
            price -= 1
        if _is_younger_than_next(notes, lease.offer_id, scores, next_score):
            ties = price * scale // chances[provider] == next_score
            price += 0 if ties else 1
        price = min(price, order.price_hour_max)
    assert lease.price_hour == price, "not the second score"


def chance_ppm(notes: Notes, provider: str, order: Order) -> int:
    """A day without faults, and what was seen since."""
    seen = [
        case
        for case in notes.cases.values()
        if case.phase == "settled" and case.lease.provider == provider
    ]
    ran_s = sum(case.lease.ran_ms // 1_000 for case in seen)
    faults = sum(case.lease.fault is Fault.PROVIDER for case in seen)
    faults += notes.not_granted[provider]
    lasts_s = (86_400 + ran_s) // (1 + faults)
    lasts_s -= lasts_s % 3_600 if lasts_s > 3_600 else 0
    return 1 + lasts_s * 999_999 // (lasts_s + order.duration_s_max)


def _is_younger_than_next(
    notes: Notes, key: str, scores: dict[str, int], next_score: int
) -> bool:
    """Say whether the one that it has to beat was offered before it."""
    places = {one: place for place, one in enumerate(notes.offers)}
    rivals = [
        places[one]
        for one, score in scores.items()
        if score == next_score and notes.offers[one][0] != notes.offers[key][0]
    ]
    return min(rivals) < places[key]


def fits(notes: Notes, order: Order, provider: str, offer: Offer) -> bool:
    used = notes.used(provider, offer.machine)
    gpus = {uuid for one in used for uuid in one.gpu_uuids}
    allowed: tuple[str, ...] = ()
    if order.delegation != NO_DIGEST:
        allowed = notes.delegations[order.delegation][1].providers
    return (
        provider in notes.up
        and offer.expires_at_s > notes.now_s
        and provider not in order.avoid
        and order.tenant not in offer.refuses
        and (not allowed or provider in allowed)
        and (not offer.leases_max or len(used) < offer.leases_max)
        and set(order.features) <= set(offer.features)
        and (not order.sandbox or order.sandbox in offer.sandboxes)
        and (not order.gpu_models or offer.gpu_model in order.gpu_models)
        and order.gpu_memory_bytes <= offer.gpu_memory_bytes
        and order.gpu_count <= len(set(offer.gpu_uuids) - gpus)
        and all(
            getattr(order, what) + sum(getattr(one, what) for one in used)
            <= getattr(offer, what)
            for what in ("cpus_milli", "memory_bytes", "disk_bytes")
        )
    )


def cost_hour(order: Order, offer: Offer) -> int:
    return (
        -(-order.cpus_milli * offer.cpu_price_hour // 1_000)
        - (-order.memory_bytes * offer.memory_price_hour // GIB)
        + order.gpu_count * offer.gpu_price_hour
    )
