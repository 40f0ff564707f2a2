"""What a provider signs at the end of a lease, and anyone may hand on."""

from sublet.wire.sanitization import make_statement, open_envelope, seal
from tests.fuzz.target import target
from tests.unit.wire.test_sanitization import KEY, REMAINS, make_predicate
from tests.unit.workload.run.test_evidence import LEASE

_SEALED, _DIGEST = seal(make_statement(make_predicate(LEASE), remains=REMAINS), key=KEY)


@target("statement", seeds=[_SEALED], words=['"payloadType"', '"signatures"', "=="])
def _statement(raw: bytes) -> None:
    read = open_envelope(raw)
    if read.signer == KEY.address:  # nobody else has our key
        assert read.digest == _DIGEST
