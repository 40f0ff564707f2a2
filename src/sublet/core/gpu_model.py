"""What a GPU is called: one name for each model, whoever writes it."""

import re

NO_GPU = "cpu"  # what people call machines without one; in documents that is ""

# Words of a product name that say nothing about the model: makers, cooling, memory.
_NOISE = re.compile(
    r"\A(nvidia|geforce|tesla|quadro|gpu|graphics|generation|edition|server|workstation"
    r"|pcie|nvl|sxm\d*|hbm\d*e?|\d+gb)\Z"
)


def normalize_model(name: str) -> str:
    """Turn a driver's product name into the one that offers and orders use. Pure.

    >>> normalize_model("NVIDIA GeForce RTX 4090"), normalize_model("NVIDIA H200")
    ('rtx4090', 'h200')
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "".join(word for word in words if not _NOISE.match(word))
