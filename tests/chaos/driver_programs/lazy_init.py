"""PID 1 of a container without an init: starts a command and never reaps anybody."""

from __future__ import annotations

import subprocess
import sys
import threading

if __name__ == "__main__":
    child = subprocess.Popen(sys.argv[1:])
    threading.Event().wait()
