#!/usr/bin/python3
"""command_test.py QUIRE PEER - the command and its daemon where something is short, stopped or killed.

Long (QUIRE_TEST_LONG), a daemon is stopped for a minute; else for two seconds.
"""
import contextlib
import hashlib
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
PEER = os.path.abspath(sys.argv.pop(2))
from store_case import QUIRE, InDirectory, WithStore, quire  # noqa: E402

PAUSE_S = 60 if os.environ.get("QUIRE_TEST_LONG") else 2
MIB = 1 << 20


# As somebody who may not write: nobody, if this is root, whose rights go past modes.
AS_USER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def skip_unless_a_user_can(test, *command):
    """What is built to count coverage complains where it may not keep its counts."""
    done = subprocess.run([*command, "--version"], capture_output=True)
    if done.returncode != 0 or done.stderr:
        test.skipTest("another user may not enter where the command is, or not write there what it counts")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Nbd:
    """A client of one export, as far as it takes to read and write."""
    MAGIC, OPTION, ANSWER = b"NBDMAGIC", b"IHAVEOPT", 0x67446698

    def __init__(self, path, export):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(600)
        self.socket.connect(str(path))
        self.export = export.encode()

    def get(self, n):
        got = b""
        while len(got) < n:
            more = self.socket.recv(n - len(got))
            if not more:
                raise ConnectionError("the server hung up")
            got += more
        return got

    def greet(self):
        self.get(18)
        data = struct.pack(">I", len(self.export)) + self.export + struct.pack(">H", 0)
        self.socket.sendall(struct.pack(">I", 3) + self.OPTION + struct.pack(">II", 7, len(data)) + data)
        while True:
            _, _, kind, n = struct.unpack(">QIII", self.get(20))
            self.get(n)
            if kind == 1:
                return self
            if kind & 1 << 31:
                raise ConnectionError(f"option refused: {kind:x}")

    def ask(self, kind, offset, length, data=b"", flags=0):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length) + data)

    def answered(self, length=0):
        magic, error, _ = struct.unpack(">IIQ", self.get(16))
        if (magic, error) != (self.ANSWER, 0):
            raise ConnectionError(f"{magic:x}, error {error}")
        return self.get(length)

    def write(self, offset, data):
        self.ask(1, offset, len(data), data, flags=1)
        self.answered()

    def read(self, offset, length):
        self.ask(0, offset, length)
        return self.answered(length)

    def close(self):
        self.socket.close()


