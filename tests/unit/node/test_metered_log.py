"""The metered log: it counts commits and remembers the last trouble."""

from hashlib import sha256
from pathlib import Path

import pytest

from sublet.base.errors import SubletError
from sublet.node.metered_log import MeteredLog
from sublet.node.metrics import NodeMetrics


def row(number: int) -> tuple[str, bytes, bytes]:
    body = str(number).encode()
    return "0x" + sha256(body).hexdigest(), body, sha256(body).digest()


def rendered(metrics: NodeMetrics) -> str:
    return metrics.render(
        leases={}, providers_up=0, log_size=0, links=0, cosigned=0, not_cosigned=0
    ).decode()


def test_commits_are_counted(tmp_path: Path) -> None:
    metrics = NodeMetrics()
    log = MeteredLog(tmp_path / "log.db", metrics=metrics)
    assert log.append([row(1), row(2)]).indexes == [0, 1]
    assert log.append([row(3)]).indexes == [2]
    assert log.find_trouble() == ""
    log.close()
    text = rendered(metrics)
    assert "sublet_commit_seconds_count 2.0" in text
    assert "sublet_commit_documents_sum 3.0" in text


def test_failed_commit_is_a_trouble(tmp_path: Path) -> None:
    metrics = NodeMetrics()
    log = MeteredLog(tmp_path / "log.db", metrics=metrics)
    log.close()
    with pytest.raises(SubletError) as caught:
        log.append([row(1)])
    assert log.find_trouble() == caught.value.message
    assert "sublet_commit_seconds_count 0.0" in rendered(metrics)
