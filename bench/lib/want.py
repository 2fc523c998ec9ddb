"""want: what it costs to ask for pages.

Of pages that are there, ns a call: the residency word of a map, `want` with an op, and
quire_mlock_eventfd on a plain mapping (its signal included), beside mincore. The least of seven rounds.

Of pages that are not, µs a page: random single pages of a plain mmap without any advice, 128 at a
time from one thread, by quire_mlock_eventfd and by quire_populate with an op, beside raw
IORING_OP_READ of the same file through the page cache with io-wq's workers raised. All three one after
the other in each round; rows are medians, ratios medians of each round's ratio. CPU is the whole
process's, kernel workers included.

What a loop does meanwhile: how late a coroutine is woken that asks for it every millisecond, while random cold pages are
asked for on the same loop, by `want` or by loads of an mmap, under the same memory limit.
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
    "stall_p9999_ms": ("<=", 2),
}
KINDS = ("read", "eventfd", "op")
STALLS = {"quire": "quire, want", "mmap": "mmap, loads", "idle": "nobody asks"}


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-want", "bench/bench-stall"])
    program = build / "bench" / "bench-want"
    size = map_miss.QUICK_BYTES if quick else map_miss.FILE_BYTES
    path = map_miss.prepare(size)
    rounds, pages = (5, 25000) if quick else (9, 60000)
    samples = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            machine.say(f"round {number + 1} of {rounds}: cold, {kind}")
            samples[kind].append(json.loads(machine.command([program, "cold", kind, path, pages])))
    machine.say("resident")
    hot = [json.loads(machine.command([program, "resident", path])) for _ in range(3)]
    stalls = {kind: stall(build, kind, path, size, 5 if quick else 60) for kind in STALLS}
    machine.say_done()
    return summarise(samples, {key: min(h[key] for h in hot) for key in hot[0]}, stalls)


def stall(build, kind, path, size, seconds):
    machine.say(f"a loop while pages are cold: {kind}")
    machine.drop_cache(path)
    out, _ = machine.capped(build, size // 4, [build / "bench" / "bench-stall", kind, path, size, size // 4, seconds])
    return json.loads(out) | {"seconds": seconds}


def summarise(samples, hot, stalls):
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

    for kind, name in STALLS.items():
        rows += [row(name, f"loop late, {what}", stalls[kind][key] / 1e3, "ms")
                 for what, key in (("p99", "p99_us"), ("p99.99", "p9999_us"), ("longest", "max_us"))]
        rows.append(row(name, "pages meanwhile", stalls[kind]["pages"] / stalls[kind]["seconds"], "1/s"))

    def over_read(kind):
        return median([s["us"] / raw["us"] for s, raw in zip(samples[kind], samples["read"])])

    ratios = {
        "resident_ns": hot["resident_ns"],
        "want_resident_ns": hot["want_resident_ns"],
        "resident_over_mincore": hot["resident_ns"] / hot["mincore_ns"],
        "mlock_eventfd_resident_us": hot["mlock_eventfd_resident_ns"] / 1e3,
        "mlock_eventfd_over_raw_read": over_read("eventfd"),
        "populate_op_over_raw_read": over_read("op"),
        "stall_p9999_ms": stalls["quire"]["p9999_us"] / 1e3,
        "stall_p9999_over_mmap": stalls["quire"]["p9999_us"] / stalls["mmap"]["p9999_us"],
    }
    return rows, ratios
