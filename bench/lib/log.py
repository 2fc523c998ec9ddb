"""log: a durable log's appends, reads and recovery, each in turns with what it is held against.

Records of 512 bytes, but where said. "disk" is a class of a store on the file system of the data directory, read and written past
the page cache; "pmem" is a class of a store in tmpfs, mapped, durable=process: libpmem2 is told to take it for persistent memory
(PMEM2_FORCE_GRANULARITY=CACHE_LINE), so Quire and its peers do what they do there, copies past the caches and fences, at the
speed of RAM. Ratios are medians of each round's ratio, in which the two are neighbours, as the disk's speed drifts.

  latency   one writer, each record durable before the next: from a coroutine, whose loop's ring writes, and from a plain
            thread; over O_DIRECT + RWF_DSYNC writes of 4 KiB onto written blocks. p50_over_raw_dsync is the better one's
  group     64 writers, a new record as soon as the last one is durable: coroutines of one loop, or threads. Peers have 64
            threads: RocksDB's write-ahead log, SQLite's with one thread that commits what the others hand it; and one writer
            with write and fdatasync for each record. What a program does that has all 64 records in one place, for
            all three: batches. Of each peer's configurations a first round finds the best (not with --quick). Their calls of
            fdatasync are counted, in the same process: none may acknowledge more records than that allows
  pmem      each record durable, over libpmem2's copy and fence of the same bytes; against pmemlog_append
  nowait    records of 64 bytes that nobody waits for, one thread, and one sync at the end; its time counts
  read      sealed segments by a cursor, from the cache, each record copied away; over memcpy of the same records,
            as far apart, from plain memory in pages as small as the cache's. Pages were verified when they were filled: the
            first pass, `cold`. Of the class pmem, too, where they may be read where they lie
  follow    from an append's completion until a cursor in another thread has the record
  recovery  quire_log_open of a log of one segment, not sealed: in RAM (pmem, as above), and from the disk, over fio's O_DIRECT
            reads, in order, of as many bytes
  open      a log of 10 GiB (1 GiB with --quick), 64 MiB of it not sealed, on the disk, opened before
"""
import json
import shutil
from pathlib import Path

import machine
from report import median, row

FLOORS = {
    "p50_over_raw_dsync": ("<=", 1.15),
    "group64_over_fdatasync1": (">=", 10),
    "quire_over_rocksdb_wal": (">=", 1),
    "quire_over_sqlite": (">=", 1),
    "pmem_over_raw": ("<=", 2.5),
    "quire_over_libpmemlog": (">=", 1),
    "records_per_s_64B": (">=", 5e6),
    "sealed_read_over_memcpy": (">=", 0.8),
    "follow_us": ("<=", 50),
    "recovery_bytes_per_s": (">=", 4e9),
    "recovery_over_device": (">=", 0.9),
    "open_10g_ms": ("<=", 100),
}

MIB = 1 << 20
RECORD_BYTES = 512
SHM = Path("/dev/shm")
LIKE_PMEM = ["env", "PMEM2_FORCE_GRANULARITY=CACHE_LINE", "PMEM_IS_PMEM_FORCE=1"]
PROGRAMS = {  # and the package that each needs
    "bench-log": None,
    "bench-log-rocksdb": "librocksdb-dev",
    "bench-log-sqlite": "libsqlite3-dev",
    "bench-log-pmem-peers": "libpmemlog-dev",
}

# What meets in the rounds that count, and of which configurations the best does; --quick takes the first.
GROUP = {
    "quire, coroutines": [("quire", "coroutines")],
    "quire, threads": [("quire", "threads")],
    "quire, batches": [("quire", "batches")],
    "rocksdb": [("rocksdb", variant) for variant in (
        "recycled-logdata-noyield", "recycled-logdata-noyield-pipelined", "recycled-logdata", "recycled-put-noyield",
        "logdata-noyield", "put-noyield", "put")],
    "rocksdb, batches": [("rocksdb", variant) for variant in (
        "batches-recycled-put", "batches-recycled-logdata", "batches-put")],
    "sqlite": [("sqlite", variant) for variant in ("worn-gather", "worn", "gather", "plain")],
    "sqlite, batches": [("sqlite", variant) for variant in ("batches-worn", "batches")],
    "fdatasync, 1 writer": [("sync", "ahead"), ("sync", "grow")],
}


def run(build, quick):
    machine.need("fio")
    machine.build_programs(build, PROGRAMS)
    bench = Bench(build, quick)
    rows, ratios = [], {}
    try:
        for part in (latency, group, pmem, nowait, read, follow, recovery, opening):
            part_rows, part_ratios = part(bench)
            rows += part_rows
            ratios |= part_ratios
    finally:
        bench.clean()
    machine.say_done()
    return rows, ratios


