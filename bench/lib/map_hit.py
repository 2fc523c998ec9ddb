"""map-hit: what a load costs that finds its bytes there.

Dependent random 8-byte loads over a file that is wholly in memory: each load's place follows from what the one before
has read, so the loads can't overlap. Each system brings the file in its own way, in a process of its own, and then walks
the same walk, which must end in the same place. ns are of the walking thread's CPU, medians of the samples of a
round; rows are medians over rounds, ratios medians of each round's ratio. `quire_over_…` is how many times as fast Quire is.

Peers: mmap of the same file under MADV_RANDOM, each page by a fault of its own (what a program has whose misses are
random); mmap populated without advice, and under MADV_HUGEPAGE, where this file system's folios get as large as huge pages
(the kernel's best; it needs the whole file populated in advance); anonymous huge pages, the machine's limit; and pread.
"""
import json

import machine
import map_miss
from report import median, row

FLOORS = {
    "quire_over_mmap_random": (">=", 1.25),
    "quire_over_mmap_huge": (">=", 0.97),
}
SYSTEMS = {
    "quire-2m": "quire, 2 MiB pages",
    "mmap-random": "mmap, MADV_RANDOM",
    "mmap-huge": "mmap, MADV_HUGEPAGE",
    "quire-4k": "quire, 4 KiB pages",
    "mmap": "mmap, populated",
    "anon-huge": "anonymous huge pages",
    "pread": "pread",
}
FULL_ONLY = ("anon-huge",)  # takes long to fill where the machine's own memory is a host's


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-map-hit"])
    size = map_miss.QUICK_BYTES if quick else map_miss.FILE_BYTES
    path = map_miss.prepare(size)
    rounds, steps, samples = (1, 1000000, 5) if quick else (3, 4000000, 5)
    found = {name: [] for name in SYSTEMS if not quick or name not in FULL_ONLY}
    for number in range(rounds):
        for name in found:
            machine.say(f"round {number + 1} of {rounds}: {name}")
            found[name].append(one(build, name, path, size, steps, samples))
    machine.say_done()
    return summarise(found, size)


def one(build, name, path, size, steps, samples):
    sample = json.loads(machine.command([build / "bench" / "bench-map-hit", name, path, size, steps, samples]))
    sample["median"] = median(sample["ns"])
    if "want_ns" in sample:
        sample["want"] = median(sample["want_ns"])
    return sample


def summarise(found, size):
    ends = {sample["end"] for samples in found.values() for sample in samples}
    if len(ends) != 1:
        raise machine.Failed(f"not all have read the same bytes: {sorted(ends)}")
    rows = []
    for name in found:
        words = SYSTEMS[name]
        rows.append(row(words, "load", median([s["median"] for s in found[name]]), "ns"))
        if name.startswith("quire"):
            rows.append(row(words, "want, then the load", median([s["want"] for s in found[name]]), "ns"))
        if name != "pread":
            share = median([s["huge_bytes"] for s in found[name]]) / size
            rows.append(row(words, "on huge pages", 100 * share, "%"))
        rows.append(row(words, "brought in within", median([s["fill_seconds"] for s in found[name]]), "s"))

    def times(quire, peer, key="median"):
        return median([p["median"] / q[key] for q, p in zip(found[quire], found[peer])])

    ratios = {
        "quire_over_mmap_random": times("quire-2m", "mmap-random"),
        "quire_over_mmap_huge": times("quire-2m", "mmap-huge"),
        "quire_over_mmap": times("quire-2m", "mmap"),
        "quire_over_pread": times("quire-2m", "pread"),
        "quire_want_over_mmap_random": times("quire-2m", "mmap-random", "want"),
        "quire_4k_over_mmap_random": times("quire-4k", "mmap-random"),
        "quire_4k_want_over_mmap_random": times("quire-4k", "mmap-random", "want"),
    }
    if "anon-huge" in found:
        ratios["quire_over_anon_huge"] = times("quire-2m", "anon-huge")
    return rows, ratios
