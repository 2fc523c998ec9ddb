#!/usr/bin/python3
"""log_use_test.py QUIRE - logs in use: followed, interrupted, killed, by many at once, beside a writer."""
import json
import os
import signal
import unittest

from log_case import ByDaemon, WithLog, lines


class Alone(WithLog):
    """By processes that open the store."""

    def test_a_slow_line_is_durable_soon(self):
        child = self.begin_append("--each")
        for i in range(3):
            self.feed(child, b"line %d\n" % i)
            self.assertEqual(child.stdout.readline(), b"%d\n" % i)
            self.assertEqual(self.cat(), lines(i + 1))
        self.feed(child, b"half")
        self.assertEqual(self.cat(), lines(3))
        out, err = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out, err), (0, b"3\n", b""))

    def test_interrupted_what_came_is_in(self):
        child = self.begin_append("--each")
        self.feed(child, lines(2) + b"half")
        self.assertEqual([child.stdout.readline() for _ in range(2)], [b"0\n", b"1\n"])
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(60), -signal.SIGINT if self.served else 1)
        self.assertRegex(child.stderr.read(), b"^(quire: log l: interrupted\n)?$")
        self.assertEqual(self.cat(), lines(2))

    def test_killed_what_was_acknowledged_is_there(self):
        child = self.begin_append("--each")
        os.set_blocking(child.stdin.fileno(), False)
        content, sent, last = lines(200000), 0, -1
        while last < 2000:
            try:
                sent += os.write(child.stdin.fileno(), content[sent:sent + 65536])
            except BlockingIOError:
                last = int(child.stdout.readline())
        child.kill()
        child.wait()
        told = [int(line) for line in child.stdout.read().splitlines()[:-1]]
        last = told[-1] if told else last
        there = self.cat()
        self.assertGreater(there.count(b"\n"), last)
        self.assertTrue(content.startswith(there))
        self.until(lambda: not self.facts("log", "ls", self.store)[0]["open"])
        n = self.about()["durable"]
        self.assertEqual(self.append(b"after\n"), b"1 record, the last %d\n" % n)
        self.assertEqual(self.cat("--last", 1), b"after\n")
        self.clean()

    def test_follow(self):
        self.append(b"before\n")
        whole = self.begin_follow("--from", "oldest")
        last = self.begin_follow("--last", 1, "--json")
        visible = self.begin_follow("--from", 0, "--visible", "--null")
        self.assertEqual(whole.stdout.readline(), b"before\n")
        self.assertEqual(json.loads(last.stdout.readline())["text"], "before")
        self.assertEqual(visible.stdout.read(7), b"before\0")
        self.append(b"after\n")
        self.append(lines(1000))
        self.assertEqual(whole.stdout.readline(), b"after\n")
        self.assertEqual(json.loads(last.stdout.readline())["lsn"], 1)
        self.assertTrue(b"".join(whole.stdout.readline() for _ in range(1000)) == lines(1000))
        self.assertTrue(visible.stdout.read(6 + len(lines(1000))) == b"after\0" + lines(1000).replace(b"\n", b"\0"))
        for child, number in ((whole, signal.SIGINT), (last, signal.SIGTERM), (visible, signal.SIGHUP)):
            child.send_signal(number)
            self.assertEqual((child.wait(60), child.stderr.read()), (0, b""))
        self.until(lambda: not self.facts("log", "ls", self.store)[0]["open"])

    def test_follow_from_now_on(self):
        self.append(b"before\n")
        child = self.begin_follow()
        # It says nothing until something comes; when it has begun nobody can tell, so that comes again and again.
        os.set_blocking(child.stdout.fileno(), False)
        def heard():
            self.append(b"after\n")
            return child.stdout.readline() == b"after\n"
        self.until(heard)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(60), 0)

    def test_readers_that_go_away(self):
        self.append(lines(20000))
        for verb, words in (("cat", []), ("follow", ["--from", "oldest"])):
            child = self.started("log", verb, self.store, "l", *words)
            self.assertEqual(child.stdout.readline(), b"line 0\n")
            child.stdout.close()
            self.assertIn(child.wait(60), (0, -signal.SIGPIPE), verb)
            self.assertEqual(child.stderr.read(), b"")

    def test_a_reader_that_goes_away_while_nothing_comes(self):
        self.append(b"x\n")
        child = self.begin_follow("--from", 0)
        self.assertEqual(child.stdout.readline(), b"x\n")
        child.stdout.close()
        self.assertEqual((child.wait(60), child.stderr.read()), (0, b""))


