#!/usr/bin/python3
"""The replay tool as people use it: tables, JSON, curves, refusals, and one trace through a real map."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

REPLAY = os.path.abspath(sys.argv.pop(1))
TEXTBOOK = "1\n2\n3\n4\n1\n2\n5\n1\n2\n3\n4\n5\n"


class Replayed(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="quire-replay-")
        self.addCleanup(scratch.cleanup)
        self.dir = pathlib.Path(scratch.name)

    def write(self, name, content):
        path = self.dir / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def replay(self, *words, **variables):
        return subprocess.run([REPLAY, *map(str, words)], capture_output=True, text=True, timeout=100,
                              env={**os.environ, "TMPDIR": str(self.dir), **variables})

    def good(self, *words):
        done = self.replay(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout

    def refused(self, code, line, *words, **variables):
        done = self.replay(*words, **variables)
        self.assertEqual((done.returncode, done.stdout), (code, ""), (words, done.stderr))
        self.assertIn(line, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_table(self):
        out = self.good("--sizes", "4,3", self.write("book.csv", TEXTBOOK))
        self.assertIn("12 accesses to 5 pages", out)
        three = next(line for line in out.splitlines() if line.split()[:1] == ["3"])
        self.assertEqual(three.split()[3:], ["0.8333", "0.7500", "0.5833"])  # 10, 9 and 7 of 12

    def test_json_of_two_traces(self):
        book, other = self.write("book.csv", TEXTBOOK), self.write("b\"o.csv", "1\n1\n")
        traces = json.loads(self.good("--json", "--sizes", "4,0.5,3", book, other))["traces"]
        self.assertEqual([t["trace"] for t in traces], [str(book), str(other)])
        self.assertEqual([s["frames"] for s in traces[0]["sizes"]], [3, 4])  # half of five is three
        self.assertAlmostEqual(traces[0]["sizes"][1]["fifo"], 10 / 12)
        self.assertAlmostEqual(traces[1]["sizes"][0]["quire"], 0.5)

    def test_curves(self):
        svg = self.dir / "curve.svg"
        trace = self.write("<&>.csv", "".join(f"{i * i % 997}\n" for i in range(5000)))
        self.good("--svg", svg, "--sizes", "0.1", trace, self.write("book.csv", TEXTBOOK))
        root = xml.etree.ElementTree.parse(svg).getroot()
        lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(len(lines), 2 * 5)
        self.assertGreater(len(lines[0].get("points").split()), 10)
        for point in re.findall(r"([\d.-]+),([\d.-]+)", " ".join(line.get("points") for line in lines)):
            self.assertTrue(0 <= float(point[0]) <= 720 and 0 <= float(point[1]) <= 400, point)

    def test_bad_traces(self):
        self.refused(1, "no-such: No such file", self.dir / "no-such")
        self.refused(1, "empty", self.write("empty.csv", ""))
        self.refused(1, "line 2: 'five': not a number", self.write("words.csv", "1,5\n2,five\n"))
        self.refused(1, "64 bits", self.write("huge.csv", "1,5\n2,99999999999999999999\n"))
        self.refused(1, "truncated: 6 bytes", self.write("t.oracleGeneral", b"\1" * 30))
        self.refused(1, "unknown format", self.write("noise", b"\0\1\2" * 8))
        book = self.write("book.csv", TEXTBOOK)
        self.refused(1, "could not" if os.path.exists("/dev/full") else "No such", "--svg",
                     "/dev/full" if os.path.exists("/dev/full") else "/nonexistent/x", book)

    def test_usage(self):
        book = self.write("book.csv", TEXTBOOK)
        self.refused(2, "TRACE: none given")
        for size in ("0", "0.0", "1.5", "-3", "x", "4294967295", "1.2.3", ".", "99999999999999999999"):
            self.refused(2, f"{size}: no size", "--sizes", size, book)
        self.refused(2, "xml: unknown format", "--format", "xml", book)
        self.refused(2, "--column", "--column", "0", book)
        self.refused(2, "--nonsense", "--nonsense", book)
        self.assertIn("--sizes", self.good("--help"))

    def test_real_map(self):
        """3,000 pages in a budget that holds at most 2,048 of 4 KiB: half of the accesses to 500 of them."""
        hot = "".join(f"{i * 7919 % 500}\n{i * 104729 % 3000}\n" for i in range(5000))
        path = self.write("hot.csv", hot)
        done = self.replay("--map", "--json", "--sizes", "100,200", path)
        if "no userfaultfd" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        trace = json.loads(done.stdout)["traces"][0]
        self.assertEqual(len(trace["maps"]), 1)  # both sizes become the least budget
        run = trace["maps"][0]
        self.assertEqual((trace["pages"], run["budget_bytes"]), (3000, 8 << 20))
        page_bytes = os.sysconf("SC_PAGESIZE")
        for key in ("want", "raw"):
            self.assertTrue(0 < run[f"{key}_frames"] <= run["budget_bytes"] / page_bytes)
            self.assertGreaterEqual(run[key], run["simulated"]["min"] * 0.95)
            self.assertLess(run[key], 0.75)
        self.assertEqual(os.listdir(self.dir), ["hot.csv"])

    def test_no_map_without_userfaultfd(self):
        self.refused(1, "no userfaultfd", "--map", self.write("book.csv", TEXTBOOK), QUIRE_MASK="userfaultfd")


if __name__ == "__main__":
    unittest.main()
