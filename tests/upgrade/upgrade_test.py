#!/usr/bin/python3
"""upgrade_test.py CONTENT QUIRE - each image of an earlier build (v*.tar.xz) is opened: all that its manifest names is there, byte for
byte, a check finds nothing; then it is written on, and all is there still. How they were made: make.py."""
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
CONTENT, QUIRE = sys.argv[1:3]
del sys.argv[1:3]


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="quire-upgrade-", dir="/var/tmp")
        self.addCleanup(self.directory.cleanup)
        self.store = pathlib.Path(self.directory.name) / "store"

    def content(self, verb):
        done = subprocess.run([CONTENT, verb, self.store], capture_output=True, text=True)
        if done.returncode == 77:
            self.skipTest(done.stderr)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def sound(self):
        done = subprocess.run([QUIRE, "check", self.store], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def opens_and_goes_on(self, name):
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            for entry in archive:
                self.assertRegex(entry.name, r"\A[a-z]+\Z")
            archive.extractall(self.store)
        manifest = (HERE / f"{name}.manifest").read_text()
        for kind in ("blob", "container", "log", "keys", "volume", "pool"):
            self.assertIn(f"\n{kind}", "\n" + manifest)
        self.content("list")  # skips, before the check would fail
        self.sound()
        self.assertEqual(self.content("list"), manifest)
        self.content("use")
        self.sound()
        self.assertEqual(self.content("list"), manifest)


def test_of(name):
    return lambda self: self.opens_and_goes_on(name)


for image in sorted(HERE.glob("v*.tar.xz")):
    name = image.name.removesuffix(".tar.xz")
    setattr(Upgrade, "test_" + name.replace("-", "_"), test_of(name))

if __name__ == "__main__":
    unittest.main()
