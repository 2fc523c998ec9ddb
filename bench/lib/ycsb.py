"""ycsb: point reads of sorted tables as YCSB makes them, data four times the memory.

Records of YCSB's shape: a 23-byte key ("user" and a hash), ten fields of 100 bytes. Every contender is a process under
the same memory cgroup and reads the same records, each value checked by a sum over all of it. The memory is full before counting begins.

  workload C           reads alone; records by the scrambled zipfian distribution, and in full runs the same by
                       latest and by uniform
  A, B, D, E, F        do not run: they write, and the tables compared here never change. Without their writes they
                       would be C under another name, E (scans) something that is not E

  config 1             immutable tables of 64 MiB as plain files, one kernel mmap each, MADV_RANDOM; a sparse index in
                       memory; 1 and 64 threads
  quire (config 2)     the same bytes as blobs of a store in one map, the same index; blocks are wanted by coroutines,
                       128 to a thread, one thread a core (or one, where one thread is held against one)
  lmdb                 loaded in order; MDB_NORDAHEAD, MDB_NOTLS, values looked at in place
  rocksdb              one level, nothing compressed; O_DIRECT and a block cache, or the kernel's page cache

A first round finds the best number of threads and the best variant of lmdb and rocksdb; these meet quire and config 1 in
the rounds that count. There each is first run closed (who is done takes the next record) for throughput, then open: requests
arrive at 60 % of what config 1 reached with 64 threads, at even distances, and a latency counts from the moment at which its
request was to arrive; what is not answered in twice the time counts with its age. So a stall is seen
by all who would have come during it. Rows are medians over rounds, ratios medians of each round's ratio.
"""
import json
import os
import shutil

import machine
import store
from report import median, row

FLOORS = {
    "quire_over_config1_1thread": (">=", 3),
    "quire_over_config1_64threads": (">=", 1.05),
    "p9999_quire_over_config1": ("<=", 0.5),
    "quire_over_lmdb": (">=", 1),
    "quire_over_rocksdb": (">=", 1),
    "p9999_quire_over_lmdb": ("<=", 1),
    "p9999_quire_over_rocksdb": ("<=", 1),
}

MIB = 1 << 20
RECORDS, MEMORY = 4 << 20, 1024 * MIB  # four records a block of 4 KiB
QUICK_RECORDS, QUICK_MEMORY = 1 << 20, 256 * MIB
PROGRAMS = {  # and the package that each needs
    "bench-ycsb-mmap": None,
    "bench-ycsb-quire": None,
    "bench-ycsb-lmdb": "liblmdb-dev",
    "bench-ycsb-rocksdb": "librocksdb-dev",
}
RATE_SHARE = 0.6
CORES = len(os.sched_getaffinity(0))

# program, variant, threads
CONFIG1, CONFIG1_ONE = ("mmap", "", 64), ("mmap", "", 1)
QUIRE, QUIRE_ONE = ("quire", "", CORES), ("quire", "", 1)
SWEEP = [("lmdb", "", n) for n in (16, 32, 64)] + \
        [("rocksdb", variant, n) for variant in ("direct", "buffered") for n in (16, 32, 64)]
QUICK_SWEEP = [("lmdb", "", 32), ("lmdb", "", 64), ("rocksdb", "direct", 16), ("rocksdb", "direct", 32)]
LATENCIES = [("p50_ns", "p50"), ("p99_ns", "p99"), ("p999_ns", "p99.9"), ("p9999_ns", "p99.99")]


class Contest:
    """One set of data and one limit; how long a phase takes."""

    def __init__(self, build, quick):
        self.build, self.quick = build, quick
        self.n_records, self.memory = (QUICK_RECORDS, QUICK_MEMORY) if quick else (RECORDS, MEMORY)
        self.directory = machine.data_dir() / "ycsb"
        self.directory.mkdir(exist_ok=True)

    def program(self, contender, path, *words):
        return [self.build / "bench" / f"bench-ycsb-{contender}", "--path", path, "--records", self.n_records, *words]

    def data(self, contender):
        return self.directory / f"{contender}-{self.n_records}"

    def fill(self):
        """What is not there yet. Kept, as all data."""
        for name in PROGRAMS:
            contender = name.rpartition("-")[2]
            path = self.data(contender)
            if path.exists():
                continue
            machine.say(f"writing {contender}'s data")
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            machine.command(self.program(contender, partial, "fill"))
            partial.rename(path)

    def read(self, how, seconds, *words):
        contender, variant, width = how
        path = self.data(contender)
        if not store.drop_all():
            for file in path.rglob("*"):
                if file.is_file():
                    machine.drop_cache(file)
        out, usage = machine.capped(self.build, self.memory, self.program(
            contender, path, "--memory", self.memory, "--width", width, "--variant", variant, "--seconds", seconds,
            *words, "read"))
        sample = json.loads(out)
        if sample["wrong"]:
            raise machine.Failed(f"{contender} {variant}: {sample['wrong']} wrong values")
        sample["per_second"] = sample["reads"] / sample["seconds"]
        sample["cpu_us"] = sample["cpu_seconds"] * 1e6 / max(sample["reads"], 1)
        sample["peak_bytes"] = usage["peak_bytes"]
        return sample


