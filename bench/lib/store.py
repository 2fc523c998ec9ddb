"""store: a store's commits, opening, reads and imports, each in turns with what it is held against.

Every peer gets the same data in the same run, on the same file system. Ratios are medians of each
round's ratio, in which the two are neighbours, as the disk's speed drifts.

  commit1, commit64  4 KiB blobs, alloc + write + commit, alone and 64 a transaction, from one
                     coroutine; over O_DIRECT + RWF_DSYNC writes of 4 KiB onto written blocks, one by one
  open_s_1m          a store of 1,000,000 blobs, made once; the class file is read past the page
                     cache, and what is cached of it is dropped
  blobread           a blob from end to end, every page verified, over O_DIRECT pread of a plain
                     file: both into aligned memory, one call at a time; in each round both try calls of
                     1 and of 4 MiB, and the better one of each counts
  miss               random pages of one blob of a store, wanted, as in map-miss; over the same of a plain file
  import             `quire import` of a tree of real files (from /usr) into a new store, over
                     `cp -r` and `sync -f`; both durable at the end, source caches dropped before each if root
                     (else both warm)
  values             64 KiB values in random order, data 4 × memory (a cgroup's), each contender a
                     process, at the widths (threads; coroutines of one thread for Quire) and in the
                     variants below; every value is checked. A first round finds the best
                     configuration of each, and these meet in the rounds that count; *_one_thread holds
                     Quire, whose coroutines share a thread, against what a peer can do with one:
    quire              blobs in one map, wanted; `read`: quire_blob_read, keeping nothing
    sqlite             rowid table, incremental blob reads, immutable; page size 64 and 8 KiB, with and
                       without mmap
    rocksdb            BlobDB, compacted; O_DIRECT with a blob cache, page cache, MultiGet
"""
import json
import os
import shutil
import time
from pathlib import Path

import machine
import map_miss
from report import median, row

FLOORS = {
    "commit1_over_dsync": (">=", 0.45),
    "commit64_over_dsync": (">=", 10),
    "open_s_1m": ("<=", 3),
    "index_bytes_per_object": ("<=", 64),
    "blobread_over_pread": (">=", 0.95),
    "blob_over_file": (">=", 0.97),
    "import_over_cp": (">=", 0.8),
    "quire_over_sqlite": (">=", 1.5),
    "quire_over_blobdb": (">=", 1.5),
}

MIB = 1 << 20
N_BLOBS = 1_000_000
READ_BYTES, QUICK_READ_BYTES = 1024 * MIB, 256 * MIB
TREE_BYTES, QUICK_TREE_BYTES = 1024 * MIB, 256 * MIB
TREE_SOURCES = ["/usr/include", "/usr/share", "/usr/lib", "/usr/bin"]  # a quarter of the bytes each
VALUE_BYTES = 65536
N_VALUES, QUICK_VALUES = 16384, 8192  # 1 GiB; 512 MiB, the first half of the same data
PROGRAMS = {  # and the package that each needs
    "bench-store": None,
    "bench-values-quire": None,
    "bench-values-sqlite": "libsqlite3-dev",
    "bench-values-rocksdb": "librocksdb-dev",
}

# contender, its data, variant, in --quick too
CONTEST = [
    ("quire", "values-quire", "", True),
    ("quire", "values-quire", "read", False),
    ("sqlite", "values-sqlite-65536", "", True),
    ("sqlite", "values-sqlite-65536", "mmap", False),
    ("sqlite", "values-sqlite-8192", "", False),
    ("sqlite", "values-sqlite-8192", "mmap", False),
    ("rocksdb", "values-rocksdb", "direct", True),
    ("rocksdb", "values-rocksdb", "buffered", False),
    ("rocksdb", "values-rocksdb", "direct-multi", False),
]


def run(build, quick):
    machine.need("fio")
    machine.build_programs(build, PROGRAMS)
    directory = machine.data_dir() / "store"
    directory.mkdir(exist_ok=True)
    rows, ratios = [], {}
    for part in (commits, opening, reads, misses, imports, values):
        part_rows, part_ratios = part(build, directory, quick)
        rows += part_rows
        ratios |= part_ratios
    machine.say_done()
    return rows, ratios


