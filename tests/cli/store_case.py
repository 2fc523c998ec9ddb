"""A store in a directory of its own, and a daemon that holds it: what tests of the verbs begin with.

The command is the first argument of the program.
"""
import contextlib
import json
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

QUIRE = os.path.abspath(sys.argv.pop(1))


def quire(*words, **options):
    return subprocess.run([QUIRE, *map(str, words)], capture_output=True, timeout=60, **options)


class InDirectory(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="quire-cli-", dir="/var/tmp")
        self.addCleanup(self.directory.cleanup)
        self.dir = pathlib.Path(self.directory.name)

    def refused(self, code, line, *words):
        """One line on stderr, nothing on stdout."""
        done = quire(*words)
        self.assertEqual((done.returncode, done.stdout), (code, b""), (words, done.stderr))
        self.assertRegex(done.stderr.decode(), r"\Aquire: [^:\n]+: [^\n]+\n\Z")
        self.assertIn(line, done.stderr.decode())


class WithStore(InDirectory):
    """A store `s` of 32 MiB."""
    def setUp(self):
        super().setUp()
        self.store = self.dir / "s"
        self.good("init", self.store, "--capacity", "32M")

    def good(self, *words, **options):
        """What a verb printed that succeeded."""
        done = quire(*words, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""), words)
        return done.stdout

    def facts(self, *words):
        return json.loads(self.good(*words, "--json"))

    def put(self, *words, **options):
        return [int(line) for line in self.good("blob", "put", self.store, *words, **options).split()]

    def ids(self):
        return [int(line) for line in self.good("blob", "ls", self.store).split()]

    def write(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path

    def used(self):
        return self.facts("stat", self.store)["classes"]["capacity"]["used_bytes"]

    def clean(self):
        self.assertEqual(self.facts("check", self.store)["findings"], [])

    def flip(self, content, offset=0):
        """Changes a byte of where this content lies on the medium."""
        with open(self.store / "capacity", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            at = view.find(content)
            self.assertGreater(at, 0)
            view[at + offset] ^= 1
            view.flush()
            os.fsync(file.fileno())

    def started(self, *words, **options):
        child = subprocess.Popen([QUIRE, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, **options)
        self.addCleanup(self.ended, child)
        return child

    @staticmethod
    def ended(child):
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)
            child.kill()
        child.wait()
        for stream in filter(None, (child.stdin, child.stdout, child.stderr)):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def serve(self, *words):
        """A daemon that is ready."""
        daemon = self.started("serve", self.store, *words)
        line = daemon.stdout.readline().decode()
        self.assertEqual(line, f"serving {self.store} (pid {daemon.pid})\n", daemon.communicate()[1] if line == "" else "")
        return daemon

    def stop(self, daemon):
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=60)
        self.assertEqual((daemon.returncode, out, err), (0, b"", b""))
        self.assertFalse((self.store / "control").exists())

    def until(self, condition):
        """True within a minute; each look is a verb, which paces it."""
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
