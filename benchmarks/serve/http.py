"""Bare uvicorn, direct ingress and the relay, measured by wrk in turns: ``python -m benchmarks.serve.http [ROUNDS]``.

Prints, for 32 connections and for one, medians over the rounds: requests per second, the servers' CPU time per request,
latency; then the ratios to bare uvicorn. CPU time is what stands on a machine that others use.
"""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx
import psutil

SECONDS = 2
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Measured:
    per_second: float
    cpu_ms: float
    median_ms: float


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def measure(port: int, process: subprocess.Popen[bytes], connections: int) -> Measured:
    before = cpu_seconds(process)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", f"http://127.0.0.1:{port}/"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = cpu_seconds(process) - before
    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    assert count and rate and median and "Non-2xx" not in text, text
    return Measured(float(rate[1]), 1e3 * cpu / int(count[1]), float(median[1]) * UNITS[median[2]])


def await_answer(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nobody answers on port {port}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ports = {name: free_port() for name in ("bare", "direct", "relayed")}
    uvicorn = ["uvicorn", "benchmarks.serve.apps:bare", "--log-level", "warning", "--no-access-log"]
    commands = {
        "bare": [*uvicorn, "--port", str(ports["bare"])],
        "direct": ["benchmarks.serve.apps", str(ports["direct"]), "0"],
        "relayed": ["benchmarks.serve.apps", str(ports["relayed"]), "1"],
    }
    processes = {name: subprocess.Popen([sys.executable, "-m", *command]) for name, command in commands.items()}
    results: dict[tuple[str, int], list[Measured]] = {}
    try:
        for port in ports.values():
            await_answer(port)
        for _ in range(rounds):
            for name, process in processes.items():
                for connections in (32, 1):
                    results.setdefault((name, connections), []).append(measure(ports[name], process, connections))
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(30)
    for connections in (32, 1):
        base = _medians(results["bare", connections])
        for name in ports:
            found = _medians(results[name, connections])
            print(
                f"{name:8} c={connections:<3} {found.per_second:8.0f}/s {found.cpu_ms:6.3f} ms CPU "
                f"{found.median_ms:7.3f} ms median | requests/s x{found.per_second / base.per_second:.2f}, "
                f"CPU x{found.cpu_ms / base.cpu_ms:.2f}, latency x{found.median_ms / base.median_ms:.2f}"
            )


def _medians(measured: list[Measured]) -> Measured:
    return Measured(
        statistics.median(one.per_second for one in measured),
        statistics.median(one.cpu_ms for one in measured),
        statistics.median(one.median_ms for one in measured),
    )


if __name__ == "__main__":
    main()
