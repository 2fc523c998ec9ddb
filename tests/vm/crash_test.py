#!/usr/bin/python3
"""crash_test.py AGENT BLOCKS LOG OFFERS QUIRE [SEED] - what was acknowledged before the guest was killed is there after.

A boot takes longer than what is tested in it, so all share a few: in each a program appends until the guest is killed
at a random moment, and the next one, with the same media, begins by checking what became of that. What the media
are, byte by byte or by the line, changes from boot to boot.
"""
import contextlib
import itertools
import json
import os
import pathlib
import random
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import packages  # noqa: E402 - beside this file
from guest import Guest, MiB  # noqa: E402
from log_account import Blocks, Logs  # noqa: E402

AGENT, BLOCKS, LOG, OFFERS, QUIRE = sys.argv[1:6]
SEED = int(sys.argv[6]) if len(sys.argv) > 6 else random.randrange(1 << 32)
LONG = bool(os.environ.get("QUIRE_TEST_LONG"))
N_BLOCK_ROUNDS, N_LOG_ROUNDS = (3, 9) if LONG else (1, 1)  # the first is odd: persistences alternate, and each is looked at
LONGEST_SECONDS = 4.0  # from the program's word to the kill
PERSISTENCES = ["cpu", "mem-ctrl"]  # by the byte, by the line

FILES = ["/mnt/disk/blocks", "/mnt/ext4/blocks", "/mnt/xfs-dax/blocks"]
PLACES = {  # and what their class must be, if by the byte
    "/mnt/ext4-dax/log::power": "pmem 1 power",
    "/mnt/xfs-dax/log::power": "pmem 1 power",
    "/mnt/disk/raw:/dev/pmem-raw:default": "direct 4096 power",
    "/mnt/disk/devdax:/dev/dax-raw:power": "pmem 1 power",
    "/mnt/ext4/log::default": "direct 4096 power",
}
PROCESS_PLACES = {"/tmp/log::process": "pmem 4096 process", "/mnt/xfs/log::process": "pmem 4096 process"}

SIZE = ["--size", "2M"]
COMMANDS = {
    "init": [QUIRE, "init", "/mnt/ext4/store", "--capacity", "2M"],
    "no DAX": [QUIRE, "class", "add", "/mnt/ext4/store", "pmem", *SIZE, "--durable", "power"],
    "process": [QUIRE, "class", "add", "/mnt/ext4/store", "pmem", *SIZE, "--durable", "process"],
    "info of process": [QUIRE, "info", "/mnt/ext4/store"],
    "init for a device": [QUIRE, "init", "/tmp/store", "--capacity", "2M"],
    "device": [QUIRE, "class", "add", "/tmp/store", "pmem", "--device", "/dev/pmem-raw", "--durable", "power"],
    "device by default": [QUIRE, "class", "add", "/tmp/store", "pmem", "--device", "/dev/pmem-raw"],
    "info of device": [QUIRE, "info", "/tmp/store"],
    "wipe": ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/pmem-raw bs=1M count=1 2>&1"],
    "init on DAX": [QUIRE, "init", "/mnt/xfs-dax/store", "--capacity", "2M"],
    "power": [QUIRE, "class", "add", "/mnt/xfs-dax/store", "pmem", *SIZE, "--durable", "power"],
}
# What differs between the first two boots, and what is done in one of them.
GRANULARITY = {
    persistence: {f"offers {persistence}": [f"QUIRE_EXPECT_GRANULARITY={granularity}", OFFERS], **commands,
                  f"info {persistence}": [QUIRE, "info", "--json", "/mnt/xfs-dax/store"]}
    for persistence, granularity, commands in [("cpu", "byte", COMMANDS), ("mem-ctrl", "line", {})]
}


class Boots:
    """Boots with the same media. What became of each program is kept under a name."""

    def __init__(self, kernel, keep, chance):
        self.kernel = kernel
        self.keep = keep
        self.chance = chance
        self.results = {}
        self.n_boots = 0

    def boot(self, steps, killed_after=None):
        """steps: {name: argv}. With killed_after, a list of bytes, the guest is killed a while after the last one has
        said all of them. Returns what that one said."""
        killed = killed_after is not None
        persistence = list(GRANULARITY)[self.n_boots % len(GRANULARITY)]
        self.n_boots += 1
        wait = self.chance.uniform(0, LONGEST_SECONDS) if killed else None
        said = bytearray()
        awaited = list(killed_after or [])

        def heard(number, data, is_error):
            if not awaited or number != len(steps) - 1 or is_error:
                return None
            said.extend(data)
            awaited[:] = [word for word in awaited if word not in said]
            return None if awaited else wait

        guest = Guest(packages.ready(self.kernel), AGENT, nvdimm=256 * MiB, persistence=persistence, disk=64 * MiB,
                      keep=self.keep, version=self.kernel)
        with contextlib.closing(guest):
            outcome = guest.boot(list(steps.values()), limit=120, on_output=heard)
        self.results.update(zip(steps, outcome.results))
        bad = [f"{name}: {result.verdict}: {result.err.decode(errors='replace')}"
               for name, result in zip(steps, outcome.results) if result.verdict in ("timeout", "not run")]
        if killed and outcome.results[-1].verdict != "cut short":
            bad.append(f"{list(steps)[-1]} ended by itself: {outcome.results[-1]}")
        if bad or outcome.verdict != ("killed" if killed else "done"):
            raise AssertionError("\n".join([f"boot {self.n_boots}: {outcome.verdict}: {outcome.why}", *bad, outcome.console]))
        print(f"boot {self.n_boots}, {persistence}: up after {outcome.seconds_up:.1f} s"
              + (f", killed {wait:.3f} s after {list(steps)[-1]} said {killed_after}" if killed else ""), flush=True)
        return outcome.results[-1].out