class Bench:
    """Where things are; each store is made anew, and removed when its process has ended."""

    def __init__(self, build, quick):
        self.programs = build / "bench"
        self.quick = quick
        self.disk = machine.data_dir() / "log"
        self.ram = SHM / "quire-bench-log"
        if machine.filesystem(SHM) != "tmpfs":
            raise machine.Failed(f"{SHM}: not tmpfs")
        self.clean()
        self.disk.mkdir()
        self.ram.mkdir()

    def clean(self):
        for directory in (self.disk, self.ram):
            shutil.rmtree(directory, ignore_errors=True)

    def remove(self, path):
        """Durably, so that what the file system does about it falls on nobody else."""
        shutil.rmtree(path, ignore_errors=True)
        machine.command(["sync", "-f", path.parent])

    def place(self, on_pmem):
        return (self.ram if on_pmem else self.disk) / "store"

    def log(self, part, on_pmem=False, keep=False, **options):
        """One run of bench-log."""
        words = [self.programs / "bench-log", "--dir", self.place(on_pmem)]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value]
        if on_pmem:
            words = [*LIKE_PMEM, *words, "--pmem"]
        try:
            return json.loads(machine.command([*words, part]))
        finally:
            if not keep:
                self.remove(self.place(on_pmem))

    def peer(self, program, *words):
        return json.loads(machine.command([*LIKE_PMEM, self.programs / f"bench-log-{program}", *words]))


def of(rounds, key):
    return median([r[key] for r in rounds])


# ---- one writer ----

def latency(bench):
    machine.say("one writer")
    rounds = bench.log("latency", rounds=4 if bench.quick else 25, seconds=0.12 if bench.quick else 0.5)["rounds"]
    for r in rounds:
        r["peer"] = (r["raw_p50"] + r["raw_again_p50"]) / 2
        r["peer_p99"] = (r["raw_p99"] + r["raw_again_p99"]) / 2
    rows = [row("dsync write, 4 KiB", "p50", of(rounds, "peer"), "µs"),
            row("dsync write, 4 KiB", "p99", of(rounds, "peer_p99"), "µs")]
    ratios = {}
    for kind in ("coroutine", "thread"):
        rows += [row(f"quire, a {kind}", "append, durable, p50", of(rounds, f"{kind}_p50"), "µs"),
                 row(f"quire, a {kind}", "append, durable, p99", of(rounds, f"{kind}_p99"), "µs")]
        ratios[f"p50_{kind}_over_raw_dsync"] = median([r[f"{kind}_p50"] / r["peer"] for r in rounds])
    return rows, {"p50_over_raw_dsync": min(ratios.values())} | ratios


# ---- 64 writers ----

def group(bench):
    seconds, n_rounds = (0.25, 2) if bench.quick else (1, 7)
    best = {name: ways[0] for name, ways in GROUP.items()}
    rows = []
    if not bench.quick:
        for name, ways in GROUP.items():
            tried = {}
            for way in ways if len(ways) > 1 else []:
                machine.say(f"64 writers: trying {name}, {way[1]}")
                tried[way] = median([write_group(bench, way, 0.5)["per_second"] for _ in range(3)])
                rows.append(row(f"{name}: {way[1]}", "tried", tried[way], "records/s"))
            best[name] = max(tried, key=tried.get, default=ways[0])
    rounds = []
    for number in range(n_rounds):
        names = list(GROUP)
        sample = {}
        for name in names[number % len(names):] + names[:number % len(names)]:
            machine.say(f"64 writers: round {number + 1} of {n_rounds}, {name}")
            sample[name] = write_group(bench, best[name], seconds)
        rounds.append(sample)
    return rows + group_rows(best, rounds), group_ratios(rounds)


def write_group(bench, way, seconds):
    system, variant = way
    if system == "quire":
        return bench.log("group", kind=variant, seconds=seconds)
    if system == "sync":
        sample = bench.log("sync", kind=variant, seconds=seconds)
        at_most = 1
    else:
        path = bench.disk / system
        path.mkdir()
        try:
            sample = bench.peer(system, path if system == "rocksdb" else path / "log", seconds, variant)
        finally:
            bench.remove(path)
        at_most = 64
    if sample["records"] > at_most * sample["syncs"]:
        raise machine.Failed(f"{system} {variant}: {sample['records']} records durable by {sample['syncs']} syncs")
    return sample


