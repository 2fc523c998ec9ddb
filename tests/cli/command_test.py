#!/usr/bin/python3
"""command_test.py QUIRE - the command as people use it: output, exit codes, one line for an error."""
import json
import os
import pathlib
import signal
import subprocess
import time
import unittest

from store_case import QUIRE, InDirectory, quire


class Command(InDirectory):
    def test_usage_errors_exit_2(self):
        self.refused(2, "VERB")
        self.refused(2, "frobnicate: no such verb", "frobnicate")
        self.refused(2, "FILE: which one?", "cat")
        self.refused(2, "--json: no such option", "cat", "--json", "x")
        self.refused(2, "12q: not a size", "demo", "--budget", "12q")
        self.refused(2, "--budget: a value is missing", "warm", "--budget")
        self.refused(2, "nobody: no such contender", "demo", "--only", "mmap1,nobody")
        self.refused(2, "b: one directory at most", "demo", "a", "b")
        self.refused(2, "1K: not a size of 8 MiB or more", "warm", "--budget", "1K", "x")
        self.refused(2, "tmem: bench or stat", "tmem", "frobnicate")
        self.refused(2, "tmem stat: which service?", "tmem", "stat", "/tmp/x")
        self.refused(2, "--frob", "tmem", "stat", "--frob", "unix:x")
        self.refused(1, "No such file", "tmem", "stat", "unix:/nowhere/at/all")
        self.refused(2, "FILES: which ones?", "tmem", "bench")
        self.refused(2, "5000: not a power of two", "tmem", "bench", "--page-bytes", "5000", "x")

    def test_usage_of_ublk(self):
        self.refused(2, "x: not a device's number", "serve", "--ublk", "x", "--memory", "1M")
        self.refused(2, "serve: one of --file, --volume, --memory and --swap", "serve", "--ublk", "0")
        self.refused(2, "serve: one of --file", "serve", "--ublk", "0", "--memory", "1M", "--file", "f")
        self.refused(2, "serve: --volume goes with a store", "serve", "--ublk", "0", "--volume", "v")
        self.refused(2, "serve: --volume goes with a store", "serve", "s", "--ublk", "0", "--memory", "1M")
        self.refused(2, "--read-only: of memory", "serve", "--ublk", "0", "--memory", "1M", "--read-only")
        self.refused(2, "5000: not a number", "serve", "--ublk", "0", "--memory", "1M", "--requests", "5000")
        self.refused(2, "1M,x: not of the form", "serve", "--ublk", "0", "--swap", "1M,x")
        for words in (["ublk"], ["ublk", "frobnicate"], ["ublk", "ls", "x"], ["ublk", "stop"], ["ublk", "stop", "x"], ["ublk", "stop", "0", "--json"]):
            self.refused(2, "", *words)

    def test_ublk_without_io_uring_is_refused(self):
        environment = dict(os.environ, QUIRE_MASK="io_uring")
        for words in (["serve", "--ublk", "0", "--memory", "1M"], ["ublk", "ls"], ["ublk", "stop", "0"]):
            done = quire(*words, env=environment)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertEqual(done.stderr, b"quire: ublk: io_uring without commands: Operation not supported\n")

    def test_every_verb_has_help(self):
        for words in (["--help"], *([verb, "--help"] for verb in ("demo", "info", "cat", "warm", "tmem", "ublk"))):
            done = quire(*words)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertTrue(done.stdout.startswith(b"usage: quire"))

    def test_full_disk_is_told(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([QUIRE, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"quire: standard output: No space left on device\n")

    def test_capabilities(self):
        done = quire("info", "--capabilities", "--json")
        facts = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0)
        self.assertIn(facts["grade"], ("none", "user-mode", "full"))
        table = quire("info", "--capabilities").stdout.decode()
        for key, holds in facts["promises"].items():
            self.assertRegex(table, rf"{'yes' if holds else 'no '}  {key} ")

    def test_masked_features_are_told(self):
        environment = dict(os.environ, QUIRE_MASK="userfaultfd,io_uring")
        facts = json.loads(quire("info", "--capabilities", "--json", env=environment).stdout)
        self.assertEqual((facts["grade"], facts["promises"]["io_uring"]), ("none", False))

    def test_what_pools_save_adds_up(self):
        words, noise = b"abcdefgh" * 512 * 20, os.urandom(4096 * 30)
        text = b"".join(b"a line that stands here %d times over\n" % i for i in range(4000))
        for name, content in {"words": words, "noise": noise, "again": noise, "text": text}.items():
            (self.dir / name).write_bytes(content)
        done = quire("tmem", "bench", "--json", *(self.dir / name for name in ("words", "noise", "again", "text")))
        facts = json.loads(done.stdout)
        n_text = -(-len(text) // 4096)
        self.assertEqual((done.returncode, facts["wrong"]), (0, 0))
        self.assertEqual((facts["pages"], facts["pages_same"], facts["contents_raw"]), (80 + n_text, 20, 30))
        self.assertEqual(facts["same_saved_bytes"], 20 * 4096)
        self.assertEqual(facts["dedup_saved_bytes"], 30 * 4096)
        self.assertGreater(facts["compress_saved_bytes"], len(text) / 3)
        self.assertEqual(facts["page_bytes"], sum(facts[key] for key in facts if key.endswith("saved_bytes")) + facts["content_bytes"])
        self.assertEqual(facts["held_bytes"], sum(facts[key + "_bytes"] for key in ("content", "head", "rounding", "hole", "index")))
        self.assertEqual((facts["puts"], facts["gets"], facts["get_hits"]), (80 + n_text, 80 + n_text, 80 + n_text))

    def test_pools_are_tried_on_files_alone(self):
        self.refused(1, "not a regular file", "tmem", "bench", self.dir)
        self.refused(1, "No such file", "tmem", "bench", self.dir / "nothing")

    def test_cat_writes_files_as_they_are(self):
        sizes = [0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (3 << 20) + 5]
        contents = [os.urandom(size) for size in sizes]
        for i, content in enumerate(contents):
            (self.dir / str(i)).write_bytes(content)
        done = quire("cat", *(self.dir / str(i) for i in range(len(sizes))))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout == b"".join(contents))

    def test_cat_to_a_full_disk_fails(self):
        (self.dir / "x").write_bytes(bytes(5 << 20))
        with open("/dev/full", "wb") as full:
            done = subprocess.run([QUIRE, "cat", self.dir / "x"], stdout=full, stderr=subprocess.PIPE,
                                  timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"quire: standard output: No space left on device\n")

    def test_what_is_no_file_is_named(self):
        os.mkfifo(self.dir / "pipe")
        for name in ("missing", "pipe", "."):
            for verb in ("cat", "warm"):
                self.refused(1, str(self.dir / name).rstrip("."), verb, self.dir / name)

    def test_warm_reports_what_is_resident(self):
        (self.dir / "small").write_bytes(os.urandom(10000))
        (self.dir / "empty").write_bytes(b"")
        done = quire("warm", "--json", "--budget", "16M", self.dir / "small", self.dir / "empty")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        facts = json.loads(done.stdout)
        self.assertEqual([(f["bytes"], f["resident_bytes"]) for f in facts["files"]], [(10000, 10000), (0, 0)])
        self.assertEqual(facts["mapped_bytes"], 10000)

    def test_warm_keeps_to_its_budget(self):
        (self.dir / "large").write_bytes(os.urandom(24 << 20))
        facts = json.loads(quire("warm", "--json", "--budget", "8M", self.dir / "large").stdout)
        if facts["pages_read"] == 0:
            self.skipTest("kernel mappings: the budget is advisory")
        self.assertLessEqual(facts["used_bytes"], 8 << 20)
        self.assertGreater(facts["resident_bytes"], 1 << 20)
        self.assertGreater(facts["pages_evicted"], 0)


class Demo(InDirectory):
    def corpus(self):
        for i in range(3):
            with open(self.dir / f"data{i}", "wb") as out:
                for _ in range(32):
                    out.write(os.urandom(1 << 20))
                out.flush()
                os.fsync(out.fileno())

    def test_every_answer_is_right(self):
        self.corpus()
        page = self.dir / "page.html"
        # All contenders where nothing is sanitized or refused; elsewhere the peers would only do the same again.
        restricted = {"QUIRE_SANITIZED", "QUIRE_EXPECT"} & set(os.environ) or os.geteuid() != 0
        only = ("--only", "mmap1,quire,quire-suspend") if restricted else ()
        done = quire("demo", self.dir, "--seconds", 1, "--rate", 2000, "--json", "--html", page, *only)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        facts = json.loads(done.stdout)
        self.assertEqual((facts["n_files"], facts["memory_bytes"]), (3, 32 << 20))
        for result in facts["results"]:
            if not result["ran"]:
                self.assertTrue(result["why"])
                continue
            self.assertEqual((result["wrong"], result["errors"], result["lost"]), (0, 0, 0), result)
            self.assertGreater(result["hot_p999_ns"], 0)
            # 1,900 requests for the hot set make no more than one slice, and one is compared with nothing.
            self.assertEqual(len(result["hot_p999_of_slices_ns"]), 1)
        ran = {r["contender"] for r in facts["results"] if r["ran"]}
        if {"mmap1", "quire"} <= ran:
            self.assertNotIn("times", facts["finding"][0])
        if os.environ.get("QUIRE_SANITIZED") and any("more memory" in r.get("why", "") for r in facts["results"]):
            self.skipTest("a sanitizer's own memory does not fit into that of the contest")
        self.assertTrue(facts["results"][0]["ran"])
        text = page.read_text()
        self.assertNotIn("http", text)
        self.assertEqual(text.count("<polyline"), sum(r["ran"] for r in facts["results"]))

    def test_small_directory_is_refused(self):
        (self.dir / "small").write_bytes(bytes(1 << 20))
        self.refused(1, "the contest needs twice its memory", "demo", self.dir)
        self.refused(1, "No such file", "demo", self.dir / "missing")
        self.refused(1, "not a directory", "demo", self.dir / "small")

    def test_page_that_can_not_be_written_is_refused_first(self):
        self.refused(1, "No such file", "demo", self.dir, "--html", self.dir / "missing" / "page")

    def test_interrupted_it_leaves_nothing(self):
        self.corpus()
        child = subprocess.Popen([QUIRE, "demo", self.dir, "--seconds", "60", "--html", self.dir / "page"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not self.children(child.pid):
            self.assertIsNone(child.poll())
            time.sleep(0.01)
        servers = self.children(child.pid)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out, err), (1, b"", b"quire: demo: interrupted\n"))
        self.assertFalse((self.dir / "page").exists())
        for server in servers:
            self.assertFalse(pathlib.Path(f"/proc/{server}").exists())
        self.assertEqual(list(pathlib.Path("/sys/fs/cgroup").rglob(f"quire-demo-{child.pid}-*")), [])

    @staticmethod
    def children(pid):
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


if __name__ == "__main__":
    unittest.main()