class Doors(WithStore):
    """A daemon with a volume and a log, at two doors, and one with pools."""
    def setUp(self):
        super().setUp()
        self.good("volume", "create", self.store, "v", "--size", "1M")
        self.good("log", "create", self.store, "l")
        self.nbd_path, self.tmem_path = self.dir / "nbd", self.dir / "tmem"
        self.daemon = self.started("serve", self.store, "--nbd", f"unix:{self.nbd_path}", "v")
        self.pools = self.started("serve", "--tmem", f"unix:{self.tmem_path}")
        self.daemons = (self.daemon, self.pools)
        for daemon in (self.daemon, self.daemon, self.pools):
            self.assertIn(b"serving ", daemon.stdout.readline())

    def client(self):
        client = Nbd(self.nbd_path, "v")
        self.addCleanup(client.close)
        return client

    def peer(self):
        child = subprocess.Popen([PEER, self.tmem_path, "100"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(self.ended, child)
        return child

    def descriptors(self):
        return [len(os.listdir(f"/proc/{daemon.pid}/fd")) for daemon in self.daemons]

    @staticmethod
    def leave(daemon, n):
        """So many descriptors below its limit are free. How it was before."""
        used = {int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd")}
        limit = [fd for fd in range(len(used) + n + 1) if fd not in used][n]
        before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        return before

    def no_more_than(self, n):
        return all(now <= then for now, then in zip(self.descriptors(), n))

    def signal(self, number):
        for daemon in self.daemons:
            daemon.send_signal(number)

    def ends_well(self):
        self.signal(signal.SIGTERM)
        for daemon in self.daemons:
            _, err = daemon.communicate(timeout=600)
            self.assertEqual((daemon.returncode, err), (0, b""))
        self.clean()

    def test_no_descriptors_for_callers(self):
        """They wait, the daemon doesn't spin; who is there is served; and all are when there are descriptors again."""
        there = self.client().greet()
        peer_there = self.peer()
        self.assertEqual(peer_there.stdout.readline(), b"good\n")
        before = [self.leave(daemon, 0) for daemon in self.daemons]
        verb, client, peer = self.started("blob", "ls", self.store), self.client(), self.peer()
        used, since = [cpu_seconds(daemon.pid) for daemon in self.daemons], time.monotonic()
        time.sleep(1)
        for daemon, then in zip(self.daemons, used):
            self.assertLess((cpu_seconds(daemon.pid) - then) / (time.monotonic() - since), 0.25)
        there.write(0, b"x" * 4096)
        self.assertEqual(there.read(0, 4096), b"x" * 4096)
        peer_there.stdin.write(b".")
        self.assertEqual(peer_there.stdout.readline(), b"good\n")
        self.assertIsNone(verb.poll())

        for daemon, limits in zip(self.daemons, before):
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        self.assertEqual(verb.communicate(timeout=600), (b"", b""))
        self.assertEqual(verb.returncode, 0)
        self.assertEqual(client.greet().read(0, 4096), b"x" * 4096)
        self.assertEqual(peer.stdout.readline(), b"good\n")
        self.ends_well()

    def test_one_descriptor_after_the_other(self):
        """With any number left each caller has what he asked for, or one line, or waits for the next."""
        n = self.descriptors()
        for left in range(7):
            before = self.leave(self.daemon, left)
            verb = self.started("volume", "ls", self.store)
            with contextlib.suppress(subprocess.TimeoutExpired):
                verb.wait(timeout=0.4)
            resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, before)
            out, err = verb.communicate(timeout=600)
            with self.subTest(left=left):
                if verb.returncode == 0:
                    self.assertEqual((out, err), (b"v\n", b""))
                else:
                    self.assertEqual((verb.returncode, out, err.count(b"\n")), (1, b"", 1))
                    self.assertIn(b"quire: ", err)
        self.assertEqual(self.good("volume", "ls", self.store), b"v\n")
        self.until(lambda: self.good("volume", "ls", self.store) and self.no_more_than(n))
        self.ends_well()

    def test_stopped_for_a_while(self):
        """Who waits goes on; nobody is hung up on, nothing expires, no follower misses anything."""
        client, peer = self.client().greet(), self.peer()
        client.write(4096, b"a" * 4096)
        self.assertEqual(peer.stdout.readline(), b"good\n")
        follower = self.started("log", "follow", self.store, "l", "--from", "0")
        self.good("log", "append", self.store, "l", input=b"before\n")
        self.assertIn(b"before", follower.stdout.readline())

        self.signal(signal.SIGSTOP)
        for daemon in self.daemons:
            os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)
        client.ask(1, 8192, 4096, b"b" * 4096, flags=1)
        peer.stdin.write(b".")
        append = self.started("log", "append", self.store, "l")
        append.stdin.write(b"meanwhile\n")
        append.stdin.close()
        append.stdin = None
        late, late_peer = self.client(), self.peer()
        time.sleep(PAUSE_S)
        self.assertEqual([p.poll() for p in (append, follower, peer, late_peer)], [None] * 4)
        self.signal(signal.SIGCONT)

        client.answered()
        self.assertEqual(late.greet().read(4096, 8192), b"a" * 4096 + b"b" * 4096)
        self.assertEqual([p.stdout.readline() for p in (peer, late_peer)], [b"good\n"] * 2)
        self.assertEqual((append.wait(timeout=600), append.stderr.read()), (0, b""))
        self.assertIn(b"meanwhile", follower.stdout.readline())
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=600)
        self.ends_well()

    def test_clients_are_stopped_for_a_while(self):
        """They hold up nobody else, and go on."""
        peer, other = self.peer(), self.peer()
        self.assertEqual([p.stdout.readline() for p in (peer, other)], [b"good\n"] * 2)
        put = self.started("blob", "put", self.store, "-")
        put.stdin.write(b"c" * 100000)
        put.stdin.flush()
        for child in (peer, put):
            child.send_signal(signal.SIGSTOP)
        peer.stdin.write(b".")
        other.stdin.write(b".")
        self.assertEqual(other.stdout.readline(), b"good\n")
        self.assertEqual(self.ids(), [])
        time.sleep(PAUSE_S)
        for child in (peer, put):
            child.send_signal(signal.SIGCONT)
        self.assertEqual(peer.stdout.readline(), b"good\n")
        out, err = put.communicate(timeout=600)
        self.assertEqual((put.returncode, err), (0, b""))
        self.assertEqual(self.good("blob", "get", self.store, int(out)), b"c" * 100000)
        self.ends_well()

    def test_clients_are_killed_amidst(self):
        """What they had open is closed, what they had not finished is gone."""
        self.assertEqual(self.ids(), [])
        n, used = self.descriptors(), self.used()
        for _ in range(50 if PAUSE_S > 2 else 4):
            puts = [self.started("blob", "put", self.store, "-") for _ in range(3)]
            for put in puts:
                put.stdin.write(b"d" * 60000)
                put.stdin.flush()
            clients = [self.client().greet() for _ in range(3)]
            for client in clients:
                client.ask(1, 0, 65536, b"e" * 30000)
            peers = [self.peer() for _ in range(3)]
            peers[0].stdout.readline()
            for child in puts + peers:
                child.kill()
                child.wait()
            for client in clients:
                client.close()
        self.until(lambda: self.ids() == [] and self.no_more_than(n))
        self.assertEqual(self.used(), used)
        self.ends_well()


