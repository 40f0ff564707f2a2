"""Logs: one JSON object a line, whatever is in the values."""

import json
import logging
import sys

import pytest

from sublet.node.journal import Journal, JsonFormatter


def make_record(message: str, values: object = None) -> logging.LogRecord:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, message, (), None)
    record.created, record.msecs = 1_800_000_000.25, 250.0
    if values is not None:
        record.values = values
    return record


def test_record_is_one_json_line() -> None:
    line = JsonFormatter().format(make_record("link_up", {"provider": "0x1", "n": 2}))
    assert json.loads(line) == {
        "at": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "event": "link_up",
        "provider": "0x1",
        "n": 2,
    }


def test_value_cannot_forge_a_line() -> None:
    line = JsonFormatter().format(make_record("x", {"why": 'a\n{"event":"forged"}\r'}))
    assert len(line.splitlines()) == 1


def test_objects_are_left_out() -> None:
    secret = type("Secret", (), {"__repr__": lambda self: "hunter2"})()
    assert "hunter2" not in JsonFormatter().format(make_record("x", {"key": secret}))


def test_traceback_stays_in_its_line() -> None:
    record = make_record("failed")
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert "ValueError: why" in json.loads(line)["exception"]


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_journal_uses_standard_logging(
    level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        getattr(Journal("sublet.test"), level)("event", number=3)
    (record,) = caplog.records
    assert (record.levelname.lower(), record.getMessage()) == (level, "event")
    assert record.__dict__["values"] == {"number": 3}
