"""Structured logs: one JSON object a line, on stderr.

What goes in: an event's name and plain values. What never does: bodies, headers,
keys, manifests, query strings.
"""

import json
import logging
import sys
import time

_PLAIN = (str, int, float, bool, type(None))


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, so that no value can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line, without its end."""
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        values = getattr(record, "values", {})
        line.update({k: v for k, v in values.items() if isinstance(v, _PLAIN)})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Journal:
    """Says what happened: ``journal.info("link_up", provider=…)``."""

    def __init__(self, name: str = "sublet.node") -> None:
        """Write to the standard logger of this name."""
        self._logger = logging.getLogger(name)

    def info(self, event: str, **values: str | int | float) -> None:
        """Report the course of things."""
        self._logger.info(event, extra={"values": values})

    def warning(self, event: str, **values: str | int | float) -> None:
        """Report what an operator should look at."""
        self._logger.warning(event, extra={"values": values})

    def error(self, event: str, **values: str | int | float) -> None:
        """Report a failure, with the traceback of the exception being handled."""
        self._logger.error(event, extra={"values": values}, exc_info=True)


def send_to_stderr(*, level: int = logging.INFO) -> None:
    """Send all logs of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
