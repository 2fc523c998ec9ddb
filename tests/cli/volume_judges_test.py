"""Volumes by NBD, judged by clients that are not ours: nbdinfo, nbdcopy, libnbd from Python, qemu-img, qemu-io, fio; and servers that are killed
while they work for such clients.

A tool that is not installed skips its tests, and says so.
"""
import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

from store_case import WithStore
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import judges  # noqa: E402
from judges import needs, needs_libnbd  # noqa: E402

run = functools.partial(judges.run, timeout=120)
MIB = 1 << 20
BLOCK = 4096


class Served(WithStore):
    def setUp(self):
        super().setUp()
        self.socket = self.dir / "nbd"

    def uri(self, name):
        return f"nbd+unix:///{name}?socket={self.socket}"

    def serve_volumes(self, *words):
        daemon = self.serve("--nbd", f"unix:{self.socket}", *words)
        self.assertEqual(daemon.stdout.readline().decode(), f"serving unix:{self.socket} (pid {daemon.pid})\n")
        return daemon

    @contextlib.contextmanager
    def serving(self, *words):
        daemon = self.serve_volumes(*words)
        yield
        self.stop(daemon)
        self.clean()

    def volume(self, *words):
        return self.good("volume", *words)

    def create(self, name, size="8M", *words):
        self.volume("create", self.store, name, "--size", size, *words)

    def image(self, n_bytes):
        path = self.dir / "image"
        with open(path, "wb") as file:
            for i in range(0, n_bytes, 3 * MIB):
                file.seek(i)
                file.write(os.urandom(MIB + 4096))
            file.truncate(n_bytes)
        return path


