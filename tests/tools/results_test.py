#!/usr/bin/python3
"""The test driver counts rightly what Meson recorded."""
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from test_results import count_record  # noqa: E402

CMOCKA_HEAD = "[==========] Running 3 test(s).\n[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n"
CMOCKA_SKIP = "no userfaultfd\nhere\n[  SKIPPED ] two\n[ RUN      ] three\n"
CMOCKA_TAIL = ("[       OK ] three\n[==========] 3 test(s) run.\n[  PASSED  ] 2 test(s).\n"
               "[  SKIPPED ] 1 test(s), listed below:\n[  SKIPPED ] two\n")


def count(result, out="", err="", returncode=0):
    return count_record({"name": "quire:unit / cache", "result": result, "stdout": out, "stderr": err,
                         "returncode": returncode})


class Counted(unittest.TestCase):
    def expect(self, counts, n_passed, n_failed, n_skipped):
        self.assertEqual((counts.n_passed, counts.n_failed, counts.n_skipped), (n_passed, n_failed, n_skipped))

    def test_plain_executables(self):
        self.expect(count("OK", "whatever\n"), 1, 0, 0)
        self.expect(count("FAIL", returncode=1), 0, 1, 0)
        self.expect(count("TIMEOUT", returncode=-15), 0, 1, 0)
        self.expect(count("ERROR", returncode=99), 0, 1, 0)

    def test_reason_of_a_skipped_executable(self):
        counts = count("SKIP", "looking\nskipped: no cgroup\n", returncode=77)
        self.expect(counts, 0, 0, 1)
        self.assertEqual(counts.skips, [("cache", "no cgroup")])

    def test_cmocka(self):
        counts = count("OK", CMOCKA_HEAD + CMOCKA_SKIP + CMOCKA_TAIL)
        self.expect(counts, 2, 0, 1)
        self.assertEqual(counts.skips, [("cache: two", "no userfaultfd here")])

    def test_cmocka_in_several_groups(self):
        self.expect(count("OK", (CMOCKA_HEAD + CMOCKA_SKIP + CMOCKA_TAIL) * 2), 4, 0, 2)

    def test_cmocka_failure(self):
        out = CMOCKA_HEAD + "[  FAILED  ] two\n[ RUN      ] three\n[       OK ] three\n[==========] 3 test(s) run.\n"
        counts = count("FAIL", out, returncode=1)
        self.expect(counts, 2, 1, 0)
        self.assertEqual(len(counts.failures), 1)
        self.assertIn("FAILED  ] two", counts.failures[0][1])
        self.assertNotIn("three", counts.failures[0][1])

    def test_cmocka_failure_that_exits_0(self):
        self.expect(count("OK", CMOCKA_HEAD + "[  FAILED  ] two\n[==========] 2 test(s) run.\n"), 1, 1, 0)

    def test_cmocka_that_died(self):
        self.expect(count("FAIL", CMOCKA_HEAD, returncode=-11), 1, 1, 0)

    def test_cmocka_that_a_sanitizer_failed_at_exit(self):
        self.expect(count("FAIL", CMOCKA_HEAD + CMOCKA_SKIP + CMOCKA_TAIL, returncode=1), 2, 1, 1)

    def test_cmocka_all_skipped(self):
        out = "[==========] Running 1 test(s).\n[ RUN      ] a\nnone here\n[  SKIPPED ] a\n[==========] 1 test(s) run.\n"
        self.expect(count("SKIP", out, returncode=77), 0, 0, 1)

    def test_cmocka_that_ended_within_a_test_and_said_why(self):
        self.expect(count("SKIP", CMOCKA_HEAD + "too little room\n", returncode=77), 1, 0, 1)
        self.expect(count("SKIP", CMOCKA_HEAD + CMOCKA_SKIP + "too little room\n", returncode=77), 1, 0, 2)

    def test_cmocka_that_failed_and_then_ended_within_a_test(self):
        out = CMOCKA_HEAD + "[  FAILED  ] two\n[ RUN      ] three\ntoo little room\n"
        self.expect(count("SKIP", out, returncode=77), 1, 1, 1)

    def test_unittest(self):
        err = "test_a (x.Y.test_a) ... ok\ntest_b (x.Y.test_b) ... skipped 'no cgroup'\n\nRan 2 tests in 0.1s\n\nOK (skipped=1)\n"
        counts = count("OK", "", err)
        self.expect(counts, 1, 0, 1)
        self.assertEqual(counts.skips, [("cache: test_b", "no cgroup")])

    def test_unittest_failures(self):
        self.expect(count("FAIL", "", "Ran 7 tests in 1.6s\n\nFAILED (failures=4, errors=1)\n", 1), 2, 5, 0)
        self.expect(count("FAIL", "", "Ran 7 tests in 1.6s\n\nFAILED (errors=1)\n", 1), 6, 1, 0)
        self.expect(count("FAIL", "", "Ran 7 tests in 1.6s\n\nFAILED (failures=1, skipped=2)\n", 1), 6, 1, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
