"""Everything that Serve promises, measured in one run: ``python -m benchmarks.serve``, from the repository's root."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.serve import processes, startup
from benchmarks.serve.processes import System, free_port, running
from benchmarks.serve.table import Line, at_least, at_most, markdown
from benchmarks.serve.wrk import Load, Measured, measure, medians

NOOP_1, NOOP_32 = Load("nothing, 1 connection", "/", 1), Load("nothing, 32 connections", "/", 32)
STREAM = Load("stream of 100 chunks, 32 connections", "/stream", 32)
MODEL = Load("random forest, 32 connections", "/predict", 32, post=True)

Samples = dict[tuple[str, str], list[Measured]]


def main() -> int:
    """Measure, print, write; return 1 if a goal was missed."""
    options = _parser().parse_args()
    lines: list[Line] = []
    samples: Samples = {}
    lines += _http(options, samples)
    lines += _handles(options)
    lines += _starts(options)
    if options.ray_python:
        lines += _ray(options, samples)
    details = [
        Line(
            f"{system}: {load}",
            f"{found.per_second:,.0f}/s, {found.cpu_ms:.3f} ms, {found.median_ms:.2f} ms",
        )
        for (system, load), found in ((key, medians(measured)) for key, measured in samples.items())
    ]
    page = markdown(lines, _command(options), details)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)
    print(page)
    return int(any(line.reached is False for line in lines))


def _command(options: argparse.Namespace) -> str:
    """Return the command that makes such a report, on whatever machine."""
    ray = " --ray-python ~/ray-env/bin/python" if options.ray_python else ""
    return f"python -m benchmarks.serve --rounds {options.rounds} --seconds {options.seconds:g}{ray}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--ray-python", help="interpreter of an environment that has ray[serve]; else Ray is left out")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=4, help="of all systems in turns")
    parser.add_argument("--out", type=Path, default=processes.ROOT / "out" / "serve-benchmarks.md", help="the report")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _http(options: argparse.Namespace, samples: Samples) -> list[Line]:
    ports = {name: free_port() for name in ("bare", "direct", "relayed")}
    with contextlib.ExitStack() as stack:
        commands = {
            "bare": processes.bare(ports["bare"]),
            "direct": processes.served(ports["direct"], 0),
            "relayed": processes.served(ports["relayed"], 1),
        }
        systems = [stack.enter_context(running(name, commands[name], ports[name])) for name in commands]
        _in_turns(systems, [NOOP_32, NOOP_1, STREAM, MODEL], options, samples)
    found = {key: medians(measured) for key, measured in samples.items()}
    bare_32, bare_1 = found["bare", NOOP_32.name], found["bare", NOOP_1.name]
    lines = []
    for name, share in (("relayed", 0.5), ("direct", 0.9)):
        loaded, single = found[name, NOOP_32.name], found[name, NOOP_1.name]
        lines += [
            at_least(f"{name}: requests/s at 32 connections, of bare", loaded.per_second / bare_32.per_second, share),
            at_most(f"{name}: CPU per request at 32 connections, of bare", loaded.cpu_ms / bare_32.cpu_ms, 2.0),
            at_most(f"{name}: CPU per request at 1 connection, of bare", single.cpu_ms / bare_1.cpu_ms, 2.0),
            at_most(f"{name}: median latency at 1 connection, of bare", single.median_ms / bare_1.median_ms, 2.0),
        ]
    stream, model = found["bare", STREAM.name].per_second, found["bare", MODEL.name].per_second
    for name in ("relayed", "direct"):
        lines += [
            at_least(f"{name}: chunks/s of a stream, of bare", found[name, STREAM.name].per_second / stream, 0.5),
            at_least(f"{name}: forest in batches, of bare one by one", found[name, MODEL.name].per_second / model, 2.0),
        ]
    return lines


def _in_turns(systems: list[System], loads: list[Load], options: argparse.Namespace, samples: Samples) -> None:
    for system in systems:
        system.await_answer()
        for load in loads:
            measure(system, load, 1)  # warm-up
    for number in range(options.rounds):
        for load in loads:
            for system in systems[number % len(systems) :] + systems[: number % len(systems)]:
                _say(f"round {number + 1}: {system.name}, {load.name}")
                samples.setdefault((system.name, load.name), []).append(measure(system, load, options.seconds))


def _handles(options: argparse.Namespace) -> list[Line]:
    _say("calls through handles")
    command = [sys.executable, "-m", "benchmarks.serve.handles", str(options.seconds)]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        at_least("handle calls one after the other", found["sync"], 2010, "/s"),
        at_least("handle calls, 100 at a time", found["async"], 3640, "/s"),
        at_least("two deployments in a chain, 100 at a time", found["chain"], 1300, "/s"),
    ]


def _starts(options: argparse.Namespace) -> list[Line]:
    _say("starts")
    startup.first_answer()
    warm = statistics.median(startup.first_answer() for _ in range(options.rounds))
    cold = statistics.median(startup.first_answer(cold=True) for _ in range(options.rounds))
    found = startup.standing()
    return [
        at_most("`serve run` to the first answer, warm", warm, 1.0, " s"),
        at_most("`serve run` to the first answer, files not in memory", cold, 1.5, " s"),
        at_most("processes for one replica", found.processes, 4),
        at_most("memory for one replica (PSS)", found.pss_mb, 200, " MB"),
        Line("CPU at rest, of one core", f"{found.idle_cpu:.3f}"),
    ]


def _ray(options: argparse.Namespace, samples: Samples) -> list[Line]:
    modes: dict[str, tuple[int, dict[str, str]]] = {
        "Ray Serve": (0, {}),
        "Ray Serve, 100 ongoing": (100, {}),
        "Ray Serve, HAProxy": (100, {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
    }
    lines = []
    for name, (limit, environment) in modes.items():
        try:
            theirs, ours = _beside_ray(options, name, limit, environment)
        except (TimeoutError, RuntimeError) as error:
            lines.append(Line(f"relayed, of {name}", f"not measured: {str(error).splitlines()[0]}"))
            continue
        samples[name, NOOP_32.name] = theirs
        ratio = medians(ours).per_second / medians(theirs).per_second
        lines.append(
            at_least(f"relayed: requests/s at 32 connections, of {name}", ratio, 1 if "HAProxy" in name else 10)
        )
    return lines


def _beside_ray(
    options: argparse.Namespace, name: str, limit: int, environment: dict[str, str]
) -> tuple[list[Measured], list[Measured]]:
    """Measure one mode of Ray Serve and our relay in turns; Ray's many processes would disturb the other rows."""
    _say(name)
    port, our_port = free_port(), free_port()
    samples: Samples = {}
    with (
        running("relayed", processes.served(our_port, 1), our_port) as ours,
        running(name, processes.ray(options.ray_python, port, limit), port, environment) as theirs,
    ):
        theirs.await_answer(90)
        _in_turns([ours, theirs], [NOOP_32], argparse.Namespace(rounds=3, seconds=options.seconds), samples)
    return samples[name, NOOP_32.name], samples["relayed", NOOP_32.name]


if __name__ == "__main__":
    sys.exit(main())
