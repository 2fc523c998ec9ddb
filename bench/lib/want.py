"""want: what it costs to ask for pages.

Of pages that are there, ns a call: the residency word of a map, `want` with an op, and
quire_mlock_eventfd on a plain mapping (its signal included), beside mincore. The least of seven rounds.

Of pages that are not, µs a page: random single pages of a plain mmap without any advice, 128 at a
time from one thread, by quire_mlock_eventfd and by quire_populate with an op, beside raw
IORING_OP_READ of the same file through the page cache with io-wq's workers raised. All three one after
the other in each round; rows are medians, ratios medians of each round's ratio. CPU is the whole
process's, kernel workers included.
"""
import json

import machine
import map_miss
from report import median, row

FLOORS = {
    "resident_ns": ("<=", 2),
    "want_resident_ns": ("<=", 50),
    "mlock_eventfd_resident_us": ("<=", 1),
    "mlock_eventfd_over_raw_read": ("<=", 1.3),
}
KINDS = ("read", "eventfd", "op")


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-want"])
    program = build / "bench" / "bench-want"
    path = map_miss.prepare(map_miss.QUICK_BYTES if quick else map_miss.FILE_BYTES)
    rounds, pages = (5, 25000) if quick else (9, 60000)
    samples = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            machine.say(f"round {number + 1} of {rounds}: cold, {kind}")
            samples[kind].append(json.loads(machine.command([program, "cold", kind, path, pages])))
    machine.say("resident")
    hot = [json.loads(machine.command([program, "resident", path])) for _ in range(3)]
    machine.say_done()
    return summarise(samples, {key: min(h[key] for h in hot) for key in hot[0]})


def summarise(samples, hot):
    names = {"read": "raw IORING_OP_READ", "eventfd": "quire_mlock_eventfd", "op": "quire_populate"}
    rows = [
        row("quire", "resident_ns", hot["resident_ns"], "ns, a load and a test"),
        row("quire", "want_resident_ns", hot["want_resident_ns"], "ns"),
        row("mincore", "resident", hot["mincore_ns"], "ns"),
        row("mincore, then a write to an eventfd", "resident", hot["mincore_and_eventfd_ns"], "ns"),
        row("quire_mlock_eventfd", "resident", hot["mlock_eventfd_resident_ns"], "ns"),
    ]
    for kind in KINDS:
        rows += [row(names[kind], "cold page", median([s["us"] for s in samples[kind]]), "µs, 128 at a time"),
                 row(names[kind], "cold page, CPU", median([s["cpu_us"] for s in samples[kind]]), "µs")]

    def over_read(kind):
        return median([s["us"] / raw["us"] for s, raw in zip(samples[kind], samples["read"])])

    ratios = {
        "resident_ns": hot["resident_ns"],
        "want_resident_ns": hot["want_resident_ns"],
        "resident_over_mincore": hot["resident_ns"] / hot["mincore_ns"],
        "mlock_eventfd_resident_us": hot["mlock_eventfd_resident_ns"] / 1e3,
        "mlock_eventfd_over_raw_read": over_read("eventfd"),
        "populate_op_over_raw_read": over_read("op"),
    }
    return rows, ratios
