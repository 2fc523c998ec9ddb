"""The NBD server judged by clients that are not ours: nbdinfo, nbdcopy, libnbd from Python, qemu-img, qemu-io, fio.

The command is the first argument of the program. A tool that is not installed skips its tests, and says so.
"""
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from judges import needs, needs_libnbd, run  # noqa: E402

QUIRE = os.path.abspath(sys.argv.pop(1))
MIB = 1 << 20


def content(n_bytes, seed):
    """Not the same anywhere, but the same each time."""
    block = bytes((i * 167 + (i >> 8) * 13 + seed) & 0xff for i in range(65536))
    return b"".join(bytes([n & 0xff]) + block[1:] for n in range(n_bytes // 65536))


class Judged(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="quire-nbd-", dir="/var/tmp")
        self.addCleanup(self.directory.cleanup)
        self.dir = pathlib.Path(self.directory.name)
        self.socket = self.dir / "s"
        self.uri = f"nbd+unix:///?socket={self.socket}"

    @contextlib.contextmanager
    def serving(self, *words, address=None):
        """The address that it says, while it serves; it must end well."""
        address = address or f"unix:{self.socket}"
        server = subprocess.Popen([QUIRE, "serve", "--nbd", address, *map(str, words)], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        try:
            said = server.stdout.readline()
            self.assertTrue(said.startswith("serving "), said or server.stderr)
            yield said.split()[1]
        finally:
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=30)
        self.assertEqual((server.returncode, out, err), (0, "", ""))

    def image(self, n_bytes, seed=1, name="image"):
        path = self.dir / name
        path.write_bytes(content(n_bytes, seed))
        return path

    # ---- nbdinfo ----

    @needs("nbdinfo")
    def test_nbdinfo_tells_what_it_is(self):
        image = self.image(3 * MIB)
        with self.serving("--file", image, "--name", "häuschen"):
            said = json.loads(run("nbdinfo", "--json", f"nbd+unix:///h%C3%A4uschen?socket={self.socket}"))
            self.assertEqual((said["protocol"], said["TLS"], said["structured"]), ("newstyle-fixed", False, True))
            export, = said["exports"]
            self.assertEqual((export["export-name"], export["export-size"]), ("häuschen", 3 * MIB))
            for word in ("can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
                self.assertTrue(export[word], word)
            self.assertFalse(export["is_read_only"])
            self.assertEqual(export["contexts"], ["base:allocation"])
            self.assertEqual([export[f"block_size_{k}"] for k in ("minimum", "preferred", "maximum")], [1, 4096, 32 * MIB])
            listed = json.loads(run("nbdinfo", "--json", "--list", self.uri))
            self.assertEqual([e["export-name"] for e in listed["exports"]], ["häuschen"])
            refused = subprocess.run(["nbdinfo", f"nbd+unix:///other?socket={self.socket}"], capture_output=True, timeout=60)
            self.assertNotEqual(refused.returncode, 0)

    @needs("nbdinfo")
    def test_nbdinfo_maps_holes(self):
        image = self.dir / "image"
        with open(image, "wb") as file:
            file.truncate(4 * MIB)
            os.pwrite(file.fileno(), bytes([1]) * MIB, MIB)
        with self.serving("--file", image, "--read-only"):
            said = json.loads(run("nbdinfo", "--map", "--json", self.uri))
        self.assertEqual([(e["offset"], e["length"], e["type"]) for e in said], [(0, MIB, 3), (MIB, MIB, 0), (2 * MIB, 2 * MIB, 3)])

    # ---- nbdcopy ----

    @needs("nbdcopy")
    def test_nbdcopy_both_ways_through_many_connections(self):
        image = self.image(24 * MIB)
        copy, back = self.dir / "copy", self.dir / "back"
        with open(copy, "wb") as file:
            file.truncate(24 * MIB)
        with self.serving("--file", copy):
            run("nbdcopy", "--connections=4", "--requests=64", image, self.uri)
            run("nbdcopy", "--connections=4", "--allocated", self.uri, back)
        self.assertEqual(copy.read_bytes(), image.read_bytes())
        self.assertEqual(back.read_bytes(), image.read_bytes())

    # ---- libnbd ----

    @needs_libnbd()
    def test_libnbd_from_python(self):
        script = self.dir / "script.py"
        script.write_text(LIBNBD)
        with self.serving("--memory", "64M", "--name", "disk"):
            run("/usr/bin/python3", script, self.socket)

    # ---- swap ----

    @needs("nbdcopy")
    def test_swap_in_memory_and_spilled(self):
        image, noise = self.image(8 * MIB), self.dir / "noise"
        noise.write_bytes(random.Random(1).randbytes(8 * MIB))
        run(QUIRE, "init", self.dir / "store", "--capacity", "32M")
        for source, swap in ((image, "16M,cap=4M"), (noise, f"16M,cap=2M,spill={self.dir / 'store'}")):
            copy = self.dir / "copy"
            with self.serving("--swap", swap):
                run("nbdcopy", "--connections=4", source, self.uri)
                run("nbdcopy", "--connections=4", self.uri, copy)
            self.assertEqual(copy.read_bytes(), source.read_bytes() + bytes(8 * MIB))
        with self.serving("--swap", "16M,cap=2M"):
            full = subprocess.run(["nbdcopy", noise, self.uri], capture_output=True, text=True, timeout=60)
            self.assertEqual(full.returncode, 1)
            self.assertIn("No space left", full.stderr)

    # ---- qemu ----

    @needs("qemu-img", "qemu-io")
    def test_qemu(self):
        image = self.image(8 * MIB)
        served = self.dir / "served"
        with open(served, "wb") as file:
            file.truncate(8 * MIB)
        with self.serving("--file", served):
            run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, self.uri)
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.uri))
            said = run("qemu-io", "-f", "raw", self.uri, "-c", "write -P 7 -f 1000 5000", "-c", "read -P 7 1000 5000", "-c", "write -z -u 1M 2M",
                       "-c", "read -P 0 1M 2M", "-c", "discard 4M 1M", "-c", "flush", "-c", "read -P 7 1000 5000")
            self.assertNotIn("fail", said.lower())
            mapped = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", self.uri))
            zeros = [(m["start"], m["length"]) for m in mapped if m["zero"]]
            self.assertIn((MIB, 2 * MIB), zeros)
            self.assertIn((4 * MIB, MIB), zeros)

    # ---- fio ----

    @needs("fio")
    def test_fio_verifies_what_it_wrote(self):
        engines = subprocess.run(["fio", "--enghelp"], capture_output=True, text=True).stdout
        if "nbd" not in engines:
            self.skipTest("this fio has no engine nbd")
        served = self.dir / "served"
        with open(served, "wb") as file:
            file.truncate(16 * MIB)
        with self.serving("--file", served):
            said = run("fio", "--name=verified", "--ioengine=nbd", f"--uri={self.uri}", "--rw=randwrite", "--bsrange=512-64k", "--size=16M",
                       "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--fsync=64", "--randseed=7",
                       cwd=self.dir)
        self.assertIn("err= 0", said)

    # ---- doors ----

    @needs("nbdinfo")
    def test_a_socket_by_tcp_by_activation_and_by_inetd(self):
        image = self.image(MIB)
        with self.serving("--file", image, address="tcp:127.0.0.1:0") as address:
            port = address.rsplit(":", 1)[1]
            self.assertEqual(run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}").strip(), str(MIB))
        with self.serving("--file", image):
            self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)
        self.assertFalse(self.socket.exists())
        # libnbd starts the server itself: with a listening socket as descriptor 3, or with a connection as its input.
        self.assertEqual(run("nbdinfo", "--size", "--", "[", QUIRE, "serve", "--nbd", "inherited", "--file", image, "]").strip(), str(MIB))
        script = self.dir / "script.py"
        script.write_text(INETD)
        if subprocess.run(["/usr/bin/python3", "-c", "import nbd"], capture_output=True).returncode == 0:
            run("/usr/bin/python3", script, QUIRE, image)

    def test_beyond_this_machine_only_if_told_so(self):
        refused = subprocess.run([QUIRE, "serve", "--nbd", "tcp:0.0.0.0:0", "--memory", "1M"], capture_output=True, text=True, timeout=60)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertRegex(refused.stderr, r"\Aquire: 0\.0\.0\.0: reachable from other machines without TLS: [^\n]+\n\Z")
        for words in (["--nbd", "tcp:::1:1", "--memory", "1M"], ["--nbd", "x:y", "--memory", "1M"], ["--nbd", "unix:s"],
                      ["--inetd", "--nbd", "unix:s", "--memory", "1M"], ["--nbd", "unix:s", "--memory", "1M", "--file", "x"],
                      ["--nbd", "unix:s", "--memory", "0"], ["--nbd", "unix:s", "--swap", "1000"], ["--nbd", "unix:s", "--swap", "1M,cap=1K"],
                      ["--nbd", "unix:s", "--swap", "1M,spill="], ["--nbd", "unix:s", "--swap", "1M", "--read-only"],
                      ["--nbd", "unix:s", "--memory", "1M", "--connections", "0"]):
            bad = subprocess.run([QUIRE, "serve", *words], capture_output=True, text=True, timeout=60, cwd=self.dir)
            self.assertEqual((bad.returncode, bad.stdout), (2, ""), words)

    # ---- TLS ----

    @needs("nbdinfo", "psktool")
    def test_tls_by_keys(self):
        image = self.image(MIB)
        for name in ("keys", "wrong"):
            run("psktool", "-u", "me", "-p", self.dir / name)
        with self.serving("--file", image, "--tls-psk", self.dir / "keys"):
            uri = f"nbds+unix://me@/?socket={self.socket}&tls-psk-file={self.dir}"
            said = json.loads(run("nbdinfo", "--json", f"{uri}/keys"))
            self.assertTrue(said["TLS"])
            for refused in (f"{uri}/wrong", self.uri):
                self.assertNotEqual(subprocess.run(["nbdinfo", refused], capture_output=True, timeout=60).returncode, 0, refused)
            if shutil.which("nbdcopy"):
                run("nbdcopy", "--connections=2", f"{uri}/keys", self.dir / "copy")
                self.assertEqual((self.dir / "copy").read_bytes(), image.read_bytes())

    @needs("nbdinfo", "certtool")
    def test_tls_by_certificates(self):
        image = self.image(MIB)
        pki = self.dir / "pki"
        pki.mkdir()
        make_certificates(pki)
        with self.serving("--file", image, "--tls-certificates", pki, "--tls-verify"):
            uri = f"nbds+unix:///?socket={self.socket}&tls-hostname=localhost&tls-certificates={pki}"
            self.assertEqual(run("nbdinfo", "--size", uri).strip(), str(MIB))
            (pki / "client-cert.pem").unlink()
            (pki / "client-key.pem").unlink()
            self.assertNotEqual(subprocess.run(["nbdinfo", "--size", uri], capture_output=True, timeout=60).returncode, 0)


