#!/usr/bin/python3
"""log_test.py QUIRE - the verbs of logs, alone and through a daemon."""
import base64
import json
import os
import subprocess
import time
import unittest

from log_case import ByDaemon, WithLog, lines
from store_case import QUIRE, quire


class Alone(WithLog):
    """Every verb, by a process that opens the store."""

    # ---- in and out ----

    def test_a_record_a_line(self):
        self.assertEqual(self.append(b""), b"0 records\n")
        self.assertEqual(self.cat(), b"")
        self.assertEqual(self.append(b"one\n"), b"1 record, the last 0\n")
        self.assertEqual(self.append(b"two\n\nlast without an end"), b"3 records, the last 3\n")
        self.assertEqual(self.cat(), b"one\ntwo\n\nlast without an end\n")
        self.clean()

    def test_many_lines_over_many_segments(self):
        content = lines(20000)
        self.assertEqual(self.append(content), b"20000 records, the last 19999\n")
        self.assertTrue(self.cat() == content)
        about = self.about()
        self.assertEqual((about["first_lsn"], about["visible"], about["durable"], about["records"]),
                         (0, 20000, 20000, 20000))
        self.assertGreater(about["sealed"], 5)
        self.assertEqual([g["first_lsn"] for g in about["all_segments"][1:]],
                         [g["end_lsn"] for g in about["all_segments"][:-1]])
        self.clean()

    def test_separated_by_zero_bytes(self):
        self.append(b"with\nnewline\0\0end", "--null")
        self.assertEqual(self.cat("--null"), b"with\nnewline\0\0end\0")

    def test_the_whole_input_is_one_record(self):
        content = os.urandom(50000)
        for i, record in enumerate([content, b"", b"a\nb\n"]):
            self.assertEqual(self.append(record, "--whole"), b"1 record, the last %d\n" % i)
            self.assertTrue(self.cat("--last", 1, "--whole") == record)
        self.assertTrue(self.cat("--whole") == content + b"a\nb\n")

    def test_a_file_as_input(self):
        path = self.write("input", lines(3))
        with open(path, "rb") as file:
            done = subprocess.run([QUIRE, "log", "append", self.store, "l"], stdin=file, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"3 records, the last 2\n", b""))
        self.assertEqual(self.cat(), lines(3))

    def test_acknowledged_one_by_one_and_as_json(self):
        self.assertEqual(self.append(b"a\nb\nc", "--each"), b"0\n1\n2\n")
        self.assertEqual(self.append(b"d\n", "--each", "--json"), b'{"lsn": 3}\n')
        self.assertEqual(json.loads(self.append(b"e\nf\n", "--json")), {"records": 2, "first_lsn": 4, "last_lsn": 5})
        self.assertEqual(json.loads(self.append(b"", "--json")), {"records": 0})

    def test_ranges(self):
        self.append(lines(10))
        for words, expected in (([], range(10)), (["--from", 7], range(7, 10)), (["--from", "oldest"], range(10)),
                                (["--to", 2], range(3)), (["--from", 3, "--to", 5], range(3, 6)),
                                (["--to", 100], range(10)), (["--from", 10], []), (["--from", 5, "--to", 4], []),
                                (["--last", 2], [8, 9]), (["--last", 100], range(10)), (["--to", 5, "--last", 2], [4, 5]),
                                (["--reverse"], range(9, -1, -1)), (["--last", 2, "--reverse"], [9, 8]),
                                (["--from", 3, "--to", 5, "--reverse"], [5, 4, 3]), (["--since", "1h"], range(10)),
                                (["--since", "2000-01-01", "--last", 1], [9]), (["--since", "2200-01-01"], [])):
            self.assertEqual(self.cat(*words), b"".join(b"line %d\n" % i for i in expected), words)

    def test_since_a_record_s_own_time(self):
        for i in range(3):
            self.append(b"%d\n" % i)
        times = [r["time"] for r in self.records()]
        self.assertEqual(times, sorted(times))
        self.assertEqual(self.cat("--since", times[1]), b"1\n2\n")
        now = time.time()
        self.assertEqual(self.cat("--since", f"@{now + 60:.3f}"), b"")

    def test_json_is_a_line_a_record(self):
        texts = [b"plain", b"", b'"quoted\\ \x01\t\x7f', "Grüße, 世界 🎈".encode(), b"zero\0inside"]
        others = [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", bytes(range(256)), os.urandom(5000) + b"\xff"]
        self.append(b"\0".join(texts[:-1]) + b"\0", "--null")
        for record in texts[-1:] + others:
            self.append(record, "--whole")
        records = self.records()
        self.assertEqual([r["lsn"] for r in records], list(range(len(texts) + len(others))))
        for r, expected in zip(records, texts):
            self.assertEqual(r["text"].encode(), expected)
        for r, expected in zip(records[len(texts):], others):
            self.assertTrue(base64.b64decode(r["base64"], validate=True) == expected)
        self.assertRegex(records[0]["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")

    # ---- which there are ----

    def test_several_logs(self):
        self.good("class", "add", self.store, "staging", "--size", "4M")
        self.good("log", "create", self.store, "Other-1.x_", "--class", "staging", "--segment-size", "128K",
                  "--retain-bytes", "1M", "--retain-time", "7d", "--retain-records", 100)
        self.append(b"there\n", name="Other-1.x_")
        self.append(b"here\n")
        self.assertEqual(self.good("log", "ls", self.store), b"l\nOther-1.x_\n")
        a, b = self.facts("log", "ls", self.store)
        self.assertEqual((a["name"], a["class"], a["segment_bytes"], a["retain_bytes"]), ("l", "capacity", 65536, 0))
        self.assertEqual((b["name"], b["class"], b["segment_bytes"], b["retain_bytes"], b["retain_ns"], b["retain_records"]),
                         ("Other-1.x_", "staging", 131072, 1 << 20, 7 * 86400 * 10**9, 100))
        self.assertRegex(self.good("log", "ls", self.store, "--long"), rb"(?m)^Other-1.x_\tstaging\t131072\t\d+\t\d+$")
        self.assertEqual((self.cat(), self.cat(name="Other-1.x_")), (b"here\n", b"there\n"))
        self.assertRegex(self.good("log", "stat", self.store, "Other-1.x_"), rb"(?m)^retain time +604800 s$")
        stat = self.facts("stat", self.store)
        self.assertEqual((stat["logs"], stat["log_segments"] >= 2, stat["log_bytes"] >= 3 * 65536), (2, True, True))
        self.good("log", "rm", self.store, "l")
        self.assertEqual(self.good("log", "ls", self.store), b"Other-1.x_\n")
        self.assertEqual(self.facts("stat", self.store)["logs"], 1)
        self.clean()

    def test_on_persistent_memory(self):
        self.good("class", "add", self.store, "pmem", "--size", "4M", "--durable", "process")
        self.good("log", "create", self.store, "p", "--class", "pmem", "--segment-size", "64K")
        content = lines(5000)
        self.assertEqual(self.append(content, name="p"), b"5000 records, the last 4999\n")
        self.assertTrue(self.cat(name="p") == content)
        self.assertGreater(self.facts("log", "trim", self.store, "p", "--below", 3000)["segments_freed"], 0)
        self.assertEqual(self.cat("--last", 1, name="p"), b"line 4999\n")
        self.clean()

    def test_keys(self):
        self.good("log", "create", self.store, "k", "--segment-size", "64K", "--keys")
        pairs = b"".join(b"user%d\tvalue %d\n" % (i % 50, i) for i in range(5000))
        self.assertEqual(self.append(pairs, "--keyed", name="k"), b"5000 records, the last 4999\n")
        self.assertEqual(self.cat("--key", "user7", name="k"), b"value 4957\n")
        last = self.records("--key", "user49", name="k")
        self.assertEqual([(r["lsn"], r["key"], r["text"]) for r in last], [(4999, "user49", "value 4999")])
        self.refused(1, "no record with that key", "log", "cat", self.store, "k", "--key", "nobody")
        self.refused(1, "a key has 1 to 1024 bytes", "log", "cat", self.store, "k", "--key", "")
        self.refused(1, "its records have no keys", "log", "cat", self.store, "l", "--key", "user7")
        done = quire("log", "append", self.store, "k", "--keyed", input=b"user1\tlast\nno tab\n")
        self.assertEqual((done.returncode, done.stdout), (1, b"1 record, the last 5000\n"))
        self.assertEqual(done.stderr, b"quire: log k: record 2 of the input: no key of 1 to 1024 bytes before a tab\n")
        self.assertEqual(self.cat("--key", "user1", name="k"), b"last\n")
        self.assertEqual(self.about("k")["keys_in_memory"], 50)
        self.clean()

    def test_destaging(self):
        self.good("class", "add", self.store, "staging", "--size", "4M")
        self.good("log", "create", self.store, "d", "--class", "staging", "--segment-size", "64K", "--destage", "capacity",
                  "--destage-keep", "64K")
        self.refused(1, "log e: Invalid argument", "log", "create", self.store, "e", "--destage", "capacity")
        self.append(lines(20000), name="d")
        self.append(lines(1, begin=20000), name="d")
        self.until(lambda: self.about("d")["segments_destaged"] >= 2)
        about = self.about("d")
        self.assertEqual((about["class"], about["destage_to"], about["destage_keep_bytes"]), ("staging", "capacity", 65536))
        self.assertEqual(about["all_segments"][0]["class"], "capacity")
        self.assertEqual(about["all_segments"][-1]["class"], "staging")
        self.assertTrue(self.cat(name="d") == lines(20001))
        self.clean()

    def test_removed_and_made_again(self):
        used = self.used()
        for _ in range(3):
            self.good("log", "create", self.store, "x", "--segment-size", "64K")
            self.append(lines(1000), name="x")
            self.assertGreater(self.used(), used)
            self.good("log", "rm", self.store, "x")
            self.until(lambda: self.used() == used)
        self.clean()

    def test_trimmed(self):
        self.append(lines(5000))
        before = self.about()["all_segments"]
        segments = [g for g in before if g["sealed"]]
        self.assertGreater(len(segments), 2)
        below = segments[1]["end_lsn"]
        self.assertEqual(self.good("log", "trim", self.store, "l", "--below", 0),
                         b"0 segments freed, the oldest record is 0\n")
        self.assertEqual(self.good("log", "trim", self.store, "l", "--below", below + 1),
                         b"2 segments freed, the oldest record is %d\n" % below)
        for verb in ("cat", "follow"):
            self.refused(1, f"record 5: trimmed; the oldest is {below}", "log", verb, self.store, "l", "--from", 5)
        self.assertTrue(self.cat() == lines(5000 - below, begin=below))
        rest = self.facts("log", "trim", self.store, "l", "--below", 1 << 40)
        # A full one may have been sealed meanwhile: all that were there are freed, or there still.
        self.assertGreaterEqual(rest["segments_freed"], len(segments) - 2)
        self.assertEqual(2 + rest["segments_freed"] + len(self.about()["all_segments"]), len(before))
        self.assertEqual(self.append(b"x\n"), b"1 record, the last 5000\n")
        self.clean()

    def test_retention(self):
        self.good("log", "create", self.store, "r", "--segment-size", "64K", "--retain-records", 1000)
        self.append(lines(20000), name="r")
        about = self.about("r")
        self.assertGreater(about["first_lsn"], 10000)
        self.assertGreaterEqual(about["records"], 1000)
        self.assertTrue(self.cat(name="r") == lines(about["records"], begin=about["first_lsn"]))

    def test_help(self):
        self.assertIn(b"quire log follow STORE", self.good("log", "--help"))
        for verb in ("create", "ls", "append", "cat", "follow", "trim", "stat", "rm"):
            out = self.good("log", verb, "--help").decode()
            self.assertTrue(out.startswith(f"usage: quire log {verb} STORE"), verb)
            self.assertEqual(self.good("log", "--help", verb).decode(), out)


class Served(ByDaemon, Alone):
    pass


if __name__ == "__main__":
    unittest.main()