class Judged(Served):
    @needs("nbdinfo")
    def test_what_is_served(self):
        for name in ("a", "b"):
            self.create(name)
        self.volume("snapshot", self.store, "a@one")
        with self.serving():
            def served():
                return sorted(e["export-name"] for e in json.loads(run("nbdinfo", "--list", "--json", self.uri("")))["exports"])
            self.assertEqual(served(), ["a", "a@one", "b"])
            # What comes and goes meanwhile.
            self.volume("clone", self.store, "a@one", "c")
            self.volume("rm", self.store, "b")
            self.assertEqual(served(), ["a", "a@one", "c"])
            self.refused(1, "volume a: it has snapshots", "volume", "rm", self.store, "a")
            self.assertEqual(served(), ["a", "a@one", "c"])
            self.assertTrue(json.loads(run("nbdinfo", "--json", self.uri("a@one")))["exports"][0]["is_read_only"])
        with self.serving("c"):
            self.create("d")
            self.assertEqual(served(), ["c"])
        with self.serving("--read-only", "a"):
            self.assertTrue(json.loads(run("nbdinfo", "--json", self.uri("a")))["exports"][0]["is_read_only"])

    @needs("qemu-io", "qemu-img", "nbdinfo")
    def test_what_has_changed_is_the_same_for_all(self):
        self.create("a")
        with self.serving():
            run("qemu-io", "-f", "raw", self.uri("a"), "-c", "write -P 1 0 1M")
            self.volume("snapshot", self.store, "a@one")
            run("qemu-io", "-f", "raw", self.uri("a"), "-c", "write -P 2 64k 8k", "-c", "write -z 512k 64k", "-c", "discard 3M 1M", "-c", "write -P 3 2M 512")
            since = next(f["generation"] for f in self.facts("volume", "ls", self.store) if f["name"] == "a@one")
            ours = [(e["offset"], e["bytes"]) for e in self.facts("volume", "diff", self.store, "a", "--since", "@one")]
            dirty = [(64 << 10, 8 << 10), (512 << 10, 64 << 10), (2 * MIB, BLOCK)]
            self.assertEqual([e for e in ours if e[0] < 3 * MIB], dirty)
            context = f"qemu:dirty-bitmap:since-{since}"
            theirs = json.loads(run("nbdinfo", "--json", f"--map={context}", self.uri("a")))
            self.assertEqual(merged((e["offset"], e["length"]) for e in theirs if e["type"] == 1), merged(ours))
            # qemu-img shows what is dirty as what holds no data.
            opts = f"driver=nbd,server.type=unix,server.path={self.socket},export=a,x-dirty-bitmap={context}"
            mapped = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", opts))
            self.assertEqual(merged((m["start"], m["length"]) for m in mapped if not m["data"]), merged(ours))
        # The same after a kill.
        daemon = self.serve_volumes()
        daemon.kill()
        daemon.wait()
        self.assertEqual([(e["offset"], e["bytes"]) for e in self.facts("volume", "diff", self.store, "a", "--since", "@one")], ours)

    @needs("nbdcopy", "qemu-img")
    def test_copies(self):
        image = self.image(8 * MIB)
        self.create("a")
        self.create("b")
        with self.serving():
            run("nbdcopy", "--connections=4", "--requests=32", image, self.uri("a"))
            run("nbdcopy", "--connections=2", self.uri("a"), self.dir / "back")
            self.assertEqual((self.dir / "back").read_bytes(), image.read_bytes())
            run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.uri("a"), self.uri("b"))
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.uri("b")))
            self.volume("snapshot", self.store, "b@one")
            self.volume("clone", self.store, "b@one", "c")
            run("qemu-io", "-f", "raw", self.uri("c"), "-c", "write -P 9 4k 4k", "-c", "read -P 9 4k 4k")
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.uri("b@one")))
            holes = [(m["start"], m["length"]) for m in json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", self.uri("b"))) if m["zero"]]
            self.assertEqual(holes, [(MIB + BLOCK, 2 * MIB - BLOCK), (4 * MIB + BLOCK, 2 * MIB - BLOCK), (7 * MIB + BLOCK, MIB - BLOCK)])

    @needs("qemu-io")
    def test_parts_of_blocks_zeros_and_discards(self):
        self.create("a")
        with self.serving():
            said = run("qemu-io", "-f", "raw", self.uri("a"), "-c", "write -P 7 1000 5000", "-c", "read -P 7 1000 5000", "-c", "read -P 0 0 1000",
                       "-c", "write -P 5 1M 3M", "-c", "write -z -u 2M 100k", "-c", "read -P 0 2M 100k", "-c", "read -P 5 1M 1M", "-c", "discard 3M 64k",
                       "-c", "read -P 0 3M 64k", "-c", "write -f -P 4 7M 1M", "-c", "flush", "-c", "read -P 4 7M 1M")
            self.assertNotIn("fail", said.lower())

    @needs("fio")
    def test_fio_verifies_what_it_wrote(self):
        if "nbd" not in subprocess.run(["fio", "--enghelp"], capture_output=True, text=True).stdout:
            self.skipTest("this fio has no engine nbd")
        self.create("a", "6M")
        with self.serving():
            for seed in (1, 2):  # the second time over what a snapshot has
                said = run("fio", "--name=verified", "--ioengine=nbd", f"--uri={self.uri('a')}", "--rw=randwrite", "--bsrange=512-64k", "--size=6M",
                           "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--fsync=64", f"--randseed={seed}", cwd=self.dir)
                self.assertIn("err= 0", said)
                self.volume("snapshot", self.store, f"a@{seed}")

    @needs_libnbd()
    def test_libnbd_from_python(self):
        self.create("a")
        script = self.dir / "script.py"
        script.write_text(LIBNBD)
        with self.serving():
            run("/usr/bin/python3", script, self.socket)


def merged(extents):
    """Neighbours are one."""
    found = []
    for offset, n in extents:
        if found and sum(found[-1]) == offset:
            found[-1] = (found[-1][0], found[-1][1] + n)
        else:
            found.append((offset, n))
    return found


class Killed(Served):
    """The daemon is killed while a client works, and started again; clients connect again."""

    def kill(self, daemon):
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        return self.serve_volumes()

    @needs_libnbd()
    def test_what_was_flushed_is_there(self):
        """Any number of writes under way; a flush covers those that were answered before it was sent."""
        self.create("a", "2M")
        script = self.dir / "script.py"
        script.write_text(WRITER)
        daemon = self.serve_volumes()
        client = subprocess.Popen(["/usr/bin/python3", script, self.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.ended_client, client)
        for _ in range(4):
            for _ in range(3):
                self.assertEqual(client.stdout.readline(), "flushed\n")
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            line = client.stdout.readline()
            while line == "flushed\n":
                line = client.stdout.readline()
            self.assertEqual(line, "lost\n")
            daemon = self.serve_volumes()
            client.stdin.write("again\n")
            client.stdin.flush()
            self.assertEqual(client.stdout.readline(), "good\n")
        client.stdin.close()
        self.stop(daemon)
        client.stdout.read()
        self.assertEqual(client.wait(60), 0)
        self.clean()

    @staticmethod
    def ended_client(client):
        if client.poll() is None:
            client.kill()
            client.wait()
        with contextlib.suppress(BrokenPipeError):
            client.stdin.close()
        client.stdout.close()

    @needs("qemu-io")
    def test_a_client_that_reconnects_by_itself(self):
        """It sends again what was not answered, and nothing that was: so every answer has to be durable."""
        self.create("a", "8M", "--durable")
        daemon = self.serve_volumes()
        opts = f"driver=nbd,server.type=unix,server.path={self.socket},export=a,reconnect-delay=60"
        client = subprocess.Popen(["qemu-io", "--image-opts", opts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self.ended_client, client)
        said = []

        def tell(command, until):
            client.stdin.write(command + "\n")
            client.stdin.flush()
            line = ""
            while not line.startswith(until):
                line = client.stdout.readline().removeprefix("qemu-io> ")
                self.assertNotEqual(line, "", said)
                said.append(line)
        for i in range(48):
            tell(f"write -P {i + 1} {i * 8}k 8k", "wrote")
            if i % 12 == 11:
                daemon = self.kill(daemon)
        for i in range(48):
            tell(f"read -P {i + 1} {i * 8}k 8k", "read")
        client.stdin.close()
        self.assertEqual(client.wait(60), 0)
        self.assertNotIn("fail", "".join(said).lower())
        self.stop(daemon)
        self.clean()

    @needs("nbdcopy")
    def test_a_copy_that_is_made_again(self):
        image = self.image(8 * MIB)
        self.create("a")
        daemon = self.serve_volumes()
        run("nbdcopy", "--flush", image, self.uri("a"))
        self.volume("snapshot", self.store, "a@one")
        daemon = self.kill(daemon)
        run("nbdcopy", self.uri("a@one"), self.dir / "back")
        self.assertEqual((self.dir / "back").read_bytes(), image.read_bytes())
        self.stop(daemon)
        self.clean()


LIBNBD = """
import sys, nbd
MIB = 1 << 20
def connect(name="a"):
    h = nbd.NBD()
    for context in ("base:allocation", "qemu:allocation-depth"):
        h.add_meta_context(context)
    h.set_export_name(name)
    h.connect_unix(sys.argv[1])
    return h
a, b = connect(), connect()
assert a.can_multi_conn() and a.can_fast_zero() and a.can_trim() and not a.is_read_only()
assert a.get_block_size(nbd.SIZE_PREFERRED) == 4096
a.pwrite(b"x" * 512, 3 * 4096 + 1)
assert b.pread(514, 3 * 4096) == b"\\0" + b"x" * 512 + b"\\0"
a.zero(MIB, MIB, nbd.CMD_FLAG_FAST_ZERO)
a.zero(MIB, 2 * MIB, nbd.CMD_FLAG_NO_HOLE)
seen = {}
def extents(name, offset, entries, error):
    seen[name] = entries
    return 0
b.block_status(4 * MIB, 0, extents)
assert seen["base:allocation"] == [3 * 4096, 3, 4096, 0, 2 * MIB - 4 * 4096, 3, MIB, 2, MIB, 3], seen
assert seen["qemu:allocation-depth"][2:4] == [4096, 1], seen
# A flush on one connection is one for all.
b.pwrite(b"y" * 4096, 0)
a.flush()
cookies = [a.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i + 1]) * 4096), 4096 * i, flags=nbd.CMD_FLAG_FUA) for i in range(60)]
while cookies:
    a.poll(-1)
    cookies = [c for c in cookies if not a.aio_command_completed(c)]
assert all(b.pread(4096, 4096 * i) == bytes([i + 1]) * 4096 for i in range(60))
a.shutdown()
b.shutdown()
"""

# Blocks hold the number of the write that made them. After a loss each block's is at least that of the last write to it that was flushed, and at
# most that of the last one that was sent.
WRITER = """
import random, struct, sys, nbd
BLOCKS, DEPTH = 512, 32
rng = random.Random(5)
durable, answered, sent, number = [0] * BLOCKS, [0] * BLOCKS, [0] * BLOCKS, 0

def connect():
    h = nbd.NBD()
    h.set_export_name("a")
    h.connect_unix(sys.argv[1])
    return h

def check(h):
    for i in range(BLOCKS):
        block = h.pread(4096, 4096 * i)
        n = struct.unpack_from("<Q", block)[0]
        assert block == struct.pack("<Q", n) * 512, ("torn", i)
        assert durable[i] <= n <= sent[i], ("lost", i, durable[i], n, sent[i])
        durable[i] = answered[i] = sent[i] = n

def work(h):
    global number
    under_way = {}
    while True:
        for _ in range(100):
            while len(under_way) < DEPTH:
                i = rng.randrange(BLOCKS)
                if i in (b for b, n in under_way.values()):
                    continue
                number += 1
                sent[i] = number
                under_way[h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(struct.pack("<Q", number) * 512)), 4096 * i)] = (i, number)
            h.poll(-1)
            for cookie in [c for c in under_way if h.aio_command_completed(c)]:
                i, n = under_way.pop(cookie)
                answered[i] = n
        before = list(answered)
        h.flush()
        for cookie in [c for c in under_way if h.aio_command_completed(c)]:
            i, n = under_way.pop(cookie)
            answered[i] = n
        durable[:] = before
        print("flushed", flush=True)

h = connect()
while True:
    try:
        work(h)
    except nbd.Error:
        print("lost", flush=True)
    if sys.stdin.readline() == "":
        sys.exit(0)
    h = connect()
    check(h)
    print("good", flush=True)
"""

if __name__ == "__main__":
    unittest.main()
