"""Puts more than store and disk hold, on a small disk of its own, and checks that nothing already put is lost.

The argument is the directory to mount the disk at; run it in a mount namespace of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import core

MIB = 1 << 20


def main(directory: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0700", "tmpfs", directory], check=True)
    os.environ["SKATE_SPILL_DIR"] = directory
    context = core.init(num_cpus=1, object_store_memory=64 * MIB)
    kept = []
    errors = []
    for number in range(60):
        try:
            kept.append(core.put(np.full(4 * MIB, number, np.uint8)))
        except (core.exceptions.OutOfDiskError, core.exceptions.ObjectStoreFullError) as error:
            errors.append(type(error).__name__)
            print("error:", str(error).splitlines()[0])
            if len(errors) == 3:
                break
    assert len(errors) == 3, "store and disk were never full"
    print("kept", len(kept))
    for number, ref in enumerate(kept):
        array = core.get(ref, timeout=60)
        assert array[0] == array[-1] == number, "what was put stays readable"
        del array
    del ref
    # Room that is given back can be used again.
    del kept[:10]
    again = [core.put(np.full(4 * MIB, 200 + number, np.uint8)) for number in range(5)]
    assert [int(core.get(ref, timeout=60)[7]) for ref in again] == [200, 201, 202, 203, 204]
    log = Path(context["session_dir"], "node.log").read_text()
    print("log lines:", sum("disk" in line for line in log.splitlines()))
    core.shutdown()
    print("left on the disk:", os.listdir(directory))


if __name__ == "__main__":
    main(sys.argv[1])
