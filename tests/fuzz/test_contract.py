"""Requests that schemathesis makes up from ``/openapi.json``: no 5xx, and every answer is as documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from exposed import value
from live import PATIENCE, Service

UNSAID = "positive_data_acceptance,unsupported_method,allow_header_conformance"
"""No schema can say that bytes are a picture, and which options go together. PUT is answered as POST and left out of
the document, where it would say everything twice."""


PHASES = "examples,coverage,fuzzing"
"""The second goes through every bound of every field, which takes longer than all else."""


def test_made_up_requests_are_answered_as_documented(guarded: Service, fuzz: bool, tmp_path: Path):
    st = Path(sys.executable).with_name("st")
    checked = subprocess.run(
        [
            *(st, "--config-file", Path(__file__).with_name("schemathesis.toml")),
            *("run", f"{guarded.url}/openapi.json", "--phases", PHASES if fuzz else "examples,fuzzing"),
            *("--checks", "all", "--exclude-checks", UNSAID),
            *("--max-examples", "500" if fuzz else "15", "--seed", "1", "--generation-database", "none"),
            # However slow this machine is.
            *("--suppress-health-check", "too_slow", "--request-timeout", str(PATIENCE)),
            *("--max-response-time", str(PATIENCE)),  # as a model may be loaded first
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout[-10_000:]
    made_up = re.search(r"(\d+) generated", checked.stdout)
    assert made_up, checked.stdout[-2000:]
    assert int(made_up[1]) >= (5000 if fuzz else 200)
    assert guarded.client.get("/readyz").status_code == 200
    assert value(guarded.client, "gradcam_worker_restarts_total") == 0
