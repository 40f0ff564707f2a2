"""The benchmark: numbers where something was measured, and none where not."""

from pathlib import Path

import pytest

from sublet.base.errors import Unavailable
from sublet.provider.benchmark import Measurement, measure, measure_disk


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return measure(tmp_path_factory.mktemp("disk"), now_s=1_800_000_000)


def test_measures_cpu_and_disk(measured: Measurement) -> None:
    assert measured.measured_at_s == 1_800_000_000
    assert 10 < measured.cpu_score < 100_000  # MiB/s of SHA-256
    assert 0 < measured.disk_score < 1_000_000


def test_invents_no_gpu_score(measured: Measurement) -> None:
    assert measured.gpu_score == 0


def test_leaves_no_file_behind(tmp_path: Path) -> None:
    measure_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_needs_a_folder_to_write(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be written"):
        measure_disk(tmp_path / "missing")
