"""second-chance: random pages of data larger than the memory, with compressed copies of what left the cache and without.

All systems run under the same memory cgroup, one after the other within each round, on data twice as long as that memory:

  quire     the cache as it is by default
  notmem    the same with `no_second_chance`
  mmap      the kernel's mapping with MADV_RANDOM, its memory filled beforehand by 64 threads, read by one

on a file of real pages that get smaller (the memory of a Python process that holds syntax trees, over and over, each page with its number in
its first and last eight bytes, by which every access is checked), and the first two on one of random bytes. Quire's pages are wanted, 128 at a
time by each thread, in two kinds of run: with one thread, and with as many as there are CPUs, two at most; and loaded without a want
by as many threads (raw: faults served in the thread, one read at a time for each). Ratios name no threads where all have
two (mmap: one); *_1 are those of one thread.

What the memory is divided into is found out while it runs; so each system first runs as long as it is measured, and no less than that takes,
uncounted. Rows are medians over rounds, ratios medians of each round's ratio. The compressibility is that of bare LZ4, page by page.
"""
import json
import os
import struct

import machine
import tmem
from report import median, ratio, row

FLOORS = {
    "quire_over_notmem": (">=", 2.8),
    "quire_over_mmap": (">=", 5),
    "incompressible_over_notmem": (">=", 0.97),
}
PAGE = 4096
ASIDE = 8 << 20  # of the cgroup's memory: the program's own, and the kernel's odds and ends
DEPTH = 128
IMAGE = 48 << 20  # of real pages that differ


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-second-chance", "bench/bench-map-miss", "bench/bench-tmem"])
    size = (256 << 20) if quick else (1 << 30)
    rounds, warm, seconds = (1, 2.5, 1) if quick else (5, 10, 5)
    paths = {name: prepare(name, size) for name in ("soft", "hard")}
    threads = min(2, len(os.sched_getaffinity(0)))
    samples = {}
    for number in range(rounds):
        for kind in kinds(threads):
            machine.say(f"round {number + 1} of {rounds}: {' '.join(map(str, kind))}")
            samples.setdefault(kind, []).append(one(build, paths, size, kind, warm, seconds))
    machine.say_done()
    return summarise(samples, threads, compressed_share(build))


def kinds(threads):
    """(data, system, how pages are asked for, threads); what is compared stands side by side."""
    yield ("soft", "mmap", "raw", 1)
    for n in sorted({1, threads}):
        yield ("soft", "quire", "want", n)
        yield ("soft", "notmem", "want", n)
    yield ("soft", "quire", "raw", threads)
    yield ("soft", "notmem", "raw", threads)
    yield ("hard", "quire", "want", threads)
    yield ("hard", "notmem", "want", threads)


def one(build, paths, size, kind, warm, seconds):
    data, system, how, threads = kind
    path, memory = paths[data], size // 2
    machine.drop_cache(path)
    if system == "mmap":
        out, _ = machine.capped(build, memory, [
            build / "bench" / "bench-map-miss", "--file", path, "--bytes", size, "--memory", memory, "--seconds", seconds, "mmap1"])
        sample = json.loads(out)
        sample["pages_per_s"] = sample["accesses"] / sample["seconds"]
        sample["cpu_us"] = sample["cpu_seconds"] * 1e6 / sample["accesses"]
    else:
        out, usage = machine.capped(build, memory, [
            build / "bench" / "bench-second-chance", how, "on" if system == "quire" else "off", path, size, memory - ASIDE,
            threads, DEPTH, warm, seconds])
        sample = json.loads(out) | {"peak_bytes": usage["peak_bytes"]}
    machine.drop_cache(path)
    if sample["wrong"]:
        raise machine.Failed(f"{' '.join(map(str, kind))}: {sample['wrong']} wrong pages")
    return sample


# ------------------------------------------------------------------ data

def prepare(name, size):
    path = machine.data_dir() / f"second-chance-{name}-{size >> 20}"
    if path.exists():
        return path
    machine.say(f"writing {path.name}")
    image = tmem.corpus("process", IMAGE).read_bytes()
    partial = path.with_suffix(".partial")
    with open(partial, "wb", buffering=1 << 20) as out:
        for n in range(size // PAGE):
            at = n * PAGE % (len(image) // PAGE * PAGE)
            body = image[at + 8:at + PAGE - 8] if name == "soft" else os.urandom(PAGE - 16)
            out.write(struct.pack("=Q", n) + body + struct.pack("=Q", n ^ 0xFFFFFFFFFFFFFFFF))
        os.fsync(out.fileno())
    partial.rename(path)
    return path


def compressed_share(build):
    """Of the real pages, as bare LZ4 has them."""
    path = tmem.corpus("process", IMAGE)
    sample = json.loads(machine.command([build / "bench" / "bench-tmem", "quire", path, tmem.BATCH]))
    return sample["held_bytes"] / path.stat().st_size


# --------------------------------------------------------------- figures

def summarise(samples, threads, share):
    rows = [row("data", "held by a pool, of its length", share, "")]
    for (data, system, how, n), found in samples.items():
        def of(key):
            return median([s[key] for s in found])
        name, metric = f"{system}, {n} thread{'s' * (n > 1)}", f"{'compressible' if data == 'soft' else 'random bytes'}, {how}"
        rows += [row(name, metric, of("pages_per_s"), "pages/s"), row(name, metric, of("cpu_us"), "µs of CPU a page")]
        if system == "quire":
            rows += [row(name, metric, of("copies_bytes") / of("used_bytes"), "of the memory are copies"),
                     row(name, metric, median([s["second_chance_hits"] / max(s["second_chance_hits"] + s["fills"], 1)
                                               for s in found]), "of the misses come from copies")]

    def over(ours, theirs):
        pairs = zip(samples[ours], samples[theirs])
        return median([ratio(a["pages_per_s"], b["pages_per_s"]) for a, b in pairs])

    mmap = ("soft", "mmap", "raw", 1)
    ratios = {
        "quire_over_notmem": over(("soft", "quire", "want", threads), ("soft", "notmem", "want", threads)),
        "quire_over_notmem_1": over(("soft", "quire", "want", 1), ("soft", "notmem", "want", 1)),
        "quire_over_notmem_raw": over(("soft", "quire", "raw", threads), ("soft", "notmem", "raw", threads)),
        "quire_over_mmap": over(("soft", "quire", "want", threads), mmap),
        "quire_over_mmap_1": over(("soft", "quire", "want", 1), mmap),
        "incompressible_over_notmem": over(("hard", "quire", "want", threads), ("hard", "notmem", "want", threads)),
        "threads": threads,
    }
    return rows, ratios