class Crash(unittest.TestCase):
    kernel = "6.1"

    @classmethod
    def setUpClass(cls):
        try:
            packages.ready(cls.kernel)
        except packages.Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None
        print(f"kernel {cls.kernel}, seed {SEED}, {N_BLOCK_ROUNDS} rounds of blocks, {N_LOG_ROUNDS} of logs", flush=True)
        with tempfile.TemporaryDirectory(prefix="quire-crash-") as keep:
            cls.boots = Boots(cls.kernel, keep, random.Random(SEED))
            cls.results = cls.boots.results
            cls.lives = map(str, itertools.count(SEED << 8, 2))
            cls.rounds()

    @classmethod
    def rounds(cls):
        cls.blocks, cls.logs = Blocks(FILES), Logs(PLACES)
        steps = {**GRANULARITY["cpu"], "outlive": [LOG, "outlive", next(cls.lives), "500", *PROCESS_PLACES]}
        for i in range(N_BLOCK_ROUNDS):
            append = [BLOCKS, "append", *cls.blocks.words()]
            cls.blocks.hear(cls.boots.boot({**steps, f"blocks {i}": append}, [b"blocks "]))
            print(f"acknowledged: {cls.blocks}", flush=True)
            steps = {f"check of blocks {i}": [BLOCKS, "check", *cls.blocks.words()]}
        steps.update(GRANULARITY["mem-ctrl"])
        for i in range(N_LOG_ROUNDS):
            # Every other time also before anything was acknowledged, while the logs are made or recovered.
            awaited = [b"writing"] if i % 2 else [f"ack {place.split(':')[0]} ".encode() for place in PLACES]
            said = cls.boots.boot({**steps, f"logs {i}": [LOG, "write", next(cls.lives), *PLACES]}, awaited)
            if i > 0 and not cls.hear_check(i - 1):
                return
            cls.logs.hear(said)
            print(f"acknowledged: {cls.logs}", flush=True)
            steps = {f"check of logs {i}": [LOG, "check", next(cls.lives), *cls.logs.questions(cls.boots.chance)]}
        cls.boots.boot(steps)
        cls.hear_check(N_LOG_ROUNDS - 1)

    @classmethod
    def hear_check(cls, i):
        """What it appended itself counts for the next."""
        result = cls.results[f"check of logs {i}"]
        cls.logs.hear(result.out)
        print(*(line for line in result.out.decode().splitlines() if line.startswith("checked")), sep="\n", flush=True)
        return result.passed

    def passed(self, name):
        result = self.results[name]
        self.assertEqual((name, result.verdict), (name, "exit 0"), result.err.decode())
        return result.out.decode()

    def refused(self, name):
        """With one line, which is returned."""
        result = self.results[name]
        self.assertEqual((result.verdict, result.out), ("exit 1", b""), result.err.decode())
        line, = result.err.decode().splitlines()
        return line

    def test_media_are_what_they_are_said_to_be(self):
        for persistence in PERSISTENCES:
            self.passed(f"offers {persistence}")

    def test_acknowledged_blocks_survive(self):
        for i in range(N_BLOCK_ROUNDS):
            self.passed(f"check of blocks {i}")
        self.assertGreater(sum(self.blocks.files.values()), 0)

    def test_acknowledged_records_survive(self):
        for i in range(N_LOG_ROUNDS):
            self.passed(f"check of logs {i}")
        self.assertGreater(sum(log.durable for log in self.logs.logs.values()), 0)

    def test_a_log_is_kept_as_its_class_was_asked_for(self):
        for place, kept in PLACES.items():
            for kind in self.logs.classes[place.split(":")[0]]:
                self.assertIn(kind, (kept, kept.replace("pmem 1 ", "pmem 64 ")))

    def test_durable_beyond_the_process(self):
        said = self.passed("outlive")
        for place, kept in PROCESS_PLACES.items():
            self.assertIn(f"class {place.split(':')[0]} {kept}\n", said)

    def test_without_dax_power_is_refused_and_process_is_not(self):
        self.assertIn("/mnt/ext4/store/pmem: its file system has no DAX", self.refused("no DAX"))
        self.passed("process")
        self.assertIn("(2.0 MiB; pmem, granularity page, durable beyond process)", self.passed("info of process"))

    def test_a_block_device_is_not_mapped(self):
        self.assertIn("a block device can't be mapped", self.refused("device"))
        self.passed("device by default")
        self.assertIn("(30.0 MiB; direct, granularity block, durable beyond power)", self.passed("info of device"))

    def test_by_the_byte_or_by_the_line(self):
        for persistence, granularity in zip(PERSISTENCES, [("byte", 1), ("cache line", 64)]):
            pmem = json.loads(self.passed(f"info {persistence}"))["classes"]["pmem"]
            self.assertEqual((pmem["medium"], pmem["durable"]), ("pmem", "power"))
            self.assertEqual((pmem["granularity"], pmem["granularity_bytes"]), granularity)


class CrashOfNewer(Crash):
    kernel = "6.12"


def load_tests(loader, _tests, _pattern):
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in ([Crash, CrashOfNewer] if LONG else [Crash]))


if __name__ == "__main__":
    try:
        packages.ready("6.1")
    except packages.Unavailable as reason:
        print(f"no guest: {reason}")
        sys.exit(77)
    unittest.main(argv=[str(pathlib.Path(__file__))], verbosity=2)
