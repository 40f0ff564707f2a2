"""Compile the contracts and write what users need of them: no user needs a compiler.

    make contracts

One JSON file a contract in ``src/sublet/adapter/contract``: its ABI, the bytecode that
deploys it, by which compiler and settings it was made, and the hash of its source.
The settings stand in the sources themselves, as pragmas.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import vyper
from vyper.compiler import CompilerData
from vyper.compiler.input_bundle import FileInput
from vyper.compiler.output import build_abi_output, build_bytecode_output

HERE = Path(__file__).parent
TARGET = HERE.parent / "src" / "sublet" / "adapter" / "contract"
SOURCES = {
    "escrow": "Escrow.vy",
    "collector": "Eip3009Collector.vy",
    "stake": "Stake.vy",
    "converter": "Converter.vy",
    "usdc": "test/Usdc.vy",
    "render": "test/Render.vy",
}


def compile_contract(source: str) -> dict[str, Any]:
    """Compile one contract; ``source`` is its path below this folder."""
    path = HERE / source
    code = path.read_text()
    data = CompilerData(
        FileInput(
            contents=code, source_id=-1, path=Path(source), resolved_path=path.resolve()
        )
    )
    settings = data.settings
    return {
        "source": f"contracts/{source}",
        "source_sha256": hashlib.sha256(code.encode()).hexdigest(),
        "compiler": f"vyper {vyper.__version__}",
        "evm": settings.evm_version,
        "optimize": str(settings.optimize),
        "abi": build_abi_output(data),
        "bytecode": build_bytecode_output(data),
    }


def main() -> None:
    """Write all of them anew."""
    for name, source in SOURCES.items():
        artifact = compile_contract(source)
        path = TARGET / f"{name}.json"
        path.write_text(json.dumps(artifact, indent=1) + "\n")
        size = len(artifact["bytecode"]) // 2 - 1
        print(f"{path.name}: {size} bytes of {source}")


if __name__ == "__main__":
    main()
