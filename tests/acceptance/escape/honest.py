"""An honest job: computes, writes, and says what it has done."""

import hashlib
import os

digest = b"x"
for step in range(8):
    for _ in range(20_000):
        digest = hashlib.sha256(digest).digest()
    with open("/work/result", "ab") as file:
        file.write(digest * 1_000)
        file.flush()
        os.fsync(file.fileno())
    print(f"step {step}", flush=True)
print(digest.hex(), flush=True)