def bench_store(build, *words):
    out = machine.command([build / "bench" / "bench-store", *words])
    return json.loads(out)


# ---- commits, opening, reading ----

def commits(build, directory, quick):
    machine.say("commits")
    rounds, seconds = (9, 0.1) if quick else (41, 0.25)
    result = bench_store(build, "--dir", directory, "--rounds", rounds, "--seconds", seconds, "commit")["rounds"]
    shutil.rmtree(directory / "commit")

    def of(key):
        return median([r[key] for r in result])

    rows = [row("dsync write", "4 KiB", median([of("dsync"), of("dsync_again")]), "1/s"),
            row("quire", "commit_per_s", of("commit1"), "blobs/s"),
            row("quire", "commit_per_s, plain thread", of("commit1_thread"), "blobs/s"),
            row("quire", "commit_per_s, 64 at once", of("commit64"), "blobs/s")]
    ratios = {
        "commit1_over_dsync": median([2 * r["commit1"] / (r["dsync"] + r["dsync_again"]) for r in result]),
        "commit64_over_dsync": median([r["commit64"] / r["dsync_again"] for r in result]),
    }
    return rows, ratios


def opening(build, directory, quick):
    machine.say(f"a store of {N_BLOBS:,} blobs")
    store = directory / "million"
    mark = directory / "million.filled"
    if not mark.exists():
        bench_store(build, "--dir", store, "--n", N_BLOBS, "fill")
        mark.touch()
    result = []
    for _ in range(3 if quick else 9):
        machine.drop_cache(store / "capacity")
        result.append(bench_store(build, "--dir", store, "open"))
    if any(r["objects"] != N_BLOBS for r in result):
        raise machine.Failed(f"{store}: {result[0]['objects']} blobs instead of {N_BLOBS}; remove it and {mark}")

    def of(key):
        return median([r[key] for r in result])

    rows = [row("quire", "open, 1,000,000 blobs", of("seconds"), "s"),
            row("quire", "index memory", of("index_bytes") / N_BLOBS, "B/object"),
            row("quire", "process grows by", of("grown_bytes") / N_BLOBS, "B/object"),
            row("quire", "catalogue", of("catalogue_bytes") / N_BLOBS, "B/object")]
    return rows, {"open_s_1m": of("seconds"), "index_bytes_per_object": of("index_bytes") / N_BLOBS}


def reads(build, directory, quick):
    machine.say("reading a large blob")
    size = QUICK_READ_BYTES if quick else READ_BYTES
    if not (directory / "read-file").exists():  # the whole of it, and not counted
        bench_store(build, "--dir", directory, "--n", READ_BYTES, "--rounds", 1, "read")
    result = bench_store(build, "--dir", directory, "--n", size, "--rounds", 3 if quick else 7, "read")["rounds"]
    rows, calls = [], sorted({r["call_bytes"] for r in result})
    for r in result:
        r["peer"] = (r["pread"] + r["pread_again"]) / 2
    for call in calls:
        for system, key, how in (("pread, O_DIRECT", "peer", ""), ("quire", "blob", ""),
                                 ("quire", "blob_thread", ", plain thread")):
            speed = median([r[key] for r in result if r["call_bytes"] == call])
            rows.append(row(system, f"{call // MIB} MiB calls{how}", speed / MIB, "MiB/s"))
    rounds = [result[i:i + len(calls)] for i in range(0, len(result), len(calls))]
    return rows, {"blobread_over_pread": median([max(r["blob"] for r in sizes) / max(r["peer"] for r in sizes)
                                                 for sizes in rounds])}


# ---- misses ----

def misses(build, directory, quick):
    machine.say("random pages of a blob")
    size = map_miss.QUICK_BYTES if quick else map_miss.FILE_BYTES
    pages = map_miss.prepare(size)
    store = pages_store(build, directory, pages)
    rounds = []
    for number in range(3 if quick else 5):
        machine.say(f"misses: round {number + 1}")
        rates = {}
        for system, path in (("file", pages), ("blob", store)) if number % 2 else (("blob", store), ("file", pages)):
            sample = map_miss.one(build, path, size, 0.5 if quick else 4, "quire-want", "")
            rates[system] = sample["misses"] / sample["seconds"]
        rounds.append(rates)
    rows = [row(f"quire, want, a {system}", "misses", median([r[system] for r in rounds]), "pages/s")
            for system in ("file", "blob")]
    return rows, {"blob_over_file": median([r["blob"] / r["file"] for r in rounds])}


