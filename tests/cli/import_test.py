#!/usr/bin/python3
"""import_test.py QUIRE - trees there and back; what is odd, unreadable, too much, killed.

QUIRE_TEST_LONG: 200 kills of an import instead of a few.
"""
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

from store_case import QUIRE, WithStore, quire

LONG = "QUIRE_TEST_LONG" in os.environ
N_KILLS = 200 if LONG else 4
SEED = int(os.environ.get("QUIRE_TEST_SEED", random.randrange(1 << 32)))


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


class Trees(WithStore):
    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)

    def grow(self, size):
        self.good("class", "grow", self.store, "capacity", "--size", size)

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

    def test_there_and_back(self):
        root = self.make_tree()
        self.grow("128M")
        self.good("import", self.store, root)
        self.clean()
        self.good("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")
        self.refused(1, "not empty", "export", self.store, self.dir / "out")
        self.refused(1, "exists", "export", self.store, root / "large")
        # Again: nothing is copied; then what has changed.
        before = json.loads(self.good("stat", self.store, "--json"))["objects"]
        again = json.loads(self.good("import", self.store, root, "--json"))
        self.assertEqual(again["reused"], again["files"])
        (root / "d3" / "new").write_bytes(b"new")
        (root / "empty").unlink()
        (root / "d4" / "e1" / "f4").write_bytes(b"other")
        daemon = self.serve()
        self.good("import", self.store, "tree", "--name", root, cwd=self.dir)
        self.good("import", self.store, "tree", "--name", "second", cwd=self.dir)
        self.good("export", self.store, "again", "--name", root, cwd=self.dir)
        self.stop(daemon)
        self.same(root, self.dir / "again")
        self.assertEqual(json.loads(self.good("stat", self.store, "--json"))["objects"], 2 * before)
        self.refused(1, "no tree of the name", "export", self.store, self.dir / "x", "--name", "third")
        self.clean()

    def test_a_damaged_index(self):
        trees = [self.dir / name for name in ("first", "second")]
        for tree in trees:
            tree.mkdir()
            (tree / "file").write_bytes(tree.name.encode() * 1000)
        self.good("import", self.store, trees[0])
        self.flip(b"QUIRETR1")
        done = quire("import", self.store, trees[1])
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr.decode(), r"\Aquire: [^\n]+: 1 indexes [^\n]+ can't be read, [^\n]+: Bad message; [^\n]+\n\Z")
        for words in [], ["--name", trees[1]]:
            self.good("export", self.store, self.dir / "out", *words)
            self.same(trees[1], self.dir / "out")
            shutil.rmtree(self.dir / "out")
        for name in trees[0], "third":  # nobody can tell
            self.refused(1, "may be that of", "export", self.store, self.dir / "out", "--name", name)

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
        self.grow("64M")
        self.good("import", self.store, root)
        self.good("export", self.store, self.dir / "out")
        walk = subprocess.run(["find", str(self.dir / "out"), "-name", "bottom"], capture_output=True)
        self.assertEqual(len(walk.stdout), len(str(self.dir / "out")) + 40 * 201 + len("/bottom\n"))
        subprocess.run(["rm", "-rf", str(root), str(self.dir / "out")], check=True)

    def test_what_can_not_be_imported(self):
        root = self.make_tree(n=3)
        os.mkfifo(root / "fifo\nof two lines")
        inside = root / "store"
        self.good("init", inside, "--capacity", "64M")
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
        self.grow("64M")
        result = quire("import", self.store, root)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"3 not read", result.stdout)
        (root / "large").chmod(0o644)
        self.good("import", self.store, root)
        self.good("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")

    def test_full(self):
        root = self.make_tree(n=20)
        (root / "more").write_bytes(self.random.randbytes(60 << 20))
        self.refused(1, "No space", "import", self.store, root)
        self.clean()
        self.refused(1, "no tree was imported", "export", self.store, self.dir / "out")
        self.grow("128M")
        self.good("import", self.store, root)
        self.good("export", self.store, self.dir / "out")
        self.same(root, self.dir / "out")

    def test_two_importers(self):
        root = self.make_tree(n=3)
        self.grow("64M")
        daemon = self.serve()
        daemon.send_signal(signal.SIGSTOP)
        both = [self.started("import", self.store, root) for _ in range(2)]
        time.sleep(0.2)
        daemon.send_signal(signal.SIGCONT)
        codes = sorted((p.communicate(timeout=60)[1].decode(), p.returncode) for p in both)
        self.stop(daemon)
        self.assertEqual(codes[0], ("", 0))
        if codes[1][1] != 0:  # else the first had ended already
            self.assertIn("another import of that name is under way", codes[1][0])
        self.clean()

    def test_killed(self):
        root = self.make_tree(n=2000 if LONG else 400)
        self.grow("256M")
        started = time.monotonic()
        self.good("import", self.store, root, "--name", "whole run")
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
                self.good("import", self.store, root, "--name", name)
                self.good("export", self.store, self.dir / "out", "--name", name)
                self.same(root, self.dir / "out")
                subprocess.run(["chmod", "-R", "u+rwx", str(self.dir / "out")], check=True)
                subprocess.run(["rm", "-rf", str(self.dir / "out")], check=True)
                ids = self.good("blob", "ls", self.store).decode().split()
                for at in range(0, len(ids), 2000):
                    self.good("blob", "rm", self.store, *ids[at:at + 2000])
        print(f"{N_KILLS} kills, {n_cut} in the middle, seed {SEED}", file=sys.stderr)
        self.assertEqual(json.loads(self.good("stat", self.store, "--json"))["objects"], 0)



if __name__ == "__main__":
    unittest.main()