def group_rows(best, rounds):
    rows = []
    for name, (system, variant) in best.items():
        label = name if system == "quire" else f"{name}: {variant}"
        rows += [row(label, "durable, 64 at once" if system != "sync" else "durable, one by one",
                     median([r[name]["per_second"] for r in rounds]), "records/s"),
                 row(label, "cpu", median([r[name]["cpu_us"] for r in rounds]), "µs/record")]
        if system != "quire":
            rows.append(row(label, "fdatasync", median([r[name]["syncs_per_second"] for r in rounds]), "1/s"))
    return rows


def group_ratios(rounds):
    def over(ours, peer):
        return median([r[ours]["per_second"] / r[peer]["per_second"] for r in rounds])

    ways = ("quire, coroutines", "quire, threads")
    ratios = {"group64_over_fdatasync1": max(over(way, "fdatasync, 1 writer") for way in ways)}
    for peer, key in (("rocksdb", "rocksdb_wal"), ("sqlite", "sqlite")):
        ratios[f"quire_over_{key}"] = max(over(way, peer) for way in ways)
        ratios[f"threads_over_{key}"] = over("quire, threads", peer)
        ratios[f"batches_over_{key}"] = over("quire, batches", f"{peer}, batches")
    return ratios


# ---- mapped memory ----

def pmem(bench):
    n = 32_000 if bench.quick else 400_000
    rounds = []
    for number in range(2 if bench.quick else 9):
        machine.say(f"pmem: round {number + 1}")
        sample = {"raw": pmem_peer(bench, "raw", n)}
        for kind in ("coroutine", "thread", "group"):
            sample[kind] = bench.log("pmem", on_pmem=True, kind=kind, n=n)
        sample["pmemlog"] = pmem_peer(bench, "pmemlog", n)
        rounds.append(sample)
    names = {"raw": "copy and fence", "pmemlog": "pmemlog_append", "coroutine": "quire, a coroutine",
             "thread": "quire, a thread", "group": "quire, 64 by one sync"}
    rows = []
    for kind, name in names.items():
        rows += [row(name, "pmem (tmpfs), p50 of 64 in a row", median([r[kind]["p50_us"] for r in rounds]), "µs"),
                 row(name, "pmem (tmpfs)", median([r[kind]["per_second"] for r in rounds]), "records/s")]
    over_raw = {kind: median([r[kind]["p50_us"] / r["raw"]["p50_us"] for r in rounds]) for kind in ("coroutine", "thread")}
    over_log = {kind: median([r[kind]["per_second"] / r["pmemlog"]["per_second"] for r in rounds]) for kind in over_raw}
    return rows, {"pmem_over_raw": min(over_raw.values()), "quire_over_libpmemlog": max(over_log.values()),
                  "pmem_coroutine_over_raw": over_raw["coroutine"], "pmem_thread_over_raw": over_raw["thread"]}


def pmem_peer(bench, kind, n):
    return bench.peer("pmem-peers", kind, bench.ram / "peer", n, RECORD_BYTES)


# ---- nobody waits ----

def nowait(bench):
    n = 1_000_000 if bench.quick else 4_000_000
    ways = [(on_pmem, kind) for on_pmem in (False, True) for kind in ("one", "many")]
    samples = {way: [] for way in ways}
    for number in range(2 if bench.quick else 9):
        for on_pmem, kind in ways:
            machine.say(f"64 bytes: round {number + 1}, {kind}")
            samples[on_pmem, kind].append(bench.log("nowait", on_pmem=on_pmem, kind=kind, n=n, record_bytes=64))
    rows = []
    for (on_pmem, kind), rounds in samples.items():
        system = "quire, pmem (tmpfs)" if on_pmem else "quire, disk"
        how = ", 64 a call" if kind == "many" else ""
        rows += [row(system, f"records_per_s_64B{how}", of(rounds, "per_second"), "records/s"),
                 row(system, f"taken in{how}", of(rounds, "taken_in_per_second"), "records/s"),
                 row(system, f"cpu{how}, upkeep included", of(rounds, "cpu_ns"), "ns/record")]
    return rows, {"records_per_s_64B": of(samples[False, "one"], "per_second"),
                  "records_per_s_64B_pmem": of(samples[True, "one"], "per_second")}


# ---- reading ----

