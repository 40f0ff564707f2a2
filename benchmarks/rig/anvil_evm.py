"""anvil behind the face of ``tests.contracts.evm.Evm``: there gas is what a chain takes.

Every call is a transaction of its own, by whichever account, and costs what its receipt
says: calldata, storage that was cold, and what a call gives back for what it clears.
"""

import json
import urllib.request
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from contracts.write_artifacts import compile_contract
from sublet.base.ids import Address
from tests.contracts.evm import Done, Evm, Log, selector, split_types

RICH = hex(10**24)
GAS = hex(20_000_000)
SENDER: Address = "0x" + "99" * 20


class AnvilEvm(Evm):
    """One anvil; ``gas`` of what it did is exact."""

    def __init__(self, url: str, *, chain_id: int) -> None:
        """Take a running one, and let it send for everybody."""
        self._url, self._known = url, set[str]()
        self.chain_id = chain_id
        self.deploy_gas = 0  # of the last contract
        self.ask("anvil_autoImpersonateAccount", True)

    def ask(self, method: str, *params: Any) -> Any:
        """Ask it something; what it refuses raises."""
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        request = urllib.request.Request(
            self._url,
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]

    def pass_s(self, seconds: int) -> None:
        """Let time pass."""
        self.ask("evm_increaseTime", seconds)
        self.ask("evm_mine")

    def deploy(self, source: str, *args: Any, at: Address = "") -> Address:
        """Deploy one of our contracts."""
        made = compile_contract(source)
        types = [
            argument["type"]
            for item in made["abi"]
            if item["type"] == "constructor"
            for argument in item["inputs"]
        ]
        return self.deploy_code(made["bytecode"], types, args)

    def deploy_artifact(
        self, path: Path, types: list[str], args: Any, **links: Address
    ) -> Address:
        """Deploy what somebody else compiled, linked with libraries by their names."""
        made = json.loads(path.read_text())
        code = made["bytecode"]
        for libraries in made["linkReferences"].values():
            for name, places in libraries.items():
                for place in places:
                    at = 2 + 2 * place["start"]
                    code = code[:at] + links[name][2:] + code[at + 40 :]
        return self.deploy_code(code, types, args)

    def deploy_code(self, code: str, types: list[str], args: Any) -> Address:
        """Deploy bytecode with the arguments of its constructor."""
        data = code + encode(types, args).hex()
        receipt = self._send({"data": data}, SENDER)
        self.deploy_gas = int(receipt["gasUsed"], 16)
        return str(receipt["contractAddress"])

    def call(
        self, target: Address, signature: str, *args: Any, sender: Address = SENDER
    ) -> Done:
        """Call a function in a transaction."""
        data = selector(signature) + encode(split_types(signature), args)
        return self.send(target, data, sender=sender)

    def send(self, target: Address, data: bytes, *, sender: Address) -> Done:
        """Ask first what it would give, then do it; a revert is only an answer."""
        call = {"to": target, "data": "0x" + data.hex()}
        self._endow(sender)
        try:
            output = self.ask("eth_call", {**call, "from": sender}, "latest")
        except RuntimeError as fault:
            return Done(False, b"", (), str(fault), 0)
        receipt = self._send(call, sender)
        logs = tuple(
            Log(
                log["address"],
                tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                bytes.fromhex(log["data"][2:]),
            )
            for log in receipt["logs"]
        )
        gas = int(receipt["gasUsed"], 16)
        return Done(True, bytes.fromhex(output[2:]), logs, "", gas)

    def _endow(self, sender: Address) -> None:
        if sender not in self._known:
            self._known.add(sender)
            self.ask("anvil_setBalance", sender, RICH)

    def _send(self, call: dict[str, str], sender: Address) -> Any:
        self._endow(sender)
        sent = self.ask("eth_sendTransaction", {**call, "from": sender, "gas": GAS})
        while (receipt := self.ask("eth_getTransactionReceipt", sent)) is None:
            pass
        if receipt["status"] != "0x1":
            raise RuntimeError(f"reverted, and had not when it was asked: {call}")
        return receipt
