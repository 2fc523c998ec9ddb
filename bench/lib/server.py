"""server: the contest of `quire demo` as a benchmark.

Engine and settings of the contenders: `quire demo --json`. The rate that the first repetition
calibrates is kept for all others.
"""
import json

import machine
from report import median, ratio, row

FLOORS = {
    "hot_p999_over_mmap1": ("<=", 0.1),
    "hot_p999_over_mmap64": ("<=", 0.5),
    "hot_p999_over_pread64": ("<=", 0.7),
    "hot_p999_over_warmtouch": ("<=", 1.0),
}
PEERS = ["mmap1", "mmap64", "pread64", "warmtouch"]
METRICS = [
    ("hot_p50_ns", "hot p50", 1e-3, "µs"),
    ("hot_p99_ns", "hot p99", 1e-3, "µs"),
    ("hot_p999_ns", "hot p99.9", 1e-3, "µs"),
    ("cold_p50_ns", "cold p50", 1e-3, "µs"),
    ("answers_per_second", "answers", 1, "1/s"),
    ("cpu_seconds", "cpu", 1, "s"),
    ("peak_bytes", "peak memory", 1 / (1 << 20), "MiB"),
]


def run(build, quick):
    only = ["quire", *PEERS] + ([] if quick else ["quire-suspend", "quire-restricted"])
    repetitions, seconds = (1, 4) if quick else (5, 8)
    samples, rate = {}, None
    for number in range(repetitions):
        machine.say(f"repetition {number + 1} of {repetitions}")
        words = [build / "src" / "cli" / "quire", "demo", "--json", "--seconds", seconds,
                 "--only", ",".join(only)] + (["--rate", int(rate)] if rate else [])
        result = json.loads(machine.command(words))
        rate = result["rate_per_second"]
        for one in result["results"]:
            if one["ran"]:
                samples.setdefault(one["contender"], []).append(one)
            elif one["contender"] in ("quire", *PEERS):
                raise machine.Failed(f"{one['contender']}: {one['why']}")
    machine.say_done()
    return summarise(samples, result)


def summarise(samples, result):
    def of(name, key):
        return median([s[key] for s in samples[name]])

    rows = [row("load", "rate", result["rate_per_second"], "requests/s"),
            row("load", "memory cgroup", result["memory_cgroup"], ""),
            row("load", "memory", result["memory_bytes"] >> 20, "MiB"),
            row("load", "files", result["file_bytes"] >> 20, "MiB")]
    for name in samples:
        rows += [row(name, metric, of(name, key) * factor, unit) for key, metric, factor, unit in METRICS]
        rows.append(row(name, "wrong answers", sum(s["wrong"] + s["errors"] for s in samples[name]), ""))
    ratios = {f"hot_p999_over_{peer}": ratio(of("quire", "hot_p999_ns"), of(peer, "hot_p999_ns"))
              for peer in PEERS}
    return rows, ratios
