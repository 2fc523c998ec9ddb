"""map-miss: random 4 KiB pages, data four times the memory, one thread.

All systems read the same file, capped by the same memory cgroup, one after the other within
each round; the memory is full before counting begins. Rows are medians over rounds, ratios are
medians of each round's ratio, as the disk's speed drifts. Every page is checked (its number
stands at both ends), but for fio, which checks nothing.

Peers, at their best settings:
  fio               io_uring, O_DIRECT, depth 128, registered buffers and files, one job: the
                    device's ceiling from one thread; no page is kept
  mmap1, mmap64     MADV_RANDOM
  pread64           64 threads, the better of O_DIRECT and page cache with POSIX_FADV_RANDOM
  warmtouch         one thread, depth 128: RWF_NOWAIT check, MADV_POPULATE_READ by io_uring with
                    128 kernel workers, then the touch

An *access* is a page looked at, found there or not; a *miss* is a page read.

Then what map_scan.py says: the file read through in order, random pages beside that, and for a long time.
"""
import json
import os
import struct

import machine
import map_scan
from report import median, row

FLOORS = {
    "quire_over_fio": (">=", 0.95),
    "suspend_over_fio": (">=", 0.8),
    "quire_over_mmap1": (">=", 5),
    "quire_over_mmap64": (">=", 1.05),
    "quire_over_pread64": (">=", 1.05),
    "quire_over_warmtouch": (">=", 1.3),
    "cpu_quire_over_mmap64": ("<=", 0.5),
    **map_scan.FLOORS,
}

PAGE = os.sysconf("SC_PAGE_SIZE")
FILE_BYTES = 4 << 30
QUICK_BYTES = 1 << 30  # the first quarter of the file

# name, system of bench-map-miss, masked features
CONTEST = [
    ("mmap1", "mmap1", ""),
    ("warmtouch", "warmtouch", ""),
    ("mmap64", "mmap64", ""),
    ("pread64-direct", "pread64-direct", ""),
    ("pread64-buffered", "pread64-buffered", ""),
    ("quire", "quire-want", ""),
    ("fio", None, ""),
    ("quire-suspend", "quire-suspend", ""),
]
GRADES = [
    ("quire full, threads", "quire-want", "io_uring"),
    ("quire user-mode, io_uring", "quire-want", "uffd_kernel_faults"),
    ("quire user-mode, threads", "quire-want", "uffd_kernel_faults,io_uring"),
    ("quire none-kernel, io_uring", "quire-kernel", "userfaultfd"),
    ("quire none-kernel, threads", "quire-kernel", "userfaultfd,io_uring"),
    ("quire none-pinned, io_uring", "quire-pinned", "userfaultfd"),
    ("quire none-pinned, threads", "quire-pinned", "userfaultfd,io_uring"),
]


def run(build, quick):
    machine.need("fio")
    path = prepare(QUICK_BYTES if quick else FILE_BYTES)
    size = QUICK_BYTES if quick else FILE_BYTES
    rounds, seconds = (1, 0.6) if quick else (3, 4)
    samples, failures = {}, {}
    for number in range(rounds):
        for name, system, mask in CONTEST + (GRADES if number == 0 else []):
            machine.say(f"round {number + 1} of {rounds}: {name}")
            try:
                sample = one(build, path, size, seconds, system, mask) if system else \
                    fio(build, path, size, seconds)
                add(samples, name, sample)
            except machine.Failed as failure:
                if (name, system, mask) in CONTEST:
                    raise
                failures[name] = str(failure)
    machine.say_done()
    rows, ratios = summarise(samples, failures)
    peers = {
        "fio": lambda seconds: per_second(fio(build, path, size, seconds)),
        "mmap64": lambda seconds: per_second(one(build, path, size, seconds, "mmap64", "")),
    }
    scan_rows, scan_ratios = map_scan.run(build, path, size, quick, peers)
    return rows + scan_rows, {**ratios, **scan_ratios}


def per_second(sample):
    return sample["accesses"] / sample["seconds"]


