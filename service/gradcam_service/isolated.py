"""The command ``gradcam`` as its installer starts it: nothing is imported here but the standard library."""

from __future__ import annotations

import os
import sys

FLAGS = ("-E", "-P")
"""Of an interpreter that heeds neither ``PYTHON*`` variables nor what lies in its caller's folder, as with ``-I``.

But for the user's own site-packages, where this package itself may be installed. multiprocessing hands flags on.
"""


def main() -> None:
    """Become the command itself, so that a ``torch.py`` on the caller's ``PYTHONPATH`` is nobody's torch."""
    os.execv(sys.executable, [sys.executable, *FLAGS, "-m", "gradcam_service", *sys.argv[1:]])
