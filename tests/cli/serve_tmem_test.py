#!/usr/bin/python3
"""serve_tmem_test.py QUIRE PEER - `quire serve --tmem`, and processes that have pools there."""
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import unittest

PEER = os.path.abspath(sys.argv.pop(2))
from store_case import InDirectory, WithStore, quire  # noqa: E402


class Pools:
    def peer(self, pages=100, *letter):
        child = subprocess.Popen([PEER, self.path, str(pages), *letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(self.ended, child)
        return child

    @staticmethod
    def ended(child):
        child.kill()
        child.wait()
        for stream in filter(None, (child.stdin, child.stdout, child.stderr)):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    @staticmethod
    def says(child):
        return child.stdout.readline().decode().strip()

    def again(self, child):
        child.stdin.write(b".")
        return self.says(child)

    def listens(self, *words):
        """A daemon that says that it serves pools."""
        daemon = WithStore.started(self, "serve", *words, "--tmem", f"unix:{self.path}")
        self.assertEqual(daemon.stdout.readline().decode(), f"serving unix:{self.path} (pid {daemon.pid})\n")
        return daemon

    def ends_well(self, daemon, said=b""):
        daemon.send_signal(signal.SIGTERM)
        _, err = daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.assertRegex(err, b"\\A%s\\Z" % said)
        self.assertFalse(self.path.exists())


class Alone(Pools, InDirectory):
    def setUp(self):
        super().setUp()
        self.path = self.dir / "tmem"

    def test_peers_have_pools_of_their_own(self):
        daemon = self.listens()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        peers = [self.peer() for _ in range(3)]
        self.assertEqual([self.says(peer) for peer in peers], ["good"] * 3)
        peers[0].kill()
        self.assertEqual([self.again(peer) for peer in peers[1:]], ["good"] * 2)
        self.ends_well(daemon)
        self.assertEqual(self.again(peers[1]), "Broken pipe")

    def test_a_killed_daemon_s_place_is_taken(self):
        daemon = self.listens()
        peer = self.peer()
        self.assertEqual(self.says(peer), "good")
        daemon.kill()
        daemon.wait()
        self.assertEqual(self.again(peer), "Broken pipe")
        self.assertRegex(self.says(self.peer()), "Connection refused$")
        daemon = self.listens()
        self.assertEqual(self.says(self.peer()), "good")
        self.ends_well(daemon)

    def test_it_tells_what_all_hold(self):
        daemon = self.listens()
        self.assertEqual(self.says(self.peer(100)), "good")
        facts = json.loads(quire("tmem", "stat", "--json", f"unix:{self.path}").stdout)
        self.assertEqual((facts["pages"], facts["puts"], facts["gets"], facts["clients"]), (100, 100, 100, 2))
        self.assertIn(b"100 pages: ", quire("tmem", "stat", f"unix:{self.path}").stdout)
        self.ends_well(daemon)

    def test_a_connection_has_a_cap(self):
        daemon = self.listens("--tmem-cap", "64K")
        self.assertEqual(self.says(self.peer(10)), "good")
        self.assertEqual(self.says(self.peer(5000)), "No space left on device")
        self.ends_well(daemon)

    def test_one_at_a_path(self):
        daemon = self.listens()
        self.refused(1, "Address already in use", "serve", "--tmem", f"unix:{self.path}")
        self.assertEqual(self.says(self.peer()), "good")
        self.ends_well(daemon)

    def test_bad_words(self):
        for words, line in ((["--tmem", self.path], "not of the form unix:PATH"), (["--tmem", "unix"], "not of the form"),
                            (["--tmem", "unix:x", "--tmem-user", "me"], "not a user's number"),
                            (["--tmem", "unix:x", "--tmem-cap", "0"], "not a size"), (["--tmem-cap", "1M"], "go with --tmem"),
                            (["--tmem", "unix:x", "--tmem-keep", "capacity"], "go with a store"),
                            (["--tmem", "unix:x", "--tmem-keep", "tape"], "no class"), (["--tmem-keep", "pmem"], "go with --tmem"),
                            (["--tmem", "unix:x", "--tmem-spill", "capacity"], "go with a store"),
                            (["a", "--tmem", "unix:x", "--tmem-spill-cap", "1M"], "goes with --tmem-spill"),
                            (["--tmem"], "a value is missing"), (["--tmem", "unix:x", "a", "b"], "which store?")):
            with self.subTest(words=words):
                self.refused(2, line, "serve", *words)
        self.refused(1, "No such file", "serve", "--tmem", "unix:/nowhere/at/all")


class BesideAStore(Pools, WithStore):
    def test_both(self):
        self.path = self.dir / "tmem"
        daemon = self.listens(self.store)
        self.assertEqual(daemon.stdout.readline().decode(), f"serving {self.store} (pid {daemon.pid})\n")
        peer = self.peer()
        self.assertEqual(self.says(peer), "good")
        self.put(self.write("a", os.urandom(10000)))
        self.assertEqual(len(self.ids()), 1)
        self.assertEqual(self.again(peer), "good")
        self.ends_well(daemon)
        self.clean()


class SpillsToAStore(Pools, WithStore):
    def test_more_than_the_cap(self):
        self.path = self.dir / "tmem"
        daemon = self.listens(self.store, "--tmem-cap", "512K", "--tmem-spill", "capacity", "--tmem-spill-cap", "16M")
        peer = self.peer(500, "*")
        self.assertEqual(self.says(peer), "good")
        self.assertEqual(self.again(peer), "good")
        self.assertEqual(self.says(self.peer(500)), "No space left on device")
        self.assertEqual(self.says(self.peer(3000, "*")), "No space left on device")
        self.ends_well(daemon)
        self.clean()
        daemon = self.listens(self.store)
        self.assertEqual(self.says(self.peer(10, "*")), "tmem pool at the service: Operation not permitted")
        self.ends_well(daemon)


class KeptInAStore(Pools, WithStore):
    def setUp(self):
        super().setUp()
        self.path = self.dir / "tmem"

    def keeps(self):
        return self.listens(self.store, "--tmem-keep", "capacity")

    def kept(self):
        return json.loads(quire("tmem", "stat", "--json", f"unix:{self.path}").stdout)["kept_pools"]

    def test_what_was_saved_outlives_a_kill(self):
        daemon = self.keeps()
        self.assertEqual(self.says(self.peer(100, "a")), "good")
        daemon.kill()
        daemon.wait()
        daemon = self.keeps()
        self.assertEqual(self.kept(), 1)
        self.assertEqual(self.says(self.peer(100, "a")), "good")
        self.ends_well(daemon)
        # Who finds the pool puts nothing.
        daemon = self.keeps()
        self.assertEqual(self.says(self.peer(101, "a")), "No such file or directory")
        self.ends_well(daemon)
        self.clean()

    def test_a_damaged_one_is_told(self):
        daemon = self.keeps()
        self.assertEqual([self.says(self.peer(10, letter)) for letter in "ab"], ["good"] * 2)
        self.ends_well(daemon)
        self.flip(b"62" + 30 * b"0")
        daemon = self.keeps()
        self.assertEqual(self.kept(), 1)
        self.assertEqual(self.says(self.peer(10, "a")), "good")
        self.ends_well(daemon, rb"quire: saved pool in blob \d+: [^\n]+\n")

    def test_a_class_that_is_not_there(self):
        self.refused(1, "no class staging", "serve", self.store, "--tmem", f"unix:{self.path}", "--tmem-keep", "staging")


if __name__ == "__main__":
    unittest.main()