def prepare(size):
    """The file, of at least this size: page n begins with n and ends with its complement."""
    path = machine.data_dir() / "pages"
    if path.exists() and path.stat().st_size >= size:
        return path
    machine.say(f"writing {size >> 20} MiB of pages")
    body = bytearray(os.urandom(1 << 20))
    partial = path.with_suffix(".partial")
    with open(partial, "wb", buffering=0) as out:
        for start in range(0, size // PAGE, len(body) // PAGE):
            for i in range(len(body) // PAGE):
                n = start + i
                struct.pack_into("=Q", body, i * PAGE, n)
                struct.pack_into("=Q", body, i * PAGE + PAGE - 8, n ^ 0xFFFFFFFFFFFFFFFF)
            out.write(body)
        os.fsync(out.fileno())
    partial.rename(path)
    machine.drop_cache(path)
    return path


def fio(build, path, size, seconds):
    machine.drop_cache(path)
    out, _ = machine.capped(build, size // 4, [
        "fio", "--name=miss", f"--filename={path}", f"--size={size}", "--rw=randread", f"--bs={PAGE}",
        "--direct=1", "--ioengine=io_uring", "--iodepth=128", "--fixedbufs=1", "--registerfiles=1",
        "--norandommap=1", "--randrepeat=0", "--gtod_reduce=1", "--thread=1", "--readonly",
        "--invalidate=0", "--time_based=1", f"--runtime={max(seconds, 1)}", "--output-format=json"])
    job = json.loads(out[out.index("{"):])["jobs"][0]
    elapsed = job["read"]["runtime"] / 1000
    n = job["read"]["total_ios"]
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 * elapsed
    return {"accesses": n, "misses": n, "wrong": 0, "seconds": elapsed, "cpu_seconds": cpu}


def one(build, path, size, seconds, system, mask):
    machine.drop_cache(path)
    words = [build / "bench" / "bench-map-miss", "--file", path, "--bytes", size, "--memory", size // 4,
             "--seconds", seconds]
    out, usage = machine.capped(build, size // 4, words + (["--mask", mask] if mask else []) + [system])
    machine.drop_cache(path)
    sample = json.loads(out)
    sample["peak_bytes"] = usage["peak_bytes"]
    if sample["wrong"]:
        raise machine.Failed(f"{system}: {sample['wrong']} wrong pages")
    return sample


def add(samples, name, sample):
    sample["per_second"] = per_second(sample)
    sample["misses_per_second"] = sample["misses"] / sample["seconds"]
    sample["cpu_us"] = sample["cpu_seconds"] * 1e6 / max(sample["accesses"], 1)
    samples.setdefault(name, []).append(sample)


def summarise(samples, failures):
    def of(name, key):
        return median([s[key] for s in samples[name]])

    rows = []
    for name in samples:
        rows.append(row(name, "accesses", of(name, "per_second"), "pages/s"))
        if of(name, "misses"):
            rows.append(row(name, "misses", of(name, "misses_per_second"), "pages/s"))
        rows.append(row(name, "cpu", of(name, "cpu_us"), "µs/page"))
        if "peak_bytes" in samples[name][0]:
            rows.append(row(name, "peak memory", int(of(name, "peak_bytes")) >> 20, "MiB"))
    rows += [row(name, "failed: " + why, None, "") for name, why in failures.items()]
    def over(ours, theirs, key):
        """Median of the rounds' ratios. theirs: the best of several."""
        rounds = zip(samples[ours], *(samples[name] for name in theirs))
        return median([mine[key] / max(other[key] for other in others) for mine, *others in rounds])

    pread64 = ["pread64-direct", "pread64-buffered"]
    ratios = {
        "quire_over_fio": over("quire", ["fio"], "misses_per_second"),
        "suspend_over_fio": over("quire-suspend", ["fio"], "misses_per_second"),
        "quire_over_mmap1": over("quire", ["mmap1"], "per_second"),
        "quire_over_mmap64": over("quire", ["mmap64"], "per_second"),
        "quire_over_pread64": over("quire", pread64, "per_second"),
        "quire_over_warmtouch": 1 / over("quire", ["warmtouch"], "cpu_us"),
        "cpu_quire_over_mmap64": over("quire", ["mmap64"], "cpu_us"),
    }
    return rows, ratios