def read(bench):
    rows, ratios = [], {}
    size = 64 * MIB if bench.quick else 512 * MIB
    for key, record_bytes, on_pmem in (("sealed_read_over_memcpy", RECORD_BYTES, False),
                                       ("sealed_read_4096_over_memcpy", 4096, False),
                                       ("sealed_read_pmem_over_memcpy", RECORD_BYTES, True)):
        machine.say(f"reading records of {record_bytes} bytes")
        result = bench.log("read", on_pmem=on_pmem, bytes=size, record_bytes=record_bytes,
                           rounds=3 if bench.quick else 9)
        rounds = result["rounds"]
        for r in rounds:
            r["peer"] = (r["memcpy"] + r["memcpy_again"]) / 2
        what = f"sealed, {record_bytes} B" + (", pmem (tmpfs)" if on_pmem else "")
        rows += [row("memcpy", what, of(rounds, "peer"), "MB/s"),
                 row("memcpy, huge pages", what, of(rounds, "memcpy_huge"), "MB/s"),
                 row("quire, a cursor", what, of(rounds, "cursor"), "MB/s"),
                 row("quire, a cursor in a coroutine", what, of(rounds, "coroutine"), "MB/s"),
                 row("quire, a cursor", f"{what}, cold", result["first_MB_per_s"], "MB/s")]
        ratios[key] = median([r["cursor"] / r["peer"] for r in rounds])
    return rows, ratios


def follow(bench):
    n = 500 if bench.quick else 5000
    names = {"wait": "quire, follower waits", "poll": "quire, follower polls",
             "thread wait": "quire, follower waits, appender a thread"}
    rows = []
    ratios = {}
    for kind, name in names.items():
        if bench.quick and kind == "poll":
            continue
        machine.say(f"following: {kind}")
        rounds = [bench.log("follow", kind=kind, n=n) for _ in range(1 if bench.quick else 3)]
        metric = "follow_us" if kind == "wait" else "sees a durable record after"
        rows += [row(name, f"{metric}, p50", of(rounds, "p50_us"), "µs"), row(name, f"{metric}, p99", of(rounds, "p99_us"), "µs"),
                 row(name, "before the appender knows", of(rounds, "before"), "of 1")]
        if kind == "wait":
            ratios = {"follow_us": of(rounds, "p50_us"), "follow_p99_us": of(rounds, "p99_us")}
    return rows, ratios


# ---- opening ----

def recovery(bench):
    segment = 128 * MIB if bench.quick else 1024 * MIB
    rows, speed = [], {}
    for on_pmem in (True, False):
        machine.say(f"recovery, {'RAM' if on_pmem else 'disk'}")
        opened = recover(bench, on_pmem, segment * 3 // 4, segment)
        speed[on_pmem] = median([r["scanned_bytes"] / r["seconds"] for r in opened])
        system = "quire, pmem (tmpfs)" if on_pmem else "quire, disk"
        rows += [row(system, "recovery_bytes_per_s", speed[on_pmem], "B/s"),
                 row(system, "recovery, records", median([r["n_recovered"] / r["seconds"] for r in opened]), "records/s")]
    device = max(device_reads(bench, opened[0]["scanned_bytes"], depth) for depth in ((4,) if bench.quick else (1, 4, 8)))
    rows.append(row("fio, O_DIRECT, 1 MiB", "in order", device, "B/s"))
    return rows, {"recovery_bytes_per_s": speed[True], "recovery_over_device": speed[False] / device}


def recover(bench, on_pmem, size, segment, tail=None):
    """A log of size bytes, tail of them (or all) not sealed; what each opening took, the first left out."""
    bench.log("fill", on_pmem=on_pmem, keep=True, bytes=size, tail_bytes=tail or size, segment_bytes=segment)
    return bench.log("open", on_pmem=on_pmem, rounds=4 if bench.quick else 10)["rounds"][1:]


def device_reads(bench, size, depth):
    path = bench.disk / "plain"
    out = machine.command([
        "fio", "--name=log", f"--filename={path}", f"--size={size // MIB * MIB}", "--rw=read", "--bs=1M", "--direct=1",
        "--ioengine=io_uring", f"--iodepth={depth}", "--thread=1", "--output-format=json"])
    return json.loads(out[out.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def opening(bench):
    size = 1024 * MIB if bench.quick else 10 * 1024 * MIB
    machine.say(f"opening a log of {size // MIB} MiB")
    opened = recover(bench, False, size, 128 * MIB, 64 * MIB)
    name = "open_1g_ms" if bench.quick else "open_10g_ms"
    ms = of(opened, "seconds") * 1e3
    return [row("quire, disk", f"open, {size // MIB} MiB, 64 MiB not sealed", ms, "ms"),
            row("quire, disk", "segments", opened[0]["n_segments"], "")], {name: ms}
