"""probation: what copies of pages that leave are worth to raw loads, and what they cost.

A raw load of a page that is there tells the cache nothing. The same accesses by one thread, to single pages of 4 KiB of a file four
times as large as the budget, are made three times one after the other in each round:

  want     asked for before each load: the cache is told of every use
  raw      loads alone, with copies (the default)
  without  loads alone, `no_probation`

in three patterns: zipfian (exponent 0.99), a hot set that moves with a scan between its loads, and a scan alone, in which no
copy can be of use. Misses are pages read an access; what came back from its copy is none. Rows are medians over
rounds, ratios medians of each round's ratio; every page is checked. Copies take at most a sixteenth of the budget, so where
they find nothing that much less memory is what they cost.
"""
import json

import machine
import map_miss
from report import median, ratio, row

FLOORS = {}
PATTERNS = ("zipf", "hot", "scan")
KINDS = {"want": ("want", "off"), "raw": ("raw", "on"), "without": ("raw", "off")}
NAMES = {"want": "quire, want before each load", "raw": "quire, raw loads", "without": "quire, raw, no_probation"}


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-probation"])
    program = build / "bench" / "bench-probation"
    size, accesses, rounds = (64 << 20, 30000, 1) if quick else (256 << 20, 300000, 5)
    path = map_miss.prepare(map_miss.QUICK_BYTES)
    samples = {}
    for service in ("signal",) if quick else ("signal", "service"):
        for number in range(rounds):
            for pattern in PATTERNS:
                for kind, (how, copies) in KINDS.items():
                    machine.say(f"{service}, round {number + 1} of {rounds}: {pattern}, {kind}")
                    words = [program, pattern, how, service, copies, path, size, size // 4, accesses]
                    sample = json.loads(machine.command(words))
                    if sample["wrong"]:
                        raise machine.Failed(f"{pattern}, {kind}: {sample['wrong']} wrong pages")
                    samples.setdefault((service, pattern, kind), []).append(sample)
    machine.say_done()
    return summarise(samples)


def summarise(samples):
    rows, ratios = [], {}
    for (service, pattern, kind), found in samples.items():
        def middle(key):
            return median([s[key] for s in found])
        metric = f"{pattern}, {service}"
        rows += [row(NAMES[kind], metric, middle("misses"), "misses an access"),
                 row(NAMES[kind], metric, middle("accesses_per_s"), "accesses/s"),
                 row(NAMES[kind], metric, middle("cpu_us"), "µs of CPU an access")]
        if kind == "raw":
            rows += [row(NAMES[kind], metric, middle("came_back"), "back from copies an access"),
                     row(NAMES[kind], metric, middle("copies_bytes"), "bytes of copies")]

    def over(service, pattern, kind, peer, key):
        pairs = zip(samples[service, pattern, kind], samples[service, pattern, peer])
        return median([ratio(a[key], b[key]) for a, b in pairs if b[key]])

    for service, pattern, kind in samples:
        if kind != "raw":
            continue
        suffix = pattern if service == "signal" else f"{pattern}_{service}"
        ratios[f"misses_raw_over_without_{suffix}"] = over(service, pattern, "raw", "without", "misses")
        ratios[f"misses_raw_over_want_{suffix}"] = over(service, pattern, "raw", "want", "misses")
        ratios[f"misses_without_over_want_{suffix}"] = over(service, pattern, "without", "want", "misses")
        ratios[f"rate_raw_over_without_{suffix}"] = over(service, pattern, "raw", "without", "accesses_per_s")
        ratios[f"cpu_raw_over_without_{suffix}"] = over(service, pattern, "raw", "without", "cpu_us")
    return rows, ratios
