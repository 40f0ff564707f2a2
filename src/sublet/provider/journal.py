"""What the agent tells its owner: one line an event, for people or as JSON.

What goes in: an event's name and plain values. What never does: manifests, keys,
arguments, environments, anything that a job says.
"""

import json
import logging
import sys
import time

_LOGGER = "sublet.provider"


class Journal:
    """Says what happened: ``journal.info("lease_running", lease=…)``."""

    def __init__(self, name: str = _LOGGER) -> None:
        """Write to the standard logger of this name."""
        self._logger = logging.getLogger(name)

    def info(self, event: str, **values: str | int | float) -> None:
        """Report the course of things."""
        self._logger.info(event, extra={"values": values})

    def warn(self, event: str, **values: str | int | float) -> None:
        """Report what the owner should look at."""
        self._logger.warning(event, extra={"values": values})

    def error(self, event: str, **values: str | int | float) -> None:
        """Report a failure, with the traceback of the exception being handled."""
        self._logger.error(event, extra={"values": values}, exc_info=True)


class TextFormatter(logging.Formatter):
    """Writes ``14:03:07  lease running  lease=0x12ab…``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line; control characters of values do not reach the terminal."""
        values: dict[str, object] = getattr(record, "values", {})
        words = [f"{key}={_plain(value)}" for key, value in values.items()]
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname}: "
        line = "  ".join([clock, level + record.getMessage().replace("_", " "), *words])
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line, so that no value can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line, without its end."""
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "values", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def send_to_stderr(*, is_json: bool) -> None:
    """Send the agent's events to stderr, and of its libraries only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR)
    logging.getLogger(_LOGGER).setLevel(logging.INFO)


def _plain(value: object) -> str:
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return f'"{text}"' if " " in text else text
