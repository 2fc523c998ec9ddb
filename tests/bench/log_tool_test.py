#!/usr/bin/python3
"""The log benchmark's programs with a little data each, what they refuse, and what its ratios are made of."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LIBRARY, PROGRAM, *PEERS = sys.argv[1:]
del sys.argv[1:]
PEERS = {pathlib.Path(path).name.removeprefix("bench-log-"): path for path in PEERS}
sys.dont_write_bytecode = True
sys.path.insert(0, LIBRARY)
import log      # noqa: E402
import machine  # noqa: E402

SEGMENT = str(64 << 10)


class Programs(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="quire-bench-log-")
        self.addCleanup(scratch.cleanup)
        self.store = pathlib.Path(scratch.name) / "store"

    def start(self, *words):
        return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=100)

    def good(self, *words):
        done = self.start(*words)
        if "bench-log: blocks: Invalid argument" in done.stderr:
            self.skipTest("no O_DIRECT where temporary files are")
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return json.loads(done.stdout)

    def part(self, name, *words):
        return self.good(PROGRAM, "--dir", self.store, "--segment-bytes", SEGMENT, *words, name)

    def test_one_writer(self):
        rounds = self.part("latency", "--rounds", 2, "--seconds", 0.01)["rounds"]
        self.assertEqual(len(rounds), 2)
        for kind in ("raw", "raw_again", "coroutine", "thread"):
            self.assertGreater(rounds[0][f"{kind}_n"], 0)
            self.assertTrue(0 < rounds[0][f"{kind}_p50"] <= rounds[0][f"{kind}_p99"])

    def test_many_writers(self):
        for kind in ("coroutines", "threads", "batches"):
            sample = self.good(PROGRAM, "--dir", self.store.with_name(kind), "--segment-bytes", SEGMENT, "--kind", kind,
                               "--seconds", 0.02, "group")
            self.assertGreaterEqual(sample["records"], 64)  # each writer has one at least
            self.assertGreaterEqual(sample["per_second"], 0)
            if kind == "batches":
                self.assertEqual(sample["records"] % 64, 0)

    def test_peers_sync_what_they_acknowledge(self):
        ways = [(PROGRAM, ["--dir", self.store, "--seconds", "0.02", "--kind", "grow", "sync"], 1)]
        for name, variants in (("sqlite", ["plain", "batches"]), ("rocksdb", ["put-noyield", "batches-logdata"])):
            ways += [(PEERS[name], [self.store.with_name(name + v), "0.02", v], 64) for v in variants if name in PEERS]
        for program, words, at_most in ways:
            sample = self.good(program, *words)
            self.assertGreaterEqual(sample["records"], at_most)
            self.assertLessEqual(sample["records"], at_most * sample["syncs"], words)

    def test_nobody_waits(self):
        for kind in ("one", "many"):
            sample = self.good(PROGRAM, "--dir", self.store.with_name(kind), "--segment-bytes", SEGMENT, "--kind", kind,
                               "--n", 6400, "--record-bytes", 64, "nowait")
            self.assertTrue(0 < sample["per_second"] <= sample["taken_in_per_second"])

    def test_reading_and_following(self):
        result = self.part("read", "--bytes", 1 << 20, "--rounds", 2)
        self.assertEqual(len(result["rounds"]), 2)
        self.assertTrue(all(speed > 0 for r in result["rounds"] for speed in r.values()))
        sample = self.good(PROGRAM, "--dir", self.store.with_name("follow"), "--n", 20, "--segment-bytes", SEGMENT,
                           "--kind", "wait", "follow")
        self.assertLessEqual(sample["p50_us"], sample["p99_us"])
        self.assertTrue(0 <= sample["before"] <= 1)

    def test_opened_is_what_was_filled(self):
        words = ["--segment-bytes", str(1 << 20), "--bytes", 4 << 20, "--tail-bytes", 256 << 10]
        n = self.good(PROGRAM, "--dir", self.store, *words, "fill")["n_records"]
        rounds = self.good(PROGRAM, "--dir", self.store, "--rounds", 2, "open")["rounds"]
        self.assertEqual([r["n_records"] for r in rounds], [n, n])
        for r in rounds:
            self.assertTrue(512 <= r["n_recovered"] <= 512 + 2048, r)  # 256 KiB, and what ended the segment before
            self.assertEqual(r["scanned_bytes"], r["n_recovered"] * (512 + 40))

    def test_refusals(self):
        for words in ([], ["latency"], ["--dir", self.store], ["--dir", self.store, "nonsense"], ["--nonsense", "read"]):
            self.assertEqual(self.start(PROGRAM, *words).returncode, 2, words)
        done = self.start(PROGRAM, "--dir", "/nonexistent/x/store", "read")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("/nonexistent/x", done.stderr)
        for peer in PEERS.values():
            self.assertEqual(self.start(peer).returncode, 2)


class FakeBench:
    quick = True

    def __init__(self, directory, sample):
        self.disk = pathlib.Path(directory)
        self.sample = sample

    def peer(self, program, *words):
        return self.sample

    def log(self, part, **options):
        return self.sample

    def remove(self, path):
        path.rmdir()


class Ratios(unittest.TestCase):
    def write(self, way, records, syncs):
        with tempfile.TemporaryDirectory() as directory:
            return log.write_group(FakeBench(directory, {"records": records, "syncs": syncs}), way, 1)

    def test_who_acknowledges_too_much_is_refused(self):
        self.write(("sqlite", "plain"), 6400, 100)
        self.write(("sync", "grow"), 100, 100)
        for way, records in ((("sqlite", "plain"), 6401), (("rocksdb", "put"), 6401), (("sync", "grow"), 101)):
            with self.assertRaises(machine.Failed):
                self.write(way, records, 100)

    def test_medians_of_rounds_and_the_better_way(self):
        speeds = {"quire, coroutines": (10, 10, 40), "quire, threads": (5, 4, 4), "quire, batches": (6, 6, 6),
                  "rocksdb": (5, 2, 1), "rocksdb, batches": (3, 3, 3), "sqlite": (20, 20, 20),
                  "sqlite, batches": (12, 12, 12), "fdatasync, 1 writer": (1, 1, 1)}
        rounds = [{name: {"per_second": s[i]} for name, s in speeds.items()} for i in range(3)]
        self.assertEqual(log.group_ratios(rounds), {
            "group64_over_fdatasync1": 10, "quire_over_rocksdb_wal": 5, "threads_over_rocksdb_wal": 2,
            "batches_over_rocksdb_wal": 2, "quire_over_sqlite": 0.5, "threads_over_sqlite": 0.2,
            "batches_over_sqlite": 0.5})

    def test_each_floor_is_of_a_ratio_that_a_run_gives(self):
        source = pathlib.Path(log.__file__).read_text()
        for key in log.FLOORS:
            self.assertGreaterEqual(source.count(f'"{key}"') + (key.startswith("quire_over_")), 2, key)


if __name__ == "__main__":
    unittest.main()
