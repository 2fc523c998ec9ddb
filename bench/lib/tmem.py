"""tmem: pages put into pools and got, beside bare LZ4 and zram, over corpora made here of real things.

  process   the memory of a Python process that holds the syntax trees of its own library
  files     the files of /usr, each from a page of its own; equal pages once
  vm-image  an ext4 image with three trees of files, of which two are the same
  random    random bytes

A pool and bare LZ4 take turns, 64 pages each; zram is asked for the same pages through its block device, where root and the
module are there. Pools are filled once more and recompressed: by LZ4's slow compressor (tight), and by zstd as well (cold).
Times are medians of rounds; ratios medians of each round's.
"""
import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import tmem_remote
import tmem_service
from report import median, row

FLOORS = {
    "get_over_lz4": ("<=", 1.25),
    "get_p99_us": ("<=", 3),
    "put_over_lz4": ("<=", 1.3),
    "get_over_zram": ("<=", 1),
    "put_over_zram": ("<=", 1),
    "bytes_over_zram_nodup": ("<=", 1.03),
    "bytes_over_zram_vm": ("<=", 0.8),
    "bytes_over_zram_recompressed": ("<=", 0.95),
    "get_over_lz4_recompressed": ("<=", 1.25),
    "bytes_over_zram_zstd_image": ("<=", 0.75),
    "batch_over_single": (">=", 1.7),
} | tmem_service.FLOORS
PAGE = 4096
BATCH = 32
ZRAM = Path("/sys/class/zram-control")
ALGORITHMS = ("lz4", "lzo-rle")
RECOMPRESSED = ("tight", "cold")

# A process that fills its memory with syntax trees, and writes all of that memory to a file.
PROCESS = """
import ast, glob, sys
kept, limit = [], int(sys.argv[2])
def regions():
    for line in open("/proc/self/maps"):
        span, access = line.split()[:2]
        start, end = (int(n, 16) for n in span.split("-"))
        if access.startswith("rw") and not line.rstrip().endswith("[vvar]"):
            yield start, end
for path in sorted(glob.glob("/usr/lib/python3*/**/*.py", recursive=True)) * 4:
    try:
        kept.append(ast.parse(open(path).read()))
    except (SyntaxError, ValueError, UnicodeDecodeError):
        pass
    if len(kept) % 16 == 0 and sum(end - start for start, end in regions()) > limit:
        break
with open("/proc/self/mem", "rb") as memory, open(sys.argv[1], "wb") as out:
    for start, end in list(regions()):
        memory.seek(start)
        try:
            out.write(memory.read(end - start))
        except OSError:
            pass
    out.truncate(out.tell() // 4096 * 4096 if out.tell() < limit else limit)
"""


# ------------------------------------------------------------- corpora

def files_below(top):
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield path


def make_process(path, size):
    machine.command([sys.executable, "-c", PROCESS, path, size])


def make_files(path, size):
    seen = set()
    with open(path, "wb") as out:
        for file in files_below("/usr"):
            with contextlib.suppress(OSError), open(file, "rb") as bytes_of:
                while page := bytes_of.read(PAGE):
                    page = page.ljust(PAGE, b"\0")
                    if page not in seen:
                        seen.add(page)
                        out.write(page)
                    if out.tell() >= size:
                        return