def run(build, quick):
    machine.build_programs(build, PROGRAMS)
    contest = Contest(build, quick)
    contest.fill()
    machine.say("config 1, for the rate")
    rate = RATE_SHARE * contest.read(CONFIG1, 0.6 if quick else 4)["per_second"]
    tried = sweep(contest)
    best = {name: max((how for how in tried if how[0] == name), key=lambda how: tried[how]["per_second"])
            for name in ("lmdb", "rocksdb")}
    rounds = [one_round(contest, best, rate, f"round {n + 1}") for n in range(1 if quick else 5)]
    rows, ratios = summarise(rate, tried, best, rounds)
    for requests in () if quick else ("latest", "uniform"):
        more_rows, more_ratios = other_requests(contest, best, requests)
        rows += more_rows
        ratios |= more_ratios
    machine.say_done()
    return rows, ratios


def sweep(contest):
    tried = {}
    for how in QUICK_SWEEP if contest.quick else SWEEP:
        machine.say(f"trying {describe(how)}")
        tried[how] = contest.read(how, *((0.4, "--fill-seconds", 1) if contest.quick else (1.5,)))
    return tried


def one_round(contest, best, rate, name):
    """Systems' samples, by the names that rows have."""
    seconds = 0.7 if contest.quick else 4
    at_rate = ("--rate", rate, "--rate-seconds", 1.5 if contest.quick else 10)
    plan = [("config 1, 1 thread", CONFIG1_ONE, ()), ("quire, 1 thread", QUIRE_ONE, ()),
            ("config 1", CONFIG1, at_rate), ("quire", QUIRE, at_rate),
            ("lmdb", best["lmdb"], at_rate), ("rocksdb", best["rocksdb"], at_rate)]
    samples = {}
    for system, how, words in plan:
        machine.say(f"{name}: {system}")
        samples[system] = contest.read(how, seconds, *words)
    return samples


def other_requests(contest, best, requests):
    """Throughput alone, one distribution."""
    plan = {"config1_64threads": CONFIG1, "quire": QUIRE, **best}
    rounds = []
    for number in range(3):
        machine.say(f"{requests}, round {number + 1}")
        rounds.append({name: contest.read(how, 4, "--requests", requests) for name, how in plan.items()})
    rows = [row(describe(how), requests, median([r[name]["per_second"] for r in rounds]), "reads/s")
            for name, how in plan.items()]
    return rows, {f"quire_over_{name}_{requests}": over(rounds, "quire", name, "per_second")
                  for name in plan if name != "quire"}


def describe(how):
    contender, variant, width = how
    name = {"mmap": "config 1", "quire": "quire"}.get(contender, contender)
    return ", ".join([name] + ([variant] if variant else []) + [f"{width} thread" + ("s" if width > 1 else "")])


def over(rounds, ours, theirs, key):
    return median([r[ours][key] / r[theirs][key] for r in rounds])


def summarise(rate, tried, best, rounds):
    rows = [row("workload C, zipfian", "offered when open", rate, "reads/s"),
            row("A, B, D, E, F", "not run: no writes in Quire yet", None, "")]
    rows += [row(describe(how), "tried", sample["per_second"], "reads/s") for how, sample in tried.items()]
    names = {"config 1": CONFIG1, "config 1, 1 thread": CONFIG1_ONE, "quire": QUIRE, "quire, 1 thread": QUIRE_ONE, **best}
    for system in rounds[0]:
        rows += rows_of(describe(names[system]), [r[system] for r in rounds])
    ratios = {
        "quire_over_config1_1thread": over(rounds, "quire, 1 thread", "config 1, 1 thread", "per_second"),
        "quire_over_config1_64threads": over(rounds, "quire", "config 1", "per_second"),
        "p9999_quire_over_config1": over(rounds, "quire", "config 1", "p9999_ns"),
    }
    for peer in best:
        ratios[f"quire_over_{peer}"] = over(rounds, "quire", peer, "per_second")
        ratios[f"p9999_quire_over_{peer}"] = over(rounds, "quire", peer, "p9999_ns")
    return rows, ratios


def rows_of(name, samples):
    def of(key):
        return median([s[key] for s in samples])

    rows = [row(name, "reads", of("per_second"), "reads/s"), row(name, "cpu", of("cpu_us"), "µs/read")]
    if of("misses"):
        rows.append(row(name, "misses", median([s["misses"] / s["reads"] for s in samples]), "a read"))
    rows.append(row(name, "peak memory", int(of("peak_bytes")) // MIB, "MiB"))
    if "offered" in samples[0]:
        rows += [row(name, label + ", open", of(key) / 1e3, "µs") for key, label in LATENCIES]
        rows.append(row(name, "answered in time, open", median([s["answered"] / s["offered"] for s in samples]), ""))
    return rows
