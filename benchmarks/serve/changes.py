"""Changes under load, with ONE replica: ``python -m benchmarks.serve.changes [--seconds 60] [--relayed]``.

Eight clients ask without a pause while versions are rolled out, put beside each other as a canary, promoted and rolled
back, again and again. Prints what was done, how many requests were answered, and every failure; there must be none.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks.serve.processes import ROOT

CLIENTS = 8


class Clients:
    """Threads that GET ``/`` over kept-alive connections, as a process of their own would.

    A connection that the server announced to close is opened anew; anything but 200 is a failure.
    """

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        self._lock = threading.Lock()
        self.answers: collections.Counter[str] = collections.Counter()
        self.versions: collections.Counter[str] = collections.Counter()
        self.longest_s = 0.0

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._ended.is_set():
            began = time.perf_counter()
            text = ""
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                text, outcome = response.read().decode(), str(response.status)
            except (http.client.HTTPException, OSError) as error:
                outcome = type(error).__name__
                connection.close()
            with self._lock:
                self.answers[outcome] += 1
                self.versions[text] += outcome == "200"
                self.longest_s = max(self.longest_s, time.perf_counter() - began)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()


def load(port: int) -> None:
    """Ask until standard input ends, then print the outcome: the load's process."""
    clients = Clients(port, CLIENTS)
    clients.start()
    sys.stdin.read()
    clients.end()
    print(json.dumps([clients.answers, len(clients.versions), clients.longest_s]))


def change(seconds: float, proxies: int | None) -> bool:
    """Change versions for so many seconds, under load; return whether no request failed."""
    import core  # the load's process needs neither
    import serve

    def version(number: int) -> Any:
        @serve.deployment(name="app")
        class App:
            async def __call__(self) -> str:
                return f"version {number}"

        return App.bind()

    core.init()
    serve.start(http_options={"port": 0, "num_proxies": proxies})
    number = 1
    serve.run(version(number))
    command = [sys.executable, "-m", "benchmarks.serve.changes", "--load", str(serve.get_http_port())]
    clients = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    done: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        number += 1
        serve.run(version(number))
        done["rolling update"] += 1
        number += 1
        serve.run(version(number), canary=0.5)
        done["canary"] += 1
        time.sleep(0.5)
        serve.promote("default")
        done["promotion"] += 1
        serve.rollback("default")
        done["rollback"] += 1
    output, _ = clients.communicate("")
    answers, versions, longest_s = json.loads(output)
    serve.shutdown()
    core.shutdown()
    print(", ".join(f"{count} x {name}" for name, count in done.items()))
    print(f"answers {answers}, of {versions} versions; the longest took {longest_s * 1e3:.0f} ms")
    return set(answers) == {"200"}


def main() -> int:
    """Run; return 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve.changes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument(
        "--relayed", action="store_true", help="with a proxy from the start, not from the first canary on"
    )
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(options.load)
        return 0
    return int(not change(options.seconds, 1 if options.relayed else None))


if __name__ == "__main__":
    sys.exit(main())
