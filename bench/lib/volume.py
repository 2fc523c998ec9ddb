"""volume: block devices by NBD: volumes beside qcow2 (qemu-nbd), nbdkit's file and cow, and the disk itself.

fio's nbd engine, 4 KiB, depth 32, one job, a unix socket, unless said otherwise. Every server has a memory cgroup of its own with the same
limit, and every write test ends with a flush that counts (end_fsync=1). Each gets its better settings: qemu-nbd with
cache=writeback and with cache=none (aio=native), of which ratios take the faster one; nbdkit cow with blocks of 4 KiB, nbdkit file told
that access is random. Systems take turns; ratios are medians of each round's.

Stores are sparse files of 64 GiB, but for ageing.

  fresh     writes of blocks that were never written, anywhere in an empty volume that is sixteen times as large as what is written: one in
            each 64 KiB on average, which is where a format that allocates clusters has to
  snap      the same again right after a snapshot (qcow2: an internal one)
  rewrite   writes to an image that has all its clusters
  fua       the fresh volume, a flush after each write
  randread  of data four times the memory; snap50: the same through 50 snapshots, each with a fiftieth of the blocks written anew
  seq       1 MiB at depth 8, beside O_DIRECT of a file whose blocks are written already
  ageing    a volume that is 80 % of its store's capacity, the store's own included; filled in order, then overwritten at random twice (--quick:
            half of it, in a smaller store, and not 80/20), at depth 32: bytes written to media, as the kernel counts them, over bytes written by the client, of
            each eighth and in all; beside it a model of cleaning that has no costs of its own (volume_model.py)
  lone      a durable write of 4 KiB at a time, in an empty store: bytes written to media for each of the client's
  map       memory and media that a mapping of 4 KiB takes, after random writes, from what the store counts; with all of the map in memory
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import anon
import machine
import volume_model
from report import median, ratio, row

FLOORS = {
    "freshwrite_over_qcow2": (">=", 2.5),
    "freshwrite_over_nbdkitcow": (">=", 1),
    "snapwrite_over_freshwrite": (">=", 0.9),
    "randread_over_qcow2": (">=", 2.5),
    "randread_over_nbdkitfile": (">=", 1),
    "randread_snap50_over_none": (">=", 0.9),
    "fua_over_qcow2": (">=", 2),
    "seqread_over_disk": (">=", 0.9),
    "seqwrite_over_disk": (">=", 0.9),
    "map_ram_bytes_per_mapping": ("<=", 16),
    "map_media_bytes_per_mapping": ("<=", 24),
    "write_amplification": ("<=", 3.0),
    "write_amplification_8020": ("<=", 2.6),
}
MIB = 1 << 20
SNAPSHOTS = 50
AGED_PART = 0.8
AGED_PARTS = 8  # of the curve
HOT = (0.8, 0.2)
QCOW2 = {"qcow2, writeback": ("--cache=writeback",), "qcow2, none": ("--cache=none", "--aio=native")}


class Sizes:
    def __init__(self, quick):
        self.rounds = 1 if quick else 5
        self.fresh = (48 if quick else 256) * MIB
        self.fresh_disk = 16 * self.fresh
        self.fua = (4 if quick else 16) * MIB
        self.data = (512 if quick else 1024) * MIB  # that is read
        self.memory = self.data // 4
        self.read = (64 if quick else 256) * MIB
        self.seq = (128 if quick else 512) * MIB
        self.aged_store = (128 if quick else 2048) * MIB
        self.overwritten = 0.5 if quick else 2  # times
        self.lone = (1 if quick else 4) * MIB


# ---- servers ----

@contextlib.contextmanager
def cgroup(limit):
    """A memory cgroup; yields its folder, or None where none can be made."""
    v1 = (anon.V1 / "memory.limit_in_bytes").exists()
    path = (anon.V1 if v1 else anon.V2) / f"quire-bench-volume-{os.getpid()}"
    if os.geteuid() != 0 or not (v1 or (anon.V2 / "cgroup.controllers").exists()):
        yield None
        return
    path.mkdir()
    try:
        (path / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        yield path
    finally:
        remove(path)


def remove(path):
    """It is busy for a moment after its last process has ended."""
    for _ in range(500):
        try:
            path.rmdir()
            return
        except OSError:
            time.sleep(0.01)


@contextlib.contextmanager
def server(limit, words, socket, ready=None):
    """A process in a cgroup of its own, until the block ends: its pid."""
    socket.unlink(missing_ok=True)
    with cgroup(limit) as group:
        script = (f"echo $$ > {group}/cgroup.procs && " if group is not None else "") + 'exec "$@"'
        with open(socket.with_suffix(".err"), "w+") as said:
            child = subprocess.Popen(["sh", "-c", script, "sh", *map(str, words)], stdout=subprocess.PIPE, stderr=said, text=True,
                                     env={**os.environ, "TMPDIR": str(socket.parent)})
            try:
                while not socket.exists() or (ready is not None and ready not in child.stdout.readline()):
                    if child.poll() is not None:
                        said.seek(0)
                        raise machine.Failed(f"{words[0]}: exit {child.returncode}: {said.read()[-300:]}")
                    time.sleep(0.01)
                yield child
            finally:
                child.send_signal(signal.SIGTERM)
                child.wait()
                child.stdout.close()
        if child.returncode not in (0, -signal.SIGTERM):
            raise machine.Failed(f"{words[0]}: ended with {child.returncode}")


def fio(words, directory):
    """What the one job did: its operations a second, the flush at the end included. (With randrepeat fio would take the same numbers whatever the
    seed.)"""
    out = directory / "fio.json"
    machine.command(["fio", "--name=job", "--end_fsync=1", "--randrepeat=0", "--norandommap=0", "--output-format=json",
                     f"--output={out}", *words])
    job = json.loads(out.read_text())["jobs"][0]
    if job["error"] != 0:
        raise machine.Failed(f"fio: error {job['error']}")
    done = max(job["read"]["total_ios"], job["write"]["total_ios"])
    return done * 1000 / max(1, job["job_runtime"])


# ---- what is measured ----

class Contest:
    def __init__(self, build, quick):
        self.quire = build / "src" / "cli" / "quire"
        self.quick, self.sizes = quick, Sizes(quick)
        self.dir = machine.data_dir() / "volume"
        self.dir.mkdir(exist_ok=True)
        self.socket = self.dir / "socket"
        self.trash = self.dir / "trash"
        shutil.rmtree(self.trash, ignore_errors=True)
        self.kept = self.dir / f"data-{self.sizes.data // MIB}"
        self.samples = {}

    def sample(self, system, what, value):
        self.samples.setdefault((system, what), []).append(value)

    def nbd(self, export, pattern, size, *more, block="4k", depth=32, seed=1):
        uri = f"nbd+unix:///{export}?socket={self.socket}"
        return fio(["--ioengine=nbd", f"--uri={uri}", f"--rw={pattern}", f"--bs={block}", f"--iodepth={depth}", f"--io_size={size}",
                    f"--randseed={seed}", *more], self.dir)

    def volume(self, *words):
        return machine.command([self.quire, "volume", *words])

    def facts(self, *words):
        return json.loads(self.volume(*words, "--json"))

    # ---- each system's server ----

    def serve_quire(self, store, *more, reads=False):
        # Who only reads keeps blocks in half of the budget, and has next to nothing else; who writes has buffers of segments besides.
        budget = self.sizes.memory if reads else max(16 * MIB, self.sizes.memory // 2)
        return server(self.sizes.memory, [self.quire, "serve", store, "--nbd", f"unix:{self.socket}", "--budget", budget, *more],
                      self.socket, ready="serving unix:")

    def serve_qcow2(self, image, cache):
        return server(self.sizes.memory, ["qemu-nbd", "-t", "-f", "qcow2", *QCOW2[cache], "-x", "a", "-k", self.socket, image], self.socket)

    def serve_nbdkit(self, *words):
        return server(self.sizes.memory, ["nbdkit", "-f", "-e", "a", "-U", self.socket, *words], self.socket)

    # ---- fresh writes, snapshots, flushes ----

    def fresh_quire(self):
        store, sizes = self.dir / "fresh-store", self.sizes
        shutil.rmtree(store, ignore_errors=True)
        machine.command([self.quire, "init", store, "--capacity", "64G"])
        self.volume("create", store, "a", "--size", sizes.fresh_disk)
        with self.serve_quire(store):
            fresh = self.nbd("a", "randwrite", sizes.fresh)
            self.volume("snapshot", store, "a@one")
            snap = self.nbd("a", "randwrite", sizes.fresh)
            fua = self.nbd("a", "randwrite", sizes.fua, "--fsync=1", seed=2)
        shutil.rmtree(store)
        self.sample("quire", "fresh", fresh)
        self.sample("quire", "snap", snap)
        self.sample("quire", "fua", fua)

    def fresh_qcow2(self, cache):
        image, sizes = self.dir / "fresh.qcow2", self.sizes
        image.unlink(missing_ok=True)
        machine.command(["qemu-img", "create", "-q", "-f", "qcow2", image, sizes.fresh_disk])
        with self.serve_qcow2(image, cache):
            self.sample(cache, "fresh", self.nbd("a", "randwrite", sizes.fresh))
            if self.quick:
                self.sample(cache, "fua", self.nbd("a", "randwrite", sizes.fua, "--fsync=1", seed=2))
        if not self.quick:
            machine.command(["qemu-img", "snapshot", "-c", "one", image])
            with self.serve_qcow2(image, cache):
                self.sample(cache, "snap", self.nbd("a", "randwrite", sizes.fresh))
                self.sample(cache, "fua", self.nbd("a", "randwrite", sizes.fua, "--fsync=1", seed=2))
        self.throw_away(image)

    def throw_away(self, image):
        """What is in a thousand pieces may take half a minute to be removed, where the file system discards: not with --quick, then others do
        that when all is measured."""
        if self.quick:
            self.trash.mkdir(exist_ok=True)
            image.rename(self.trash / str(len(list(self.trash.iterdir()))))
        else:
            image.unlink()

    def fresh_nbdkit(self):
        base = self.dir / "fresh.raw"
        with open(base, "wb") as file:
            file.truncate(self.sizes.fresh_disk)
        with self.serve_nbdkit("--filter=cow", "file", base, "cow-block-size=4096"):
            self.sample("nbdkit cow", "fresh", self.nbd("a", "randwrite", self.sizes.fresh))
        base.unlink()

    # ---- reading, and what has all its blocks ----

    def prepare(self):
        """Images of the same size, all written at random: made once."""
        if (self.kept / "ready").exists() and subprocess.run([self.quire, "volume", "ls", self.kept / "store"],
                                                             capture_output=True, check=False).returncode == 0:
            return
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir()
        machine.say("data to read, made once")
        size, store = self.sizes.data, self.kept / "store"
        machine.command([self.quire, "init", store, "--capacity", "64G"])
        for name in ("none", "snap50"):
            self.volume("create", store, name, "--size", size)
        with self.serve_quire(store):
            for name in ("none", "snap50"):
                self.nbd(name, "randwrite", size)
            for i in range(SNAPSHOTS):
                self.volume("snapshot", store, f"snap50@{i}")
                self.nbd("snap50", "randwrite", size // SNAPSHOTS, seed=3 + i)
        machine.command(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", self.kept / "qcow2", size])
        with self.serve_qcow2(self.kept / "qcow2", "qcow2, writeback"):
            self.nbd("a", "write", size, block="1m", depth=8)
        fio([f"--filename={self.kept / 'raw'}", "--ioengine=libaio", "--direct=1", "--rw=write", "--bs=1m", "--iodepth=8", f"--size={size}"],
            self.dir)
        (self.kept / "ready").touch()

    def cold(self, name):
        os.sync()
        machine.drop_cache(self.kept / name)

    def reads(self):
        sizes = self.sizes
        self.cold("store/capacity")
        with self.serve_quire(self.kept / "store", reads=True):
            for volume in ("none", "snap50"):
                self.sample("quire", f"randread, {volume}", self.nbd(volume, "randread", sizes.read, seed=5))
        for cache in QCOW2:
            self.cold("qcow2")
            with self.serve_qcow2(self.kept / "qcow2", cache):
                self.sample(cache, "randread, none", self.nbd("a", "randread", sizes.read, seed=5))
                if not self.quick or cache == "qcow2, writeback":
                    self.sample(cache, "rewrite", self.nbd("a", "randwrite", sizes.read // 2, seed=6))
        self.cold("raw")
        with self.serve_nbdkit("file", self.kept / "raw", "fadvise=random"):
            self.sample("nbdkit file", "randread, none", self.nbd("a", "randread", sizes.read, seed=5))
            if not self.quick:
                self.sample("nbdkit file", "rewrite", self.nbd("a", "randwrite", sizes.read // 2, seed=6))

    # ---- sequential, beside the disk ----

    def sequential(self):
        store, size = self.dir / "seq-store", self.sizes.seq
        shutil.rmtree(store, ignore_errors=True)
        machine.command([self.quire, "init", store, "--capacity", "64G"])
        self.volume("create", store, "a", "--size", size)
        disk = [f"--filename={self.kept / 'raw'}", "--ioengine=libaio", "--direct=1", "--bs=1m", "--iodepth=8", f"--size={size}"]
        self.sample("disk", "seqwrite", fio([*disk, "--rw=write"], self.dir))
        with self.serve_quire(store):
            self.sample("quire", "seqwrite", self.nbd("a", "write", size, block="1m", depth=8))
            self.sample("quire", "seqread", self.nbd("a", "read", size, block="1m", depth=8))
        self.sample("disk", "seqread", fio([*disk, "--rw=read"], self.dir))
        shutil.rmtree(store)

    # ---- ageing, the map ----

    def ageing(self, what, hot=None):
        store, capacity = self.dir / "aged-store", self.sizes.aged_store
        size = int(capacity * AGED_PART) // MIB * MIB
        times, part = self.sizes.overwritten, int(self.sizes.overwritten * size) // AGED_PARTS // MIB * MIB
        zones = ["--random_distribution=zoned:{0:.0f}/{1:.0f}:{2:.0f}/{3:.0f}".format(
            100 * hot[0], 100 * hot[1], 100 - 100 * hot[0], 100 - 100 * hot[1])] if hot else []
        shutil.rmtree(store, ignore_errors=True)
        machine.command([self.quire, "init", store, "--capacity", capacity])
        self.volume("create", store, "a", "--size", size)
        with self.serve_quire(store) as daemon:
            written, rates = [], []
            try:
                self.nbd("a", "write", size, block="1m", depth=8)
                written.append(written_bytes(daemon.pid))
                for i in range(AGED_PARTS):
                    rates.append(self.nbd("a", "randwrite", part, "--norandommap=1", *zones, seed=7 + i))
                    written.append(written_bytes(daemon.pid))
            except machine.Failed as failure:
                # No figure then; the others still count.
                print(f"bench/run: ageing, {what}: {str(failure).splitlines()[-1]}", file=sys.stderr)
                return
        shutil.rmtree(store)
        self.sample("quire", f"aged write, {what}", len(rates) / sum(1 / rate for rate in rates))
        self.sample("quire", f"amplification, {what}", (written[-1] - written[0]) / (AGED_PARTS * part))
        for i in range(AGED_PARTS):
            self.sample("quire", f"amplification, {what}, to {(i + 1) * times / AGED_PARTS:g} × the volume", (written[i + 1] - written[i]) / part)
        self.sample("model", f"amplification, {what}", volume_model.amplification(AGED_PART, times, hot))

    def lone(self):
        store, size = self.dir / "lone-store", self.sizes.lone
        shutil.rmtree(store, ignore_errors=True)
        machine.command([self.quire, "init", store, "--capacity", "1G"])
        self.volume("create", store, "a", "--size", 16 * size)
        with self.serve_quire(store) as daemon:
            before = written_bytes(daemon.pid)
            self.nbd("a", "randwrite", size, "--fsync=1", depth=1)
            self.sample("quire", "amplification of lone durable writes", (written_bytes(daemon.pid) - before) / size)
        shutil.rmtree(store)

    def mappings(self):
        store = self.dir / "map-store"
        shutil.rmtree(store, ignore_errors=True)
        machine.command([self.quire, "init", store, "--capacity", "64G"])
        self.volume("create", store, "a", "--size", self.sizes.fresh_disk)
        with self.serve_quire(store):
            self.nbd("a", "randwrite", self.sizes.fresh)
            self.volume("checkpoint", store)
            one, whole = self.facts("stat", store, "a"), self.facts("stat", store)  # the first looks at all of the map
        shutil.rmtree(store)
        self.sample("quire", "map ram", whole["map_bytes"] / one["extents"])
        self.sample("quire", "map media", (whole["live_bytes"] - one["data_bytes"]) / one["extents"])

    def round(self):
        self.fresh_quire()
        for cache in QCOW2:
            self.fresh_qcow2(cache)
        self.fresh_nbdkit()
        self.reads()
        self.sequential()


def written_bytes(pid):
    with open(f"/proc/{pid}/io") as file:
        return int(next(line for line in file if line.startswith("write_bytes")).split()[1])


def run(build, quick):
    for program in ("fio", "qemu-nbd", "qemu-img", "nbdkit"):
        machine.need(program)
    contest = Contest(build, quick)
    contest.prepare()
    for number in range(contest.sizes.rounds):
        machine.say(f"round {number + 1} of {contest.sizes.rounds}")
        contest.round()
    machine.say("ageing")
    contest.ageing("uniform")
    if not quick:
        contest.ageing("80/20", HOT)
    machine.say("lone writes")
    contest.lone()
    machine.say("mappings")
    contest.mappings()
    machine.say_done()
    subprocess.Popen(["rm", "-rf", contest.trash], start_new_session=True)
    return summarise(contest.samples)


def summarise(samples):
    rows, units = [], {"map": "bytes", "amplification": "×", "seqwrite": "MiB/s", "seqread": "MiB/s"}
    for (system, what), values in samples.items():
        unit = units.get(what.split(",")[0].split(" ")[0], "requests/s")
        if not what.startswith("map"):
            rows.append(row(system, what, median(values), unit))

    def each(over, under):
        """Round by round; `under` are systems, the fastest of which counts."""
        top, bottoms = samples[over], [samples[u] for u in under]
        return median([ratio(value, max(b[i] for b in bottoms)) for i, value in enumerate(top)])

    def qcow2(what):
        return [(cache, what) for cache in QCOW2]

    ratios = {
        "freshwrite_over_qcow2": each(("quire", "fresh"), qcow2("fresh")),
        "freshwrite_over_nbdkitcow": each(("quire", "fresh"), [("nbdkit cow", "fresh")]),
        "snapwrite_over_freshwrite": each(("quire", "snap"), [("quire", "fresh")]),
        "randread_over_qcow2": each(("quire", "randread, none"), qcow2("randread, none")),
        "randread_over_nbdkitfile": each(("quire", "randread, none"), [("nbdkit file", "randread, none")]),
        "randread_snap50_over_none": each(("quire", "randread, snap50"), [("quire", "randread, none")]),
        "fua_over_qcow2": each(("quire", "fua"), qcow2("fua")),
        "seqread_over_disk": each(("quire", "seqread"), [("disk", "seqread")]),
        "seqwrite_over_disk": each(("quire", "seqwrite"), [("disk", "seqwrite")]),
    }
    figures = {"map_ram_bytes_per_mapping": ("map ram", "bytes"), "map_media_bytes_per_mapping": ("map media", "bytes"),
               "write_amplification": ("amplification, uniform", "×"), "write_amplification_8020": ("amplification, 80/20", "×")}
    for key, (what, unit) in figures.items():
        if ("quire", what) in samples or key == "write_amplification":
            ratios[key] = median(samples.get(("quire", what), [None]))
            if what.startswith("map"):
                rows.append(row("quire", key, ratios[key], unit))
    return rows, ratios
