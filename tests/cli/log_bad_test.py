#!/usr/bin/python3
"""log_bad_test.py QUIRE - logs: bad input, media that are full, damaged or only read, alone and through a daemon."""
import os
import re
import subprocess
import unittest

from log_case import ByDaemon, WithLog, lines
from store_case import QUIRE, quire


class Alone(WithLog):
    """By a process that opens the store."""

    def test_no_such_log(self):
        for words in (["cat"], ["follow"], ["append"], ["trim", "--below", 3], ["stat"], ["rm"]):
            self.refused(1, "log gone: No such file", "log", words[0], self.store, "gone", *words[1:])

    def test_what_can_t_be_made(self):
        self.refused(1, "log l: File exists", "log", "create", self.store, "l")
        self.refused(1, "log x: the store has no class pmem", "log", "create", self.store, "x", "--class", "pmem")
        self.refused(1, "log x: No space left", "log", "create", self.store, "x", "--segment-size", "64M")
        self.assertEqual(self.good("log", "ls", self.store), b"l\n")

    def test_names_with_odd_characters(self):
        verbs = [("create", []), ("cat", []), ("append", []), ("rm", []), ("trim", ["--below", "1"])]
        for i, name in enumerate(("", ".", "..", "a/b", "a b", "ä", "a\nb", "\x1b[31m", "a:b", "x" * 64, ".hidden", "a%sb")):
            # A process takes a third of a second to begin under a sanitizer: there each name is tried with one verb.
            for verb, words in [verbs[i % len(verbs)]] if "QUIRE_SANITIZED" in os.environ else verbs:
                done = quire("log", verb, self.store, name, *words)
                self.assertEqual((done.returncode, done.stdout), (2, b""), name)
                self.assertRegex(done.stderr.decode(), r"\Aquire: [^\n\x1b]*: no name of a log: [^\n]+\n\Z")
        self.good("log", "create", self.store, "x" * 63)
        self.assertEqual(self.append(b"a\n", name="x" * 63), b"1 record, the last 0\n")

    def test_a_record_too_large(self):
        most = 60000
        done = quire("log", "append", self.store, "l", input=b"first\n" + bytes(70000) + b"\nthird\n")
        self.assertEqual((done.returncode, done.stdout), (1, b"1 record, the last 0\n"))
        self.assertRegex(done.stderr, rb"^quire: log l: record 2 of the input: longer than (\d+) bytes[^\n]*\n$")
        most = int(done.stderr.split(b"longer than ")[1].split()[0])
        for content in (bytes(most + 1), bytes(3 << 20)):
            self.refused_append(b"record 1 of the input: longer than", content, "--whole")
            self.refused_append(b"record 1 of the input: longer than", content)
        self.assertEqual(self.append(b"x" * most, "--whole"), b"1 record, the last 1\n")
        self.assertEqual(self.cat("--last", 1, "--whole"), b"x" * most)
        self.clean()

    def refused_append(self, why, content, *words):
        done = quire("log", "append", self.store, "l", *words, input=content)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (1, b"", 1))
        self.assertIn(why, done.stderr)

    def test_no_space(self):
        self.good("class", "add", self.store, "staging", "--size", "2M")
        self.good("log", "create", self.store, "s", "--class", "staging", "--segment-size", "64K")
        content = lines(60000, prefix="x" * 60)
        done = quire("log", "append", self.store, "s", input=content)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rb"^quire: log s: record \d+ of the input: No space left on device\n$")
        n = int(done.stdout.split()[0])
        self.assertEqual(done.stdout, b"%d records, the last %d\n" % (n, n - 1))
        self.assertEqual(done.stderr.split()[4], b"%d" % (n + 1))
        self.assertTrue(self.cat("--last", 5, name="s") == lines(5, prefix="x" * 60, begin=n - 5))
        self.good("log", "trim", self.store, "s", "--below", n)
        self.assertEqual(self.append(b"again\n", name="s"), b"1 record, the last %d\n" % n)
        self.clean()

    def test_beyond_the_end(self):
        self.append(lines(3))
        for verb in ("cat", "follow"):
            self.refused(1, "log l: record 4: not there yet; the next is 3", "log", verb, self.store, "l", "--from", 4)

    def test_damage_is_told_and_where(self):
        self.append(lines(5000))
        sealed = self.about()["all_segments"][0]
        self.flip(b"line 700", 5)
        done = quire("log", "cat", self.store, "l")
        self.assertEqual(done.returncode, 1)
        line = rb"^quire: log l: record (\d+): Bad message; %s (\d+) goes on beyond it\n$"
        self.assertRegex(done.stderr, line % b"--from")
        bad, beyond = map(int, re.match(line % b"--from", done.stderr).groups())
        self.assertEqual(done.stdout, lines(bad))
        self.assertTrue(bad <= 700 < beyond, done.stderr)
        self.assertTrue(self.cat("--from", beyond) == lines(5000 - beyond, begin=beyond))
        self.refused(1, "Bad message", "log", "cat", self.store, "l", "--from", beyond - 1)
        done = quire("log", "cat", self.store, "l", "--reverse")
        self.assertEqual((done.returncode, done.stdout.count(b"\n")), (1, 5000 - beyond))
        self.assertEqual(re.match(line % b"--to", done.stderr).groups(), (b"%d" % (beyond - 1), b"%d" % (bad - 1)))
        self.assertTrue(self.cat("--to", bad - 1) == lines(bad))
        end = sealed["end_lsn"]
        self.assertTrue(self.cat("--from", end) == lines(5000 - end, begin=end))
        done = quire("check", self.store)
        self.assertEqual((done.returncode, done.stdout.count(b"\n")), (1, 2))

    def test_full_disk_is_told(self):
        self.append(lines(2000))
        for words in (["cat", self.store, "l"], ["follow", self.store, "l", "--from", 0], ["ls", self.store],
                      ["stat", self.store, "l"], ["append", self.store, "l", "--each"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([QUIRE, "log", *map(str, words)], stdout=full, stderr=subprocess.PIPE, input=b"x\n",
                                      timeout=60)
            self.assertEqual((done.returncode, done.stderr),
                             (1, b"quire: standard output: No space left on device\n"), words)

    def test_usage(self):
        s = str(self.store)
        for words in ([], ["frob", s, "l"], ["create"], ["create", s], ["ls"], ["ls", s, "l"], ["append", s],
                      ["append", s, "l", "m"], ["append", s, "l", "--null", "--whole"], ["append", s, "l", "--from", "3"],
                      ["cat", s], ["cat", s, "l", "--from", "x"], ["cat", s, "l", "--from", "-1"], ["cat", s, "l", "--from"],
                      ["cat", s, "l", "--to", "newest"], ["cat", s, "l", "--last", "0"], ["cat", s, "l", "--since", "soon"],
                      ["cat", s, "l", "--since", "2026-02-30"], ["cat", s, "l", "--since", "5m", "--from", "3"],
                      ["cat", s, "l", "--json", "--null"], ["cat", s, "l", "--below", "3"], ["cat", s, "l", "--visible"],
                      ["follow", s, "l", "--to", "3"], ["follow", s, "l", "--reverse"], ["trim", s, "l"],
                      ["trim", s, "l", "--below", "x"], ["stat", s], ["stat", s, "l", "--long"], ["rm", s], ["rm", s, "l", "--json"],
                      ["create", s, "x", "--class", "tape"], ["create", s, "x", "--segment-size", "100K"],
                      ["create", s, "x", "--segment-size", "32K"], ["create", s, "x", "--segment-size", "2G"],
                      ["create", s, "x", "--retain-bytes", "x"], ["create", s, "x", "--retain-time", "5"],
                      ["create", s, "x", "--retain-time", "0s"], ["create", s, "x", "--retain-records", "0"]):
            done = quire("log", *words)
            self.assertEqual((done.returncode, done.stdout), (2, b""), words)
            self.assertRegex(done.stderr.decode(), r"\Aquire: [^:\n]+: [^\n]+\n\Z", words)
        self.assertEqual(self.good("log", "ls", self.store), b"l\n")


class Served(ByDaemon, Alone):
    pass


class OnlyRead(WithLog):
    def test_read_only_file_system(self):
        self.append(lines(3000))
        at = self.dir / "ro"
        at.mkdir()
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("no mounts for this user")
        script = ('mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 77; shift 2; exec "$@"')

        def there(verb, *words):
            done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", self.store, at, QUIRE, "log", verb, at,
                                   *map(str, words)], capture_output=True, timeout=60)
            if done.returncode == 77:
                self.skipTest("no bind mounts here")
            return done.returncode, done.stdout, done.stderr
        self.assertTrue(there("cat", "l") == (0, lines(3000), b""))
        self.assertEqual(there("ls"), (0, b"l\n", b""))
        self.assertEqual(there("stat", "l")[0], 0)
        for words in (["append", "l"], ["create", "m"], ["trim", "l", "--below", 5], ["rm", "l"]):
            code, out, err = there(*words)
            self.assertEqual((code, out), (1, b""), words)
            self.assertRegex(err, b"^quire: [^\n]*can't be written[^\n]*\n$")


if __name__ == "__main__":
    unittest.main()