def pages_store(build, directory, pages):
    """A store that has the file as its one blob."""
    store = directory / f"pages-{pages.stat().st_size // MIB}"
    if not store.exists():
        partial = directory / "pages-partial"
        shutil.rmtree(partial, ignore_errors=True)
        quire = build / "src" / "cli" / "quire"
        machine.command([quire, "init", partial])
        machine.command([quire, "blob", "put", partial, pages])
        partial.rename(store)
    return store


# ---- import ----

def imports(build, directory, quick):
    machine.say("import")
    tree = prepare_tree(directory, QUICK_TREE_BYTES if quick else TREE_BYTES)
    n_files, n_bytes = measure_tree(tree)
    cold = drop_all()
    if not cold:
        warm(tree)
    result = []
    for number in range(1 if quick else 5):
        machine.say(f"import, round {number + 1}")
        peer, ours = (timed(way, build, directory, tree, cold) for way in (copy_tree, import_tree))
        result.append((peer, ours))
    state = "source cold" if cold else "source warm"
    rows = [row("tree", "files", n_files, ""), row("tree", "bytes", n_bytes // MIB, "MiB"),
            row("cp -r, sync -f", state, n_bytes / MIB / median([p for p, _ in result]), "MiB/s"),
            row("quire import", state, n_bytes / MIB / median([o for _, o in result]), "MiB/s")]
    return rows, {"import_over_cp": median([p / o for p, o in result])}


def timed(way, build, directory, tree, cold):
    """Seconds; what is written is removed, and that is durable, before the next."""
    target = directory / "import-target"
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    work = way(build, tree, target)
    if cold:
        drop_all()
    start = time.monotonic()
    work()
    passed = time.monotonic() - start
    shutil.rmtree(target)
    os.sync()
    return passed


def copy_tree(build, tree, target):
    def work():
        machine.command(["cp", "-r", tree, target])
        machine.command(["sync", "-f", target])
    return work


def import_tree(build, tree, target):
    quire = build / "src" / "cli" / "quire"
    machine.command([quire, "init", target])
    return lambda: machine.command([quire, "import", target, tree])


def drop_all():
    """Empties the kernel's page cache, and caches of names; False if that is not allowed."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def warm(tree):
    for where, _, names in os.walk(tree):
        for name in names:
            Path(where, name).read_bytes()


def prepare_tree(directory, size):
    """Copies of real files, small and large, until that many bytes are there."""
    tree = directory / f"tree-{size // MIB}"
    if tree.exists():
        return tree
    partial = directory / "tree-partial"
    shutil.rmtree(partial, ignore_errors=True)
    for source in TREE_SOURCES:
        copy_some(Path(source), partial / Path(source).name, size // len(TREE_SOURCES))
    partial.rename(tree)
    return tree


def copy_some(source, target, left):
    for where, directories, names in os.walk(source):
        directories.sort()
        for name in sorted(names):
            path = Path(where, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size > left:
                continue
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
            left -= path.stat().st_size


def measure_tree(tree):
    sizes = [Path(where, name).stat().st_size for where, _, names in os.walk(tree) for name in names]
    return len(sizes), sum(sizes)


# ---- values ----

def values(build, directory, quick):
    size, memory = (QUICK_VALUES, 128 * MIB) if quick else (N_VALUES, 256 * MIB)
    fill_values(build, directory)
    tried = {}
    for contender, data, variant, in_quick in CONTEST:
        for width in ([1, 32] if quick else [1, 4, 16, 32]):
            if quick and not in_quick:
                continue
            machine.say(f"values: {contender} {variant}, {width} at once")
            how = (contender, data, variant, width)
            tried[how] = read_values(build, directory, how, size, memory, 0.6 if quick else 1.5)
    best = {name: max((how for how in tried if how[0] == name), key=lambda how: tried[how]["per_second"])
            for name in ("quire", "sqlite", "rocksdb")}
    rounds = []
    for number in range(2 if quick else 5):
        machine.say(f"values: round {number + 1}")
        rounds.append({name: read_values(build, directory, how, size, memory, 0.6 if quick else 4)
                       for name, how in best.items()})
    rows, ratios = summarise_values(tried, best, rounds)
    rows.append(row("fio, O_DIRECT, 32 at once", "64 KiB, nothing kept", ceiling(directory, size), "values/s"))
    return rows, ratios


def ceiling(directory, size):
    """What the disk gives for such reads, without a cache."""
    out = machine.command([
        "fio", "--name=values", f"--filename={directory / 'values-sqlite-65536'}", f"--size={size * VALUE_BYTES}",
        "--rw=randread", f"--bs={VALUE_BYTES}", "--direct=1", "--ioengine=io_uring", "--iodepth=32", "--norandommap=1",
        "--randrepeat=0", "--thread=1", "--readonly", "--time_based=1", "--runtime=1", "--output-format=json"])
    return json.loads(out[out.index("{"):])["jobs"][0]["read"]["iops"]


def fill_values(build, directory):
    for contender, data in dict.fromkeys((c, d) for c, d, _, _ in CONTEST):
        mark = directory / f"{data}.filled"
        if mark.exists():
            continue
        machine.say(f"writing values: {data}")
        path = directory / data
        shutil.rmtree(path, ignore_errors=True)
        variant = data.rpartition("-")[2] if contender == "sqlite" else ""
        machine.command([build / "bench" / f"bench-values-{contender}", "--path", path, "--values", N_VALUES,
                         "--variant", variant, "fill"])
        mark.touch()


def read_values(build, directory, how, size, memory, seconds):
    contender, data, variant, width = how
    if not drop_all():
        for file in [directory / data] if (directory / data).is_file() else (directory / data).iterdir():
            machine.drop_cache(file)
    out, usage = machine.capped(build, memory, [
        build / "bench" / f"bench-values-{contender}", "--path", directory / data, "--values", size, "--memory",
        memory, "--seconds", seconds, "--width", width, "--variant", variant, "read"])
    sample = json.loads(out)
    if sample["wrong"]:
        raise machine.Failed(f"{contender} {variant}: {sample['wrong']} wrong values")
    sample["per_second"] = sample["reads"] / sample["seconds"]
    sample["cpu_us"] = sample["cpu_seconds"] * 1e6 / max(sample["reads"], 1)
    sample["peak_bytes"] = usage["peak_bytes"]
    return sample


def configuration(how):
    contender, data, variant, width = how
    words = [data.rpartition("-")[2] + " B pages"] if contender == "sqlite" else []
    return ", ".join(words + ([variant] if variant else []) + [f"{width} at once"])


def summarise_values(tried, best, rounds):
    rows = [row(f"{how[0]}: {configuration(how)}", "tried", sample["per_second"], "values/s")
            for how, sample in tried.items()]
    for name, how in best.items():
        system = f"{name}: {configuration(how)}"
        rows += [row(system, "values", median([r[name]["per_second"] for r in rounds]), "values/s"),
                 row(system, "cpu", median([r[name]["cpu_us"] for r in rounds]), "µs/value"),
                 row(system, "peak memory", int(median([r[name]["peak_bytes"] for r in rounds])) // MIB, "MiB")]

    def over(peer):
        return median([r["quire"]["per_second"] / r[peer]["per_second"] for r in rounds])

    def over_one_thread(peer):
        """Quire's coroutines share one thread; a peer's best with one."""
        return median([r["quire"]["per_second"] for r in rounds]) / max(
            sample["per_second"] for how, sample in tried.items() if how[0] == peer and how[3] == 1)

    return rows, {"quire_over_sqlite": over("sqlite"), "quire_over_blobdb": over("rocksdb"),
                  "quire_over_sqlite_one_thread": over_one_thread("sqlite"),
                  "quire_over_blobdb_one_thread": over_one_thread("rocksdb")}
