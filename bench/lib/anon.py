"""anon: a working set twice as large as the memory, read and written at random: a region, or the kernel's swap.

The pages are those of a Python process that holds the syntax trees of its own library (as in `tmem`), each made unlike all others. One
thread draws 32 pages at a time and looks at each; in `mixed` three in ten accesses are stores, in `reads` none (not with --quick,
which also leaves out zram with lzo-rle).

  quire, want   a region of quire_anon_create; the 32 pages are asked for together
  quire, raw    the same without asking: each cold page is a fault, served by the library's own thread
  swap, zram    the same program on anonymous memory of the kernel's, with swap on zram (lz4, lzo-rle). What zram takes is memory too: the
                cgroup's limit is what it leaves, found by a run before
  swap, disk    swap in a file on the disk that the benchmarks' data is on; the cgroup has all of the memory

All have the same memory, M: quire's cgroup is limited to it, and its budget is what the program leaves of that. Swap peers run without
readahead (vm.page-cluster 0), which helps nothing at random. The swap is on for no longer than a peer's run. Ratios are
medians of each round's, quire by want over the fastest peer.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import machine
import tmem
from report import median, row

FLOORS = {"quire_over_best_swap": (">=", 3)}
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
PATTERNS = {"mixed": 30, "reads": 0}
FEW = 10_000  # accesses: what zram takes it has once memory has been filled
TRIES = 3  # of a peer: under so small a limit the kernel now and then kills a program that it could have swapped
PROGRAM_BYTES = 4 << 20  # code, heap, and what the kernel adds to the budget; measured: 2.6 MB


# ---------------------------------------------------------------- swap

@contextlib.contextmanager
def setting(path, value):
    before = path.read_text().strip()
    path.write_text(str(value))
    try:
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def swap_on(path):
    machine.command(["mkswap", path])
    machine.command(["swapon", "-p", "32000", path])
    try:
        with setting(Path("/proc/sys/vm/page-cluster"), 0):
            yield
    finally:
        machine.command(["swapoff", path])


@contextlib.contextmanager
def swap_file(size):
    path = machine.data_dir() / "anon-swap"
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        with swap_on(path):
            yield None
    finally:
        path.unlink()


@contextlib.contextmanager
def swap_zram(algorithm, size):
    with tmem.zram(algorithm, size) as device:
        if device is None:
            raise machine.Failed("zram: not to be had")
        with swap_on(device[0]):
            yield device[1]


@contextlib.contextmanager
def cgroup(limit):
    """A memory cgroup that may swap; yields its folder."""
    v1 = (V1 / "memory.limit_in_bytes").exists()
    path = (V1 if v1 else V2) / f"quire-bench-anon-{os.getpid()}"
    path.mkdir()
    try:
        (path / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        if v1:
            (path / "memory.swappiness").write_text("100")
        yield path
    finally:
        path.rmdir()


def swap_is_possible():
    return os.geteuid() == 0 and all(shutil.which(word) for word in ("mkswap", "swapon", "swapoff")) and \
        ((V1 / "memory.limit_in_bytes").exists() or (V2 / "cgroup.controllers").exists())


def in_cgroup(limit, words):
    for _ in range(TRIES):
        with cgroup(limit) as path:
            script = f'echo $$ > {path}/cgroup.procs && exec "$@"'
            done = subprocess.run(["sh", "-c", script, "sh", *(str(w) for w in words)], capture_output=True, text=True, check=False)
        if done.returncode != -signal.SIGKILL:
            break
    if done.returncode != 0:
        raise machine.Failed(f"bench-anon under swap: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


# ----------------------------------------------------------------- runs

class Contest:
    def __init__(self, build, quick):
        self.build = build
        self.program = build / "bench" / "bench-anon"
        self.memory, self.accesses, self.rounds = (96 << 20, 50_000, 1) if quick else (192 << 20, 1_000_000, 5)
        self.bytes = 2 * self.memory
        self.corpus = tmem.corpus("process", (48 << 20) if quick else (384 << 20))
        self.zram_bytes = {}
        self.algorithms = tmem.ALGORITHMS[:1] if quick else tmem.ALGORITHMS
        self.patterns = {"mixed": 30} if quick else PATTERNS

    def words(self, mode, writes, budget=0, accesses=None):
        return [self.program, mode, self.corpus, self.bytes, budget, accesses or self.accesses, writes, 1]

    def quire(self, mode, writes):
        budget = self.memory - PROGRAM_BYTES - self.bytes // 1024
        out, usage = machine.capped(self.build, self.memory, self.words(mode, writes, budget))
        return json.loads(out) | {"memory_bytes": usage["peak_bytes"]}

    def disk(self, writes):
        with swap_file(2 * self.bytes):
            return in_cgroup(self.memory, self.words("plain", writes)) | {"memory_bytes": self.memory}

    def zram(self, algorithm, writes, accesses=None):
        limit = self.memory - self.zram_bytes.get(algorithm, self.memory // 3)
        with swap_zram(algorithm, 2 * self.bytes) as settings:
            sample = in_cgroup(limit, self.words("plain", writes, accesses=accesses))
            took = int((settings / "mm_stat").read_text().split()[4])
        self.zram_bytes[algorithm] = took
        return sample | {"memory_bytes": limit + took}

    def peers(self):
        if not swap_is_possible():
            return {}
        found = {"swap, disk": self.disk}
        if tmem.ZRAM.exists() or shutil.which("modprobe"):
            for algorithm in self.algorithms:
                found[f"swap, zram {algorithm}"] = lambda writes, a=algorithm: self.zram(a, writes)
                self.zram(algorithm, PATTERNS["mixed"], FEW)  # how much it takes
        return found


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-anon", "src/cli/bench-capped"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that swap is off again, however this ends
    contest = Contest(build, quick)
    systems = {"quire, want": lambda w: contest.quire("want", w), "quire, raw": lambda w: contest.quire("raw", w)}
    systems |= contest.peers()
    samples = {}
    for number in range(contest.rounds):
        for pattern, writes in contest.patterns.items():
            for system, sample in systems.items():
                machine.say(f"round {number + 1} of {contest.rounds}: {pattern}, {system}")
                samples.setdefault((pattern, system), []).append(sample(writes))
    machine.say_done()
    return summarise(samples, [s for s in systems if s.startswith("swap")])


def summarise(samples, peers):
    rows, ratios = [], {}
    for (pattern, system), runs in samples.items():
        def of(key):
            return median([r[key] for r in runs])
        rows += [row(system, pattern, of("accesses_per_s"), "accesses/s"),
                 row(system, pattern, of("cpu_us"), "µs of CPU an access"),
                 row(system, pattern, of("memory_bytes"), "bytes of memory at most")]

    def over(pattern, system, peer):
        pairs = zip(samples[pattern, system], samples[pattern, peer])
        return median([q["accesses_per_s"] / p["accesses_per_s"] for q, p in pairs])

    for pattern in dict.fromkeys(p for p, _ in samples):
        if peers:
            suffix = "" if pattern == "mixed" else f"_{pattern}"
            ratios[f"quire_over_best_swap{suffix}"] = min(over(pattern, "quire, want", peer) for peer in peers)
            ratios[f"raw_over_best_swap{suffix}"] = min(over(pattern, "quire, raw", peer) for peer in peers)
            disk = over(pattern, "quire, want", "swap, disk")
            ratios[f"quire_over_disk_swap{suffix}"] = disk
    if not peers:
        ratios["quire_over_best_swap"] = None
    return rows, ratios