class Full(InDirectory):
    """A file system of 12 MiB, really full, below a store that may have 64."""
    def setUp(self):
        super().setUp()
        self.mount = self.dir / "small"
        self.mount.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", self.mount], capture_output=True)
        if done.returncode != 0:
            self.skipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", self.mount], check=True)
        self.store = self.mount / "s"
        self.assertEqual(quire("init", self.store, "--capacity", "64M").returncode, 0)

    def fill(self, put):
        """Until nothing goes any more, and it is told by one line. The contents by what was printed."""
        had = {}
        for i in range(200):
            content = os.urandom(900000)
            done = put(content)
            if done.returncode != 0:
                self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1))
                self.assertIn(b"No space left on device", done.stderr)
                return had
            had[int(done.stdout)] = content
        self.fail("12 MiB hold 180 MB")

    def whole(self, had):
        for name, content in had.items():
            done = quire("blob", "get", self.store, name)
            self.assertTrue(done.returncode == 0 and done.stdout == content, done.stderr)
        done = quire("check", self.store)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def goes_on(self, had):
        (self.mount / "ballast").unlink()
        content = os.urandom(900000)
        done = quire("blob", "put", self.store, "-", input=content)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.whole({**had, int(done.stdout): content})

    def test_verb_by_verb(self):
        (self.mount / "ballast").write_bytes(bytes(3 * MIB))
        had = self.fill(lambda content: quire("blob", "put", self.store, "-", input=content))
        self.assertGreater(len(had), 4)
        self.whole(had)
        self.goes_on(had)

    def test_through_a_daemon_that_is_started_again(self):
        (self.mount / "ballast").write_bytes(bytes(3 * MIB))
        daemon = subprocess.Popen([QUIRE, "serve", self.store], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(daemon.kill)
        self.assertIn(b"serving", daemon.stdout.readline())
        had = self.fill(lambda content: quire("blob", "put", self.store, "-", input=content))
        self.whole(had)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=600)
        self.goes_on(had)