class Served(ByDaemon, Alone):
    """The same through a daemon, and what only that can do."""

    def test_appends_and_follows_at_once(self):
        follows = [self.begin_follow("--from", "oldest") for _ in range(4)]
        appends = [self.begin_append() for _ in range(4)]
        for i, child in enumerate(appends):
            self.feed(child, lines(2000, prefix=f"a{i}"))
        for child in appends:
            out, err = child.communicate(timeout=60)
            self.assertEqual((child.returncode, err), (0, b""))
            self.assertRegex(out, rb"^2000 records, the last \d+\n$")
        content = self.cat()
        for i in range(4):
            mine = b"".join(line + b"\n" for line in content.splitlines() if line.startswith(b"a%d " % i))
            self.assertTrue(mine == lines(2000, prefix=f"a{i}"))
        for child in follows:
            self.assertTrue(child.stdout.read(len(content)) == content)
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(60), 0)
        self.clean()

    def test_open_once_for_all(self):
        child = self.begin_append("--each")
        self.feed(child, b"a\n")
        self.assertEqual(child.stdout.readline(), b"0\n")
        self.assertTrue(self.facts("log", "ls", self.store)[0]["open"])
        self.append(b"b\n")
        self.clean()
        self.feed(child, b"c\n")
        self.assertEqual(child.stdout.readline(), b"2\n")
        self.refused(1, "log l: in use", "log", "rm", self.store, "l")
        child.communicate(timeout=60)
        self.assertFalse(self.facts("log", "ls", self.store)[0]["open"])
        self.assertEqual(self.cat(), b"a\nb\nc\n")
        self.good("log", "rm", self.store, "l")

    def test_killed_users_let_go(self):
        for verb in ("append", "follow"):
            child = self.begin_append("--each") if verb == "append" else self.begin_follow("--from", 0)
            if verb == "append":
                self.feed(child, b"a\n")
            self.assertTrue(child.stdout.readline())
            child.kill()
            child.wait()
            self.until(lambda: not self.facts("log", "ls", self.store)[0]["open"])
        self.good("log", "rm", self.store, "l")

    def test_the_daemon_ends(self):
        append, follow = self.begin_append("--each"), self.begin_follow("--from", "oldest")
        self.feed(append, b"a\nhalf")
        self.assertEqual((append.stdout.readline(), follow.stdout.readline()), (b"0\n", b"a\n"))
        self.stop(self.daemon)
        self.assertEqual((append.wait(60), append.stderr.read()), (1, b"quire: log l: interrupted\n"))
        self.assertEqual((follow.wait(60), follow.stderr.read()), (1, b"quire: log l: the daemon ends\n"))
        self.assertEqual(self.cat(), b"a\n")
        self.clean()

    def test_a_killed_daemon(self):
        append = self.begin_append("--each")
        follow = self.begin_follow("--from", "oldest", "--durable")
        self.feed(append, lines(500))
        n = len([append.stdout.readline() for _ in range(500)])
        self.assertEqual(follow.stdout.readline(), b"line 0\n")
        self.daemon.kill()
        for child in (append, follow):
            child.wait(60)
            self.assertEqual((child.returncode, child.stderr.read().count(b"\n")), (1, 1))
        self.assertTrue(self.cat() == lines(n))
        self.clean()


class BesideAWriter(WithLog):
    """Another process writes, and does not serve."""
    def setUp(self):
        super().setUp()
        self.writer = self.begin_append("--each")
        self.write_more(lines(10))

    def write_more(self, content):
        self.feed(self.writer, content)
        return [self.writer.stdout.readline() for _ in range(content.count(b"\n"))]

    def test_it_is_read(self):
        self.assertEqual(self.cat(), lines(10))
        self.assertEqual(self.about()["durable"], 10)
        self.assertEqual(self.good("log", "ls", self.store), b"l\n")
        self.write_more(lines(10, begin=10))
        self.assertEqual(self.cat("--from", 8), lines(12, begin=8))

    def test_it_is_followed(self):
        follow = self.begin_follow("--from", 0)
        for i in range(3):
            self.assertTrue(b"".join(follow.stdout.readline() for _ in range(10 if i == 0 else 2000)) ==
                            (lines(10) if i == 0 else lines(2000, begin=10 + (i - 1) * 2000)))
            self.write_more(lines(2000, begin=10 + i * 2000))
        follow.send_signal(signal.SIGINT)
        self.assertEqual((follow.wait(60), follow.stderr.read()), (0, b""))

    def test_writers_are_told_who(self):
        for words in (["append", self.store, "l"], ["create", self.store, "m"], ["rm", self.store, "l"],
                      ["trim", self.store, "l", "--below", 3]):
            self.refused(1, f"held by process {self.writer.pid}", "log", *words)
        self.assertEqual(self.cat(), lines(10))

    def test_a_reader_whose_records_are_trimmed(self):
        """He reads slowly; meanwhile they are gone, and others stand in their place."""
        more = lines(30000, begin=10)
        for i in range(15):
            self.write_more(lines(2000, begin=10 + 2000 * i))
        self.assertEqual(self.writer.communicate(timeout=60), (b"", b""))
        reader = self.started("log", "cat", self.store, "l")
        self.assertEqual(reader.stdout.readline(), b"line 0\n")
        self.good("log", "trim", self.store, "l", "--below", 30000)
        self.append((b"x" * 50000 + b"\n") * 60)
        out = reader.stdout.read()
        self.assertTrue((lines(10) + more).startswith(b"line 0\n" + out))
        self.assertEqual(reader.wait(60), 1)
        self.assertRegex(reader.stderr.read(), rb"^quire: log l: record \d+: trimmed; the oldest is \d+\n$")


if __name__ == "__main__":
    # Whoever runs the tests may have it ignored (nohup), and then the command leaves it so.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    unittest.main()
