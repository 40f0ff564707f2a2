"""Tokens that are none: they take a fee, lie, or call back."""

_TOKEN = """
# pragma version 0.4.3
# pragma evm-version cancun
balanceOf: public(HashMap[address, uint256])
hook: public(bytes32)
target: address
data: Bytes[4096]
is_armed: bool
was_refused: public(bool)

@external
def mint(who: address, amount: uint256):
    self.balanceOf[who] += amount

@external
def approve(spender: address, amount: uint256) -> bool:
    return True

@external
def arm(target: address, data: Bytes[4096]):
    self.target = target
    self.data = data
    self.is_armed = True

@internal
def _move(source: address, who: address, amount: uint256):
    self.balanceOf[source] -= amount
    self.balanceOf[who] += {arrives}
    if self.is_armed:
        self.is_armed = False
        # The call from within is refused; what called us goes on, or is refused too.
        done: bool = raw_call(self.target, self.data, revert_on_failure=False)
        self.was_refused = not done

@external
def transfer(who: address, amount: uint256){gives}:
    self._move(msg.sender, who, amount)
    {answer}

@external
def transferFrom(source: address, who: address, amount: uint256){gives}:
    self._move(source, who, amount)
    {answer}
"""


def bad_token(
    arrives: str = "amount", gives: str = " -> bool", answer: str = "True"
) -> str:
    """Write a token: what arrives of an amount, what a transfer gives back.

    Once armed, it calls somebody from within its next transfer.
    """
    ending = f"return {answer}" if gives else "pass"
    return _TOKEN.format(arrives=arrives, gives=gives, answer=ending)