class Limits(WithStore):
    def limited(self, *words, fsize):
        return subprocess.run(["prlimit", f"--fsize={fsize}", QUIRE, *map(str, words)], capture_output=True, timeout=600)

    def test_files_of_limited_length(self):
        """One line, no SIGXFSZ, and nothing is left of what did not fit."""
        id_, = self.put(self.write("a", os.urandom(500000)))
        out = self.dir / "out"
        for words in (("blob", "get", self.store, id_, "--output", out), ("init", self.dir / "t", "--capacity", "64M")):
            done = self.limited(*words, fsize=65536)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1), done)
            self.assertIn(b"quire: ", done.stderr)
            self.assertIn(b"File too large", done.stderr)
        self.assertEqual(sorted(os.listdir(self.dir)), ["a", "s"])
        self.clean()


class ReadOnly(WithStore):
    def contents(self):
        return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in self.store.iterdir() if path.is_file()}

    def as_user(self, *words):
        return subprocess.run([*AS_USER, QUIRE, *map(str, words)], capture_output=True, timeout=600)

    def reads_and_changes_nothing(self, run, why):
        before = self.contents()
        self.assertEqual(run("blob", "ls", self.store).stdout.split(), [str(self.id).encode()])
        self.assertTrue(run("blob", "get", self.store, self.id).stdout == self.content)
        self.assertEqual(run("check", self.store).returncode, 0)
        for words in (("blob", "put", self.store, self.file), ("blob", "rm", self.store, self.id),
                      ("volume", "create", self.store, "v", "--size", "1M"), ("log", "create", self.store, "l"),
                      ("class", "add", self.store, "staging", "--size", "16M"), ("serve", self.store)):
            done = run(*words)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1), (words, done))
            self.assertIn(why, done.stderr, words)
        self.assertEqual(self.contents(), before)

    def setUp(self):
        super().setUp()
        self.content = os.urandom(200000)
        self.file = self.write("a", self.content)
        self.id, = self.put(self.file)

    def test_a_directory_without_permission(self):
        self.dir.chmod(0o755)
        for path in (self.file, *self.store.iterdir()):
            path.chmod(0o444)
        self.store.chmod(0o555)
        skip_unless_a_user_can(self, *AS_USER, QUIRE)
        self.reads_and_changes_nothing(self.as_user, b"Permission denied")


class Locked(WithStore):
    def test_nothing_may_be_locked(self):
        """RLIMIT_MEMLOCK of 0 and of a page, without rights: all works, and it is told what doesn't hold."""
        content = os.urandom(300000)
        self.write("a", content)
        self.dir.chmod(0o755)
        for limit in (0, 4096, 65536):
            run = ["prlimit", f"--memlock={limit}:{limit}", *AS_USER, QUIRE]
            skip_unless_a_user_can(self, *run)
            done = subprocess.run([*run, "cat", self.dir / "a"], capture_output=True, timeout=600)
            self.assertTrue(done.returncode == 0 and done.stdout == content, done.stderr)
            done = subprocess.run([*run, "info", "--capabilities", "--json"], capture_output=True, timeout=600)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            if limit == 0:
                self.assertIn(b'"memory_locked":false', done.stdout.replace(b" ", b""))


if __name__ == "__main__":
    # What is mounted here nobody else sees, and it goes with this process.
    apart = ["unshare", "--mount", "--propagation", "private"]
    if "QUIRE_TEST_APART" not in os.environ and subprocess.run([*apart, "true"], capture_output=True).returncode == 0:
        os.execvpe(apart[0], [*apart, sys.executable, *sys.orig_argv[1:]], {**os.environ, "QUIRE_TEST_APART": "1"})
    unittest.main()
