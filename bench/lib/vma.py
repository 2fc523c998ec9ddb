"""vma: 127,188 files of one page in one map, against a kernel mapping for each.

All three ways open and stat every file; `open` does nothing else, so what it takes is taken off
the others' time. Directory entries and inodes are in memory before anything is measured.
The kernel stops the mmaps at vm.max_map_count (65,530 unless raised).
Kernel memory is what SUnreclaim of /proc/meminfo and VmPTE grew by.
"""
import json
import os
from pathlib import Path

import machine
from report import median, row

FLOORS = {"vmas": ("<=", 16), "create_us_per_item": ("<=", 3)}
N_FILES = 127188
PAGE = os.sysconf("SC_PAGE_SIZE")


def run(build, quick):
    directory = prepare()
    rounds = 3 if quick else 7
    samples = {}
    one(build, "open", directory)
    for number in range(rounds):
        for kind in ("open", "mmap", "quire"):
            machine.say(f"round {number + 1} of {rounds}: {kind}")
            samples.setdefault(kind, []).append(one(build, kind, directory))
    machine.say_done()
    return summarise(samples)


def prepare():
    """N_FILES files, 1000 to a directory."""
    directory = machine.data_dir() / "vma"
    complete = directory / "complete"
    if complete.exists() and complete.read_text() == f"{N_FILES} {PAGE}":
        return directory
    body = os.urandom(PAGE)
    for i in range(N_FILES):
        if i % 1000 == 0:
            machine.say(f"writing {N_FILES} files: {i}")
            parent = directory / f"{i // 1000:02}"
            parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{i:06}").write_bytes(body)
    complete.write_text(f"{N_FILES} {PAGE}")
    return directory


def one(build, kind, directory):
    short = directory
    if len(str(directory)) > 40:
        raise machine.Failed(f"{short}: too long a name for this benchmark (40 bytes)")
    sample = json.loads(machine.command([build / "bench" / "bench-vma", kind, directory, N_FILES]))
    sample["us"] = sample["seconds"] * 1e6 / sample["n"]
    return sample


def summarise(samples):
    def of(kind, key):
        return median([s[key] for s in samples[kind]])

    limit = Path("/proc/sys/vm/max_map_count").read_text().strip()
    rows = [row("open", "open, fstat, close", of("open", "us"), "µs/item")]
    for kind in ("mmap", "quire"):
        kernel_kib = median([s["slab_kib"] + s["page_table_kib"] for s in samples[kind]])
        rows += [
            row(kind, "items mapped", int(of(kind, "n")), f"of {N_FILES}"
                + (f" (vm.max_map_count {limit})" if kind == "mmap" else "")),
            row(kind, "vmas", int(of(kind, "vmas")), "more than before"),
            row(kind, "kernel memory", kernel_kib, "KiB"),
            row(kind, "kernel memory an item", kernel_kib * 1024 / of(kind, "n"), "B"),
            row(kind, "resident anonymous memory", of(kind, "resident_kib"), "KiB"),
            row(kind, "create", of(kind, "us"), "µs/item"),
            row(kind, "create_us_per_item", of(kind, "us") - of("open", "us"), "µs beyond open and stat"),
        ]
    rows.append(row("quire", "vmas of the arenas", int(of("quire", "cache_vmas")), ""))
    ratios = {
        "vmas": int(of("quire", "vmas")),
        "create_us_per_item": of("quire", "us") - of("open", "us"),
        "vmas_over_mmap": of("quire", "vmas") / max(of("mmap", "vmas"), 1),
    }
    return rows, ratios