def make_image(path, size):
    machine.need("mkfs.ext4")
    tree = path.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    todo = {"a": size // 5, "b": size // 5}
    for name, top in (("a", "/usr/lib"), ("b", "/usr/share")):
        (tree / name).mkdir(parents=True)
        for number, file in enumerate(files_below(top)):
            if todo[name] <= 0:
                break
            with contextlib.suppress(OSError):
                shutil.copyfile(file, tree / name / str(number))
                todo[name] -= -(-file.stat().st_size // PAGE) * PAGE
    shutil.copytree(tree / "a", tree / "again")
    path.unlink(missing_ok=True)
    machine.command(["mkfs.ext4", "-q", "-b", PAGE, "-d", tree, path, f"{size // 1024}k"])
    shutil.rmtree(tree)


def make_random(path, size):
    with open(path, "wb") as out:
        for _ in range(size >> 20):
            out.write(os.urandom(1 << 20))


CORPORA = {"process": make_process, "files": make_files, "vm-image": make_image, "random": make_random}


def corpus(name, size):
    path = machine.data_dir() / f"tmem-{name}-{size >> 20}"
    if not path.exists():
        machine.say(f"making {name}")
        unfinished = path.with_suffix(".new")
        CORPORA[name](unfinished, size)
        unfinished.rename(path)
    return path


# ---------------------------------------------------------------- zram

@contextlib.contextmanager
def zram(algorithm, size):
    """A device of that size; None where there is none to be had."""
    subprocess.run(["modprobe", "zram"], capture_output=True, check=False) if shutil.which("modprobe") else None
    if os.geteuid() != 0 or not ZRAM.exists():
        yield None
        return
    number = (ZRAM / "hot_add").read_text().strip()
    settings = Path(f"/sys/block/zram{number}")
    try:
        (settings / "comp_algorithm").write_text(algorithm)
        (settings / "disksize").write_text(str(size))
        yield Path(f"/dev/zram{number}"), settings
    except OSError as error:
        raise machine.Failed(f"zram: {algorithm}: {error.strerror}") from error
    finally:
        (settings / "reset").write_text("1")
        (ZRAM / "hot_remove").write_text(number)


def on_zram(program, algorithm, path):
    with zram(algorithm, path.stat().st_size) as device:
        if device is None:
            return None
        sample = json.loads(machine.command([program, "device", path, device[0]]))
        fields = (device[1] / "mm_stat").read_text().split()
        return sample | {"held_bytes": int(fields[2])}


# ----------------------------------------------------------------- runs

def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-tmem"])
    program = build / "bench" / "bench-tmem"
    size, rounds = (48 << 20, 1) if quick else (384 << 20, 5)
    samples = {}
    for name in CORPORA:
        path = corpus(name, size)
        for number in range(rounds):
            machine.say(f"{name}: round {number + 1} of {rounds}")
            samples.setdefault((name, "quire"), []).append(
                json.loads(machine.command([program, "quire", path, BATCH])))
            for how in RECOMPRESSED if name != "random" else ():
                samples.setdefault((name, how), []).append(
                    json.loads(machine.command([program, "recompressed", path, how])))
            for algorithm in ALGORITHMS:
                sample = on_zram(program, algorithm, path)
                if sample is not None:
                    samples.setdefault((name, algorithm), []).append(sample)
    service_rows, service_ratios = tmem_service.run(build, corpus("files", size), BATCH, rounds)
    remote_rows, remote_ratios = tmem_remote.run(build, corpus("files", size), rounds)
    machine.say_done()
    rows, ratios = summarise(samples)
    return rows + service_rows + remote_rows, ratios | service_ratios | remote_ratios


def summarise(samples):
    rows = []
    for (name, system), runs in samples.items():
        def of(key):
            return median([r[key] for r in runs])
        who = "quire" if system == "quire" else f"quire, {system}" if system in RECOMPRESSED else f"zram, {system}"
        for verb in ("get",) if system in RECOMPRESSED else ("put", "get"):
            rows += [row(who, f"{name}: {verb}, p50", of(f"{verb}_p50_ns"), "ns"),
                     row(who, f"{name}: {verb}, p99", of(f"{verb}_p99_ns"), "ns")]
        rows.append(row(who, f"{name}: held", of("held_bytes") / (of("pages") * PAGE), "of the pages' bytes"))
        if system in RECOMPRESSED:
            rows += [row(who, f"{name}: recompression", of("recompress_ns_a_page"), "ns of CPU a page"),
                     row(who, f"{name}: got in order", of("in_order_ns_a_page"), "ns of CPU a page")]
        if system == "quire":
            rows += [row("bare LZ4", f"{name}: in, p50", of("lz4_put_p50_ns"), "ns"),
                     row("bare LZ4", f"{name}: out, p50", of("lz4_get_p50_ns"), "ns"),
                     row("quire", f"{name}: metadata", (of("head_bytes") + of("index_bytes")) / of("pages"), "bytes a page"),
                     row("quire", f"{name}: rounding and holes", (of("rounding_bytes") + of("hole_bytes")) / of("held_bytes"), "of what is held"),
                     row("quire", f"{name}: {BATCH} puts a call", of("batch_over_single"), "× singly"),
                     row("quire", f"{name}: CPU of {BATCH} puts a call", of("batch_cpu_over_single"), "× singly")]
    return rows, ratios_of(samples)


def ratios_of(samples):
    compressible = [name for name in CORPORA if name != "random"]

    def over(name, system, key, peer_key, ours="quire"):
        return median([q[key] / p[peer_key] for q, p in zip(samples[name, ours], samples[name, system])])

    ratios = {f"{verb}_over_lz4": max(over(name, "quire", f"{verb}_p50_ns", f"lz4_{verb}_p50_ns") for name in compressible)
              for verb in ("get", "put")}
    ratios["get_p99_us"] = max(median([r["get_p99_ns"] for r in samples[name, "quire"]]) for name in compressible) / 1e3
    ratios["batch_over_single"] = min(median([r["batch_over_single"] for r in samples[name, "quire"]])
                                      for name in compressible)
    ratios["get_over_lz4_recompressed"] = max(over(name, "tight", "get_p50_ns", "lz4_get_p50_ns", "tight")
                                              for name in compressible)
    if ("files", "lz4") in samples:
        for verb in ("get", "put"):
            ratios[f"{verb}_over_zram"] = max(over(name, "lz4", f"{verb}_p50_ns", f"{verb}_p50_ns") for name in compressible)
        ratios["bytes_over_zram_nodup"] = over("files", "lz4", "held_bytes", "held_bytes")
        ratios["bytes_over_zram_recompressed"] = over("files", "lz4", "held_bytes", "held_bytes", "tight")
        ratios["bytes_over_zram_zstd_image"] = over("process", "lz4", "held_bytes", "held_bytes", "cold")
        ratios["bytes_over_zram_vm"] = over("vm-image", "lz4", "held_bytes", "held_bytes")
    return ratios