def make_certificates(directory):
    def make(name, template, *words):
        (directory / f"{name}.info").write_text(template)
        run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", directory / f"{name}-key.pem")
        run("certtool", *words, "--load-privkey", directory / f"{name}-key.pem", "--template", directory / f"{name}.info",
            "--outfile", directory / f"{name}-cert.pem")
    signed = ["--generate-certificate", "--load-ca-certificate", directory / "ca-cert.pem", "--load-ca-privkey", directory / "ca-key.pem"]
    make("ca", "cn = judge\nca\ncert_signing_key\n", "--generate-self-signed")
    make("server", "cn = localhost\ndns_name = localhost\ntls_www_server\nsigning_key\n", *signed)
    make("client", "cn = client\ntls_www_client\nsigning_key\n", *signed)


LIBNBD = """
import sys, threading, nbd
MIB = 1 << 20
def connect():
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.add_meta_context("qemu:allocation-depth")
    h.set_export_name("disk")
    h.connect_unix(sys.argv[1])
    return h
a, b = connect(), connect()
assert a.get_size() == 64 * MIB and a.can_multi_conn() and a.get_structured_replies_negotiated()
assert a.can_meta_context("base:allocation") and not a.can_meta_context("base:other")
big = bytes(range(256)) * (MIB // 8)
assert len(big) == 32 * MIB
a.pwrite(big, MIB + 1)
assert b.pread(32 * MIB, MIB + 1) == big
b.pwrite(b"x" * 513, 7, nbd.CMD_FLAG_FUA)
assert a.pread(514, 7)[:513] == b"x" * 513
a.zero(8 * MIB, MIB, nbd.CMD_FLAG_FAST_ZERO)
assert b.pread(8 * MIB, MIB) == bytes(8 * MIB)
b.trim(MIB, 16 * MIB)
a.flush()
a.cache(MIB, 0)
seen = {}
def extents(name, offset, entries, error):
    seen[name] = (offset, entries)
    return 0
a.block_status(MIB, 0, extents, nbd.CMD_FLAG_REQ_ONE)
assert seen == {"base:allocation": (0, [4096, 0]), "qemu:allocation-depth": (0, [4096, 1])}, seen
chunks = []
def chunk(data, offset, status, error):
    chunks.append((offset, len(data), status))
    return 0
assert len(a.pread_structured(3 * MIB, 0, chunk)) == 3 * MIB
assert sum(n for _, n, s in chunks if s != nbd.READ_HOLE) >= 4096
# What a good client never sends.
for h in (a, b):
    h.set_strict_mode(0)
for ask, errno in ((lambda: a.pread(1, 64 * MIB), "EINVAL"), (lambda: a.pwrite(b"1", 64 * MIB), "ENOSPC"),
                   (lambda: a.trim(10, 64 * MIB), "EINVAL"), (lambda: a.pwrite(b"1", 0, nbd.CMD_FLAG_DF), "EINVAL")):
    try:
        ask()
    except nbd.Error as e:
        assert e.errno == errno, (e.errno, errno)
    else:
        raise AssertionError(errno)
# Sixty requests at once, replies as they come.
cookies = [b.aio_pread(nbd.Buffer(65536), i * 65536) for i in range(60)]
while cookies:
    b.poll(-1)
    cookies = [c for c in cookies if not b.aio_command_completed(c)]
a.shutdown()
b.shutdown()
"""

INETD = """
import sys, nbd
h = nbd.NBD()
h.connect_command([sys.argv[1], "serve", "--inetd", "--file", sys.argv[2]])
assert h.get_size() == 1 << 20
h.shutdown()
"""

if __name__ == "__main__":
    unittest.main()
