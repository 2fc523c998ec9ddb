"""Reads what `meson test` recorded, and counts the single tests in it.

Meson counts executables. Here each test inside one counts: by what cmocka or
Python's unittest printed; an executable that printed neither is one test. A test
that ended by a signal, a sanitizer's report or a timeout is at least one failure,
whatever it printed before.
"""
import json
import re
from dataclasses import dataclass, field

GOOD = ("OK", "EXPECTEDFAIL")
CMOCKA = re.compile(r"^\[ {0,9}(RUN|OK|SKIPPED|FAILED|=+)\s*\] ?(.*)$")
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.M)
UNITTEST_SKIPPED = re.compile(r"^(?:(\w+) \(.*)?.*\.\.\. skipped ['\"](.*)['\"]$", re.M)
UNITTEST_FAILED = re.compile(r"^FAILED \(.*?(?:failures=(\d+))?(?:, )?(?:errors=(\d+))?(?:, skipped=\d+)?\)$", re.M)


@dataclass
class Counts:
    n_passed: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    skips: list = field(default_factory=list)     # (test, reason)
    failures: list = field(default_factory=list)  # (test, output)

    def add(self, other):
        self.n_passed += other.n_passed
        self.n_failed += other.n_failed
        self.n_skipped += other.n_skipped
        self.skips += other.skips
        self.failures += other.failures


def read_log(path):
    """path: Meson's testlog.json, a record a line."""
    total = Counts()
    with open(path) as log:
        for line in log:
            total.add(count_record(json.loads(line)))
    return total


def count_record(record):
    name = record["name"].split(" / ")[-1].removeprefix("quire:")
    out, err = record.get("stdout", ""), record.get("stderr", "")
    counts = count_cmocka(name, out) or count_unittest(name, out + "\n" + err) or Counts()

    if record["result"] == "SKIP":
        within_one = counts.n_failed > 0  # it ended there, and said why
        counts.n_failed -= within_one
        if within_one or counts.n_skipped == 0:
            counts.n_skipped += 1
            counts.skips.append((name, plain(last_line(out) or last_line(err))))
    elif record["result"] not in GOOD:
        counts.n_failed = max(counts.n_failed, 1)
    elif counts == Counts():
        counts.n_passed = 1

    if counts.n_failed:
        what = f"{name} ({record['result']}, exit status {record['returncode']})"
        counts.failures.append((what, without_successes(out) + "\n" + err))
    return counts


def count_cmocka(name, out):
    """None if it printed no test of cmocka's. A test that began and neither succeeded
    nor was skipped has failed."""
    counts = Counts()
    n_begun = 0
    in_group = False
    said = []
    for line in out.splitlines():
        match = CMOCKA.match(line)
        if match is None:
            said.append(line)
            continue
        mark, text = match.groups()
        if mark.startswith("="):
            in_group = text.startswith("Running")
        elif not in_group:
            continue
        elif mark == "RUN":
            n_begun += 1
            said = []
        elif mark == "OK":
            counts.n_passed += 1
        elif mark == "SKIPPED":
            counts.n_skipped += 1
            reason = " ".join(" ".join(said).split())
            counts.skips.append((f"{name}: {text.strip()}", plain(reason)))
    if n_begun == 0:
        return None
    counts.n_failed = n_begun - counts.n_passed - counts.n_skipped
    return counts


def without_successes(out):
    """What remains when cmocka's tests that succeeded or were skipped are left out."""
    kept, since_run = [], []
    for line in out.splitlines():
        match = CMOCKA.match(line)
        mark = match.group(1) if match else ""
        if mark == "RUN":
            kept += since_run
            since_run = [line]
        elif mark in ("OK", "SKIPPED") and since_run:
            since_run = []
        else:
            (since_run or kept).append(line)
    return "\n".join(kept + since_run)


def count_unittest(name, text):
    """None if it printed no total of unittest's."""
    ran = UNITTEST_RAN.search(text)
    if ran is None:
        return None
    counts = Counts()
    for test, reason in UNITTEST_SKIPPED.findall(text):
        counts.n_skipped += 1
        counts.skips.append((f"{name}: {test}" if test else name, reason))
    failed = UNITTEST_FAILED.search(text)
    if failed:
        counts.n_failed = sum(int(n or 0) for n in failed.groups())
    counts.n_passed = max(0, int(ran.group(1)) - counts.n_failed - counts.n_skipped)
    return counts


def plain(reason):
    """The reason without the word that the report says anyway."""
    return re.sub(r"^skipp(ed|ing):? *", "", reason) or "no reason given"


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
