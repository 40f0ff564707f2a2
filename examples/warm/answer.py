"""A model that is loaded once and asked many times: the warm program of a map.

It learns which letter follows which from a text, which takes a moment, and then continues
prompts. Replace ``Model`` by one that takes minutes to load, and nothing else changes.
"""

import collections
import json
import os
import pathlib
import random
import sys
from collections.abc import Iterator
from typing import Any

ORDER = 4  # letters that the next one is chosen by
TEXT = """
The machine does not know what it says. It has seen which letter came after which, and
says what it has seen, in an order that nobody wrote. So does the river, which knows no
map and finds the sea; so does the market, in which nobody knows the price and all of
them together find it. What is rented by the second is paid by the second, and what is
kept on your own disk is yours, whatever becomes of the machine that made it.
"""


class Model:
    """Which letters follow which."""

    def __init__(self, text: str) -> None:
        """Learn from a text."""
        self.following = collections.defaultdict[str, list[str]](list)
        for place in range(len(text) - ORDER):
            self.following[text[place : place + ORDER]].append(text[place + ORDER])

    def answer(self, prompt: str, length: int, seed: int) -> Iterator[str]:
        """Continue a prompt, letter by letter; the same seed says the same."""
        dice, said = random.Random(seed), prompt
        for _ in range(length):
            choices = self.following.get(said[-ORDER:]) or list(TEXT)
            said += (letter := dice.choice(choices))
            yield letter


def main() -> None:
    """Load, then answer one task after the other."""
    # Standard output belongs to the protocol: what anybody prints goes to standard error.
    tenant = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**said: Any) -> None:
        tenant.write(json.dumps(said) + "\n")

    say(progress=0, text="learning")  # starting counts towards --stall and --timeout
    model = Model(" ".join(TEXT.split()))
    for line in sys.stdin:
        task = json.loads(line)
        asked = task["data"]
        length = asked.get("length", 200)
        letters: list[str] = []
        for letter in model.answer(asked["prompt"], length, asked.get("seed", 0)):
            letters.append(letter)
            if len(letters) % 50 == 0:
                say(progress=len(letters) / length, text=f"{len(letters)} letters")
        text = asked["prompt"] + "".join(letters) + "\n"
        (pathlib.Path(task["output"]) / "answer.txt").write_text(text)
        say(done=True, result={"answer": "".join(letters)})


if __name__ == "__main__":
    main()
