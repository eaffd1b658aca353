"""Logs: one JSON object a line on standard error, the same fields from every process."""

from __future__ import annotations

import json
import logging
import time


class JsonFormatter(logging.Formatter):
    """Time (UTC), level, logger and message, then whatever the call gave as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; control characters come out escaped, so that no caller can forge a line."""
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True, default=str)


def configure(level: str) -> None:
    """Send every record of this process at or above ``level`` to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for talkative in ("httpx", "onnx_ir", "onnxscript", "uvicorn.error"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
