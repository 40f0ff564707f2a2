"""What one slice takes of a machine, as placement sees it."""

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.limits import GPU_COUNT_MAX

WHOLE = 1_000  # thousandths of one GPU


class Shape(Struct, frozen=True):
    """The size of a slice. Slices of one shape are interchangeable."""

    cpus_milli: int
    memory_bytes: int
    gpu_count: int = 0
    gpu_milli: int = WHOLE  # of each GPU, in thousandths
    gpu_models: tuple[str, ...] = ()  # any of these; empty for every model

    def gpus_milli(self) -> int:
        """Give the thousandths of GPUs that it takes in all."""
        return self.gpu_count * self.gpu_milli

    def accepts(self, model: str) -> bool:
        """Say whether it may lie on a machine whose GPUs are of this model."""
        return not self.gpu_count or not self.gpu_models or model in self.gpu_models


def check_shape(shape: Shape) -> None:
    """Refuse a shape that no machine could ever hold.

    Raises:
        Refused: ``bad_shape``, with the field.
    """
    faults = {
        "cpus_milli": shape.cpus_milli < 0,
        "memory_bytes": shape.memory_bytes < 0,
        "gpu_count": not 0 <= shape.gpu_count <= GPU_COUNT_MAX,
        # A part is of one GPU.
        "gpu_milli": not 1 <= shape.gpu_milli <= WHOLE
        or (shape.gpu_milli < WHOLE and shape.gpu_count != 1),
    }
    for field, is_wrong in faults.items():
        if is_wrong:
            raise Refused(
                f"shape.{field} is {getattr(shape, field)}, which no machine could hold; "
                f"sizes are not negative, GPUs at most {GPU_COUNT_MAX}, and a part is "
                f"of one GPU, 1 to {WHOLE} thousandths",
                code="bad_shape",
                field=f"shape.{field}",
            )
