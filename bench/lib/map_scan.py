"""The part of map-miss about reading in order, and about time.

Reading through: the start of the file, half of the memory, is made a hot set by three uses; then the rest is
read through once, in order, by one thread. Bytes a second, and how much of the hot set is left.

  device               O_DIRECT into huge pages, 1 MiB at a time, the best of 4 and 16 in flight
  read                 a loop of read(2), 1 MiB at a time, POSIX_FADV_SEQUENTIAL
  mmap                 the kernel's readahead as it comes
  mmap-sequential      under MADV_SEQUENTIAL
  quire-load           raw loads of a map as it comes, readahead by detection
  quire-want           wants of 1 MiB, each waited for
  quire-sequential     raw loads of a map under QUIRE_STREAM_SEQUENTIAL
  quire-sequential-2m  the same with pages of 2 MiB

Beside a scan: random pages as in the contest, alone, then with a thread beside them that scans the whole
file again and again by raw loads at up to 2 GiB/s; for the kernel, of its own mmap under MADV_SEQUENTIAL.

Time: random pages for 120 s without a pause, the first 10 s against the last; fio and mmap64 before and after, as
the disk drifts. With --quick it is 4 s, the first against the last, and the peers before it only.
"""
import json

import machine
from report import median, row

FLOORS = {
    "scan_quire_over_device": (">=", 0.9),
    "hot_kept_beside_scan": (">=", 0.95),
    "random_beside_scan_over_alone": (">=", 0.6),
    "last_10s_over_first_10s": (">=", 0.97),
    "long_quire_over_fio": (">=", 0.95),
    "long_quire_over_mmap64": (">=", 1.05),
}

HUGE = 2 << 20
DEVICE_DEPTHS = (4, 16)
THROUGH = [
    ("read", ["kernel-read"]),
    ("mmap", ["kernel-map"]),
    ("mmap-sequential", ["kernel-sequential"]),
    ("quire-load", ["load"]),
    ("quire-want", ["want"]),
    ("quire-sequential", ["--advised", "load"]),
    ("quire-sequential-2m", ["--advised", "--page-bytes", HUGE, "load"]),
]
BESIDE = [("quire", "beside"), ("mmap64", "kernel-beside")]


def run(build, path, size, quick, peers):
    """peers: functions of seconds that run fio and mmap64 for that long and return accesses a second."""
    machine.command(["ninja", "-C", build, "bench/bench-map-scan"])
    rounds = 1 if quick else 3
    through, beside = [], []
    for _ in range(rounds):
        through.append(read_through(build, path, size, DEVICE_DEPTHS[:1] if quick else DEVICE_DEPTHS))
        beside.append({name: scan(build, path, size, ["--seconds", 0.7 if quick else 8, what])
                       for name, what in BESIDE})
    long = long_run(build, path, size, *((4, 0.6, 1) if quick else (120, 30, 2)), peers)
    machine.say_done()
    return summarise(through, beside, long)


def scan(build, path, size, words):
    """One run of bench-map-scan under the memory limit, from a cold page cache."""
    machine.say(f"in order: {' '.join(str(word) for word in words)}")
    machine.drop_cache(path)
    out, _ = machine.capped(build, size // 4, [build / "bench" / "bench-map-scan", "--file", path, "--bytes", size,
                                               "--memory", size // 4, *words])
    machine.drop_cache(path)
    sample = json.loads(out)
    if sample.get("wrong"):
        raise machine.Failed(f"{words[-1]}: {sample['wrong']} wrong pages")
    return sample


def read_through(build, path, size, device_depths):
    samples = {name: scan(build, path, size, words) for name, words in THROUGH}
    tries = [scan(build, path, size, ["--depth", depth, "device"]) for depth in device_depths]
    samples["device"] = min(tries, key=lambda sample: sample["seconds"])
    for sample in samples.values():
        sample["rate"] = sample["bytes"] / sample["seconds"]
    return samples


def long_run(build, path, size, seconds, peer_seconds, n_turns, peers):
    """n_turns of the peers: 1, before; 2, after as well."""
    turns = {name: [peer(peer_seconds)] for name, peer in peers.items()}
    sample = scan(build, path, size, ["--seconds", seconds, "last"])
    for name, peer in peers.items():
        turns[name] += [peer(peer_seconds) for _ in range(n_turns - 1)]
    return {**sample, "turns": turns}


def summarise(through, beside, long):
    def rate(name):
        return median([samples[name]["rate"] for samples in through])

    def over(ours, theirs):
        return median([samples[ours]["rate"] / samples[theirs]["rate"] for samples in through])

    def kept(name):
        return median([samples[name]["hot_kept"] for samples in through])

    rows = []
    for name in ["device"] + [name for name, _ in THROUGH]:
        rows.append(row(name, "read through once", rate(name) / (1 << 20), "MiB/s"))
        if name != "device":
            rows.append(row(name, "hot set kept", kept(name), ""))
    for name, _ in BESIDE:
        for part, what in [("alone", "random, alone"), ("beside", "random, beside a scan")]:
            rows.append(row(name, what, median([b[name][part] / b[name]["seconds"] for b in beside]), "pages/s"))
        rows.append(row(name, "the scan beside them",
                        median([b[name]["scanned"] / b[name]["seconds"] for b in beside]) / (1 << 20), "MiB/s"))
    rows.append(row("quire", f"accesses, {long['seconds']} s", long["all"] / long["seconds"], "pages/s"))
    for part in ("first", "last"):
        rows.append(row("quire", f"the {part} {long['edge']} s of them", long[part] / long["edge"], "pages/s"))
    for name, turns in long["turns"].items():
        rows += [row(name, f"{when} that", rate, "pages/s") for when, rate in zip(("before", "after"), turns)]
    ratios = {
        "scan_quire_over_device": over("quire-sequential-2m", "device"),
        "scan_load_over_device": over("quire-load", "device"),
        "scan_want_over_device": over("quire-want", "device"),
        "scan_load_over_read": over("quire-load", "read"),
        "scan_load_over_mmap": over("quire-load", "mmap"),
        "scan_load_over_mmap_sequential": over("quire-load", "mmap-sequential"),
        "scan_quire_over_mmap_sequential": over("quire-sequential-2m", "mmap-sequential"),
        "hot_kept_beside_scan": min(kept(name) for name, _ in THROUGH if name.startswith("quire")),
        "random_beside_scan_over_alone": median([b["quire"]["beside"] / b["quire"]["alone"] for b in beside]),
        "random_beside_scan_over_mmap64": median([b["quire"]["beside"] / b["quire"]["seconds"] /
                                                  (b["mmap64"]["beside"] / b["mmap64"]["seconds"]) for b in beside]),
        "last_10s_over_first_10s": long["last"] / long["first"],
        "long_quire_over_fio": long["misses"] / long["seconds"] / median(long["turns"]["fio"]),
        "long_quire_over_mmap64": long["all"] / long["seconds"] / median(long["turns"]["mmap64"]),
    }
    return rows, ratios
