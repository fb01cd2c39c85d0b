"""Start the daemon without executing the package's public face.

Run as a script (``python -P bootstrap.py CONFIG PLACE``). Importing ``core.node.main`` the ordinary way would execute
``core/__init__`` first, and with it the whole API that the daemon has no use for. Here the package is entered into
``sys.modules`` unexecuted; the zygote executes it later, since user code in workers imports it.

``PLACE`` is where the driver has its other packages from, in case that only the driver's own program knows.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Enter the package ``core`` unexecuted, then run the daemon."""
    location = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "core", location / "__init__.py", submodule_search_locations=[str(location)]
    )
    assert spec is not None
    sys.modules["core"] = importlib.util.module_from_spec(spec)
    if sys.argv[2] not in sys.path:
        sys.path.append(sys.argv[2])
    # The real entry must see the prepared package.
    from core.node.main import main as run_node  # noqa: PLC0415 - see above

    run_node(sys.argv[1])


if __name__ == "__main__":
    main()
