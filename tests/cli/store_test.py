#!/usr/bin/python3
"""store_test.py QUIRE - verbs on stores, with and beside a daemon; import and export; what is damaged, full or killed.

QUIRE_TEST_LONG: 200 kills of an import instead of a few.
"""
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest

QUIRE = os.path.abspath(sys.argv.pop(1))
LONG = "QUIRE_TEST_LONG" in os.environ
N_KILLS = 200 if LONG else 4
SEED = int(os.environ.get("QUIRE_TEST_SEED", random.randrange(1 << 32)))


def quire(*words, **options):
    return subprocess.run([QUIRE, *map(os.fsencode, map(str, words))], capture_output=True, timeout=300, **options)


def facts_of(path):
    """All that an import keeps of a file."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content = os.readlink(path) if kind == stat.S_IFLNK else None
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = file.read()
    return kind, stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_uid, st.st_gid, content


def tree_of(root):
    root = os.fsencode(root)
    found, inodes = {b"": facts_of(root)}, {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            found[path[len(root):]] = facts_of(path)
            if os.lstat(path).st_nlink > 1 and os.path.isfile(path):
                inodes.setdefault(os.lstat(path).st_ino, set()).add(path[len(root):])
    return found, sorted(map(sorted, inodes.values()))


class WithStore(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="quire-cli-", dir="/var/tmp")
        self.dir = pathlib.Path(self.directory.name)
        self.store = self.dir / "s"
        self.random = random.Random(SEED)

    def tearDown(self):
        self.directory.cleanup()

    def done(self, *words, **options):
        result = quire(*words, **options)
        self.assertEqual((result.returncode, result.stderr), (0, b""), (words, SEED))
        return result.stdout

    def refused(self, code, line, *words, **options):
        """One line on stderr that has `line` in it."""
        result = quire(*words, **options)
        self.assertEqual(result.returncode, code, (words, result.stderr))
        self.assertEqual(result.stderr.decode(errors="replace").count("\n"), 1, result.stderr)
        self.assertRegex(result.stderr.decode(errors="replace"), "^quire: [^:]+: .")
        self.assertIn(line, result.stderr.decode(errors="replace"))

    def init(self, *options):
        self.done("init", self.store, *options)

    def clean(self):
        self.assertIn(b"0 findings", self.done("check", self.store))

    @contextlib.contextmanager
    def served(self, *options):
        daemon = subprocess.Popen([QUIRE, "serve", self.store, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.assertIn(b"serving", daemon.stdout.readline())
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.terminate()
            out, err = daemon.communicate(timeout=60)
        self.assertIn(daemon.returncode, (0, -signal.SIGKILL), err)

    def make_tree(self, name="tree", n=60):
        """Odd names, lengths, modes, times and links."""
        root = self.dir / name
        root.mkdir()
        (root / "empty").write_bytes(b"")
        (root / "empty directory").mkdir()
        for i in range(n):
            directory = root / f"d{i % 7}" / f"e{i % 3}"
            directory.mkdir(parents=True, exist_ok=True)
            length = self.random.choice([1, 100, 4095, 4096, 4097, 20000, 70000])
            (directory / f"f{i}").write_bytes(self.random.randbytes(length))
        (root / "large").write_bytes(self.random.randbytes(3 << 20))
        with open(os.fsencode(root) + b"/latin-\xe9\n name", "wb") as file:
            file.write(b"odd")
        (root / ("n" * 255)).write_bytes(b"long")
        (root / "to").symlink_to("nowhere/at all")
        os.link(root / "large", root / "d0" / "same as large")
        os.link(root / "large", root / "zz same")
        (root / "d1").chmod(0o1750)
        (root / "empty").chmod(0o4711)
        (root / "d0" / "e0").chmod(0o500)
        os.utime(root / "large", ns=(1, 123456789_987654321))
        os.utime(root / "to", ns=(5, 7), follow_symlinks=False)
        os.utime(root / "d2", ns=(3, 1_000_000_001))
        return root

    def same(self, root, out):
        self.assertEqual(tree_of(root), tree_of(out))


class Verbs(WithStore):
    def all_verbs(self):
        ids = self.done("blob", "put", self.store, self.dir / "one", "-", "--tag", "9", input=b"two").split()
        self.assertEqual(self.done("blob", "get", self.store, ids[0].decode()), b"1" * 5000)
        self.assertEqual(self.done("blob", "get", self.store, ids[1].decode()), b"two")
        self.done("blob", "get", self.store, ids[1].decode(), "-o", self.dir / "out")
        self.assertEqual((self.dir / "out").read_bytes(), b"two")
        self.assertEqual(self.done("blob", "ls", self.store).split()[-2:], ids)
        listed = json.loads(self.done("blob", "ls", self.store, "--json"))
        self.assertEqual([(b["bytes"], b["tag"]) for b in listed[-2:]], [(5000, 9), (3, 9)])
        props = json.loads(self.done("blob", "props", self.store, ids[0].decode(), "--json"))
        self.assertEqual((props["bytes"], props["committed"], props["class"]), (5000, True, "capacity"))
        self.done("blob", "rm", self.store, *[i.decode() for i in ids])
        self.refused(1, "Stale file handle", "blob", "get", self.store, ids[0].decode())
        self.refused(1, "nothing was removed", "blob", "rm", self.store, ids[0].decode())
        self.refused(1, "No such file", "blob", "put", self.store, self.dir / "missing")
        self.refused(2, "not an object's id", "blob", "get", self.store, "x")
        self.refused(1, "File exists", "init", self.store)
        info = json.loads(self.done("info", self.store, "--json"))
        self.assertEqual(info["format_version"], 1)
        stats = json.loads(self.done("stat", self.store, "--json"))
        self.assertGreater(stats["classes"]["capacity"]["free_bytes"], 0)
        self.assertEqual(json.loads(self.done("check", self.store, "--json"))["findings"], [])
        return info

    def test_verbs_alone_and_beside_a_daemon(self):
        (self.dir / "one").write_bytes(b"1" * 5000)
        self.init("--capacity", "64M")
        self.assertFalse(self.all_verbs()["served"])
        with self.served():
            self.assertTrue(self.all_verbs()["served"])
            mode = (self.store / "control").lstat().st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)
            self.refused(1, "held by process", "serve", self.store)
            self.refused(1, "held by process", "rename", self.store, self.dir / "t")
        self.assertFalse((self.store / "control").exists())
        self.done("class", "add", self.store, "staging", "--size", "32M")
        self.done("class", "grow", self.store, "capacity", "--size", "96M")
        self.refused(1, "staging", "class", "add", self.store, "staging", "--size", "32M")
        self.refused(1, ":", "class", "grow", self.store, "capacity", "--size", "1M")
        classes = json.loads(self.done("info", self.store, "--json"))["classes"]
        self.assertEqual((classes["capacity"]["bytes"], classes["staging"]["bytes"]), (96 << 20, 32 << 20))
        self.done("rename", self.store, self.dir / "t")
        self.assertIn(b"0 findings", self.done("check", self.dir / "t"))

    def test_daemon_outlives_nonsense_and_callers_that_go(self):
        (self.dir / "one").write_bytes(b"1" * 5000)
        self.init("--capacity", "64M")
        with self.served() as daemon:
            path = str(self.store / "control")
            for nonsense in (b"", b"x", os.urandom(4000), b"QuC1" + b"\xff" * 12):
                with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(OSError):
                    s.connect(path)
                    s.sendall(nonsense)
                    s.shutdown(socket.SHUT_WR)
                    s.recv(16)
            putting = subprocess.Popen([QUIRE, "blob", "put", self.store, "-"], stdin=subprocess.PIPE)
            putting.stdin.write(b"z" * 100000)
            putting.stdin.flush()
            time.sleep(0.1)
            putting.kill()
            putting.wait()
            putting.stdin.close()
            daemon.send_signal(signal.SIGSTOP)
            listing = subprocess.Popen([QUIRE, "blob", "ls", self.store], stdout=subprocess.PIPE)
            time.sleep(0.1)
            daemon.send_signal(signal.SIGCONT)
            self.assertEqual(listing.communicate(timeout=60)[0], b"")
            daemon.kill()
            daemon.wait()
        # Its socket is there still, and means nothing.
        self.assertTrue((self.store / "control").exists())
        self.clean()
        with self.served():
            self.clean()

    def test_usage(self):
        for words in (["init"], ["check"], ["stat", "a", "b"], ["blob"], ["blob", "eat", "s"], ["blob", "get", "s"],
                      ["class", "add", "s", "gold", "--size", "1G"], ["class", "add", "s", "staging"], ["import", "s"],
                      ["export", "s"], ["check", "s", "--rate", "fast"], ["serve"], ["rename", "a"],
                      ["init", "s", "--capacity", "0"], ["info", "--capabilities", "s"]):
            self.refused(2, "", *words)
        for verb in ("init", "import", "export", "blob", "stat", "check", "class", "rename", "serve", "info"):
            self.assertTrue(self.done(verb, "--help").startswith(b"usage: quire "))


class Bad(WithStore):
    def test_what_is_no_store(self):
        self.refused(1, "No such file", "check", self.store)
        self.store.mkdir()
        self.refused(1, "No such file", "check", self.store)
        (self.store / "capacity").write_bytes(b"")
        self.refused(1, "capacity", "check", self.store)
        (self.store / "capacity").write_bytes(os.urandom(1 << 20))
        self.refused(1, "capacity", "blob", "ls", self.store)
        self.refused(1, "not empty", "init", self.store)

    def test_damaged_newer_truncated_swapped(self):
        self.init("--capacity", "64M")
        capacity = self.store / "capacity"
        good = capacity.read_bytes()

        def with_bytes(at, data):
            with open(capacity, "r+b") as file:
                for copy in (0, 65536):
                    file.seek(copy + at)
                    file.write(data)
        with_bytes(20, b"\xff\xff")
        self.refused(1, "capacity", "check", self.store)
        capacity.write_bytes(good)
        os.truncate(capacity, 1 << 20)
        self.refused(1, "too small", "check", self.store)
        capacity.write_bytes(good)
        self.done("class", "add", self.store, "staging", "--size", "32M")
        other = self.dir / "other"
        self.done("init", other, "--capacity", "64M")
        self.done("class", "add", other, "staging", "--size", "32M")
        (self.store / "staging").rename(self.dir / "mine")
        self.refused(1, "staging", "check", self.store)
        shutil.copy(other / "staging", self.store / "staging")
        self.refused(1, "staging", "check", self.store)
        (self.dir / "mine").rename(self.store / "staging")
        self.clean()

    def test_flipped_bytes_of_an_object(self):
        self.init("--capacity", "64M")
        content = self.random.randbytes(50000)
        (self.dir / "f").write_bytes(content)
        bad, good = self.done("blob", "put", self.store, self.dir / "f", "/etc/passwd").decode().split()
        where = (self.store / "capacity").read_bytes().index(content[:4096])
        with open(self.store / "capacity", "r+b") as file:
            file.seek(where + 12345)
            file.write(bytes([content[12345] ^ 1]))
        self.refused(1, "Bad message", "blob", "get", self.store, bad, "-o", self.dir / "out")
        self.assertEqual([p.name for p in self.dir.iterdir() if "out" in p.name], [])
        self.assertEqual(self.done("blob", "get", self.store, good), pathlib.Path("/etc/passwd").read_bytes())
        checked = quire("check", self.store, "--json")
        findings = json.loads(checked.stdout)["findings"]
        self.assertEqual((checked.returncode, len(findings)), (1, 1))
        self.assertEqual((findings[0]["object"], findings[0]["class"], findings[0]["offset"]), (int(bad), "capacity", where + 12288))

    @unittest.skipUnless(os.geteuid() == 0, "only root may mount")
    def test_read_only_file_system(self):
        self.init("--capacity", "64M")
        self.done("blob", "put", self.store, "/etc/passwd")
        mounted = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && '
                                  '"$0" check "$1" && "$0" blob ls "$1" && ! "$0" blob put "$1" /etc/passwd',
                                  QUIRE, str(self.store)], capture_output=True, timeout=60)
        if b"mount" in mounted.stderr or b"unshare" in mounted.stderr:
            self.skipTest("mounting is refused here")
        self.assertEqual(mounted.returncode, 0, mounted.stderr)
        self.assertEqual(mounted.stderr.count(b"\n"), 1, mounted.stderr)


class Trees(WithStore):
    def test_there_and_back(self):
        root = self.make_tree()
        self.init("--capacity", "128M")
        self.done("import", self.store, root)
        self.clean()
        self.done("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")
        self.refused(1, "not empty", "export", self.store, self.dir / "out")
        self.refused(1, "exists", "export", self.store, root / "large")
        # Again: nothing is copied; then what has changed.
        before = json.loads(self.done("stat", self.store, "--json"))["objects"]
        again = json.loads(self.done("import", self.store, root, "--json"))
        self.assertEqual(again["reused"], again["files"])
        (root / "d3" / "new").write_bytes(b"new")
        (root / "empty").unlink()
        (root / "d4" / "e1" / "f4").write_bytes(b"other")
        with self.served():
            self.done("import", self.store, "tree", "--name", str(root), cwd=self.dir)
            self.done("import", self.store, "tree", "--name", "second", cwd=self.dir)
            self.done("export", self.store, "again", "--name", str(root), cwd=self.dir)
        self.same(root, self.dir / "again")
        self.assertEqual(json.loads(self.done("stat", self.store, "--json"))["objects"], 2 * before)
        self.refused(1, "no tree of the name", "export", self.store, self.dir / "x", "--name", "third")
        self.clean()

    def test_deep_paths(self):
        root = self.dir / "tree"
        root.mkdir()
        here = os.open(root, os.O_RDONLY)
        for _ in range(40):
            os.mkdir("d" * 200, dir_fd=here)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        self.init("--capacity", "64M")
        self.done("import", self.store, root)
        self.done("export", self.store, self.dir / "out")
        walk = subprocess.run(["find", str(self.dir / "out"), "-name", "bottom"], capture_output=True)
        self.assertEqual(len(walk.stdout), len(str(self.dir / "out")) + 40 * 201 + len("/bottom\n"))
        subprocess.run(["rm", "-rf", str(root), str(self.dir / "out")], check=True)

    def test_what_can_not_be_imported(self):
        root = self.make_tree(n=3)
        os.mkfifo(root / "fifo\nof two lines")
        inside = root / "store"
        self.done("init", inside, "--capacity", "64M")
        result = quire("import", inside, root)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stderr.count(b"\n"), 2, result.stderr)
        self.assertIn(b"2 skipped", result.stdout)
        self.refused(1, "No such file", "import", inside, root / "missing")
        self.refused(1, "Not a directory", "import", inside, root / "large")

    @unittest.skipIf(os.geteuid() == 0, "root may read anything")
    def test_unreadable(self):
        root = self.make_tree(n=3)
        (root / "large").chmod(0)
        self.init("--capacity", "64M")
        result = quire("import", self.store, root)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"3 not read", result.stdout)
        (root / "large").chmod(0o644)
        self.done("import", self.store, root)
        self.done("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")

    def test_full(self):
        root = self.make_tree(n=20)
        (root / "more").write_bytes(self.random.randbytes(30 << 20))
        self.init("--capacity", "16M")
        self.refused(1, "No space", "import", self.store, root)
        self.clean()
        self.refused(1, "no tree was imported", "export", self.store, self.dir / "out")
        self.done("class", "grow", self.store, "capacity", "--size", "96M")
        self.done("import", self.store, root)
        self.done("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")

    def test_two_importers(self):
        root = self.make_tree(n=3)
        self.init("--capacity", "64M")
        fifo = root / "d0" / "slow"
        with self.served() as daemon:
            daemon.send_signal(signal.SIGSTOP)
            both = [subprocess.Popen([QUIRE, "import", self.store, root], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    for _ in range(2)]
            time.sleep(0.2)
            daemon.send_signal(signal.SIGCONT)
            codes = sorted((p.communicate(timeout=60)[1].decode(), p.returncode) for p in both)
        self.assertFalse(fifo.exists())
        self.assertEqual(codes[0], ("", 0))
        if codes[1][1] != 0:  # else the first had ended already
            self.assertIn("another import of that name is under way", codes[1][0])
        self.clean()

    def test_killed(self):
        root = self.make_tree(n=2000 if LONG else 400)
        self.init("--capacity", "256M")
        started = time.monotonic()
        self.done("import", self.store, root, "--name", "whole run")
        whole = time.monotonic() - started
        n_cut = 0
        for i in range(N_KILLS):
            name = f"import {i // 5}"  # some go on from what others left
            child = subprocess.Popen([QUIRE, "import", self.store, root, "--name", name], stdout=subprocess.DEVNULL)
            time.sleep(self.random.uniform(0, whole))
            child.kill()
            n_cut += child.wait() != 0
            self.clean()
            if i % 5 == 4 or i == N_KILLS - 1:
                self.done("import", self.store, root, "--name", name)
                self.done("export", self.store, self.dir / "out", "--name", name)
                self.same(root, self.dir / "out")
                subprocess.run(["rm", "-rf", str(self.dir / "out")], check=True)
                ids = self.done("blob", "ls", self.store).decode().split()
                for at in range(0, len(ids), 2000):
                    self.done("blob", "rm", self.store, *ids[at:at + 2000])
        print(f"{N_KILLS} kills, {n_cut} in the middle, seed {SEED}", file=sys.stderr)
        self.assertEqual(json.loads(self.done("stat", self.store, "--json"))["objects"], 0)


if __name__ == "__main__":
    unittest.main()
