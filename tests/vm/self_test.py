#!/usr/bin/python3
"""self_test.py AGENT OUTCOME - each way in which a program or a guest can end gets its own verdict."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
import initramfs  # noqa: E402 - beside this file
import packages  # noqa: E402
from frames import Broken, Decoder  # noqa: E402
from guest import Guest, Outcome  # noqa: E402

AGENT, OUTCOME = sys.argv[1:3]


def boot(tests, limit=10, persistence=None, nvdimm=0, **how):
    with contextlib.closing(Guest(packages.ready("6.1"), AGENT, nvdimm=nvdimm, persistence=persistence)) as guest:
        return guest.boot(tests, limit, **how)


A_BOOT = unittest.skipUnless(os.environ.get("QUIRE_TEST_LONG"), "QUIRE_TEST_LONG is not set: a boot of its own")


class Guests(unittest.TestCase):
    def test_programs_pass_fail_crash_and_hang_and_a_guest_panics(self):
        """In one boot, since that takes longest."""
        panic = ["/bin/sh", "-c", "echo c >/proc/sysrq-trigger"]
        outcome = boot([*([OUTCOME, how] for how in ("pass", "fail", "crash", "hang", "pass")), panic, [OUTCOME, "pass"]])
        self.assertEqual(outcome.verdict, "panic", outcome.why + outcome.console)
        self.assertIn("sysrq", outcome.why)
        self.assertEqual([result.verdict for result in outcome.results],
                         ["exit 0", "exit 3", f"signal {signal.SIGABRT}", "timeout", "exit 0", "cut short", "not run"])
        self.assertEqual(outcome.results[0].out, b"passing\n")
        self.assertIn(b"exit 0", outcome.results[1].out)  # what looked like a frame came as output
        said, *threads = outcome.results[3].err.decode().splitlines()
        self.assertEqual(said, "hanging")
        self.assertRegex(threads[0], r"^\S*outcome  \w+  \d+ 0x")  # where it stands
        self.assertTrue(any("r-xp" in line for line in threads[1:]))

    @A_BOOT
    def test_hang_and_kill(self):
        outcome = boot([["/bin/sh", "-c", "kill -STOP $PPID"]], limit=1, silence=5)
        self.assertEqual(outcome.verdict, "hang", outcome.why + outcome.console)
        self.assertEqual(outcome.results[0].verdict, "cut short")

    @A_BOOT
    def test_killed_as_asked(self):
        outcome = boot([[OUTCOME, "hang"]], kill_after=0.1)
        self.assertEqual((outcome.verdict, outcome.results[0].verdict), ("killed", "cut short"))

    def test_qemu_fails(self):
        outcome = boot([[OUTCOME, "pass"]], nvdimm=256 << 20, persistence="nonsense")
        self.assertEqual(outcome.verdict, "qemu")
        self.assertIn("exit status 1", outcome.why)


class Boots(unittest.TestCase):
    def boot_as(self, *ends):
        """(verdict, seconds until it was up, what the console said, if anything) of one boot after the other."""
        guest = Guest.__new__(Guest)
        left = [Outcome(verdict, "why", seconds_up=up, console="".join(console)) for verdict, up, *console in ends]
        guest._boot_once = lambda *_: left.pop(0)
        return guest.boot([]).verdict, len(ends) - len(left)

    def test_what_panics_before_it_is_up_is_booted_again(self):
        self.assertEqual(self.boot_as(("panic", 0), ("panic", 0), ("done", 1)), ("done", 3))
        self.assertEqual(self.boot_as(("panic", 0), ("panic", 0), ("panic", 0), ("done", 1)), ("panic", 3))

    def test_what_never_begins_is_booted_again(self):
        self.assertEqual(self.boot_as(("hang", 0), ("panic", 0), ("done", 1)), ("done", 3))
        self.assertEqual(self.boot_as(("hang", 0), ("hang", 0), ("hang", 0), ("done", 1)), ("hang", 3))

    def test_what_ends_otherwise_is_not(self):
        for end in ("panic", 5.0), ("hang", 0, "Linux version"), ("hang", 5.0), ("qemu", 0), ("broken", 0), ("killed", 5.0), ("done", 5.0):
            self.assertEqual(self.boot_as(end, ("done", 1)), (end[0], 1))


class Parts(unittest.TestCase):
    def test_frames_in_pieces(self):
        stream = b"QVM1B   \0\0\0\0\0\0\0\1x" + b"QVM1X   \0\0\0\0\0\0\0\6exit 0"
        decoder = Decoder()
        frames = [frame for i in range(len(stream)) for frame in decoder.feed(stream[i:i + 1])]
        self.assertEqual([(frame.kind, frame.text) for frame in frames], [("B", "x"), ("X", "exit 0")])

    def test_what_is_no_frame_is_refused(self):
        for stream in (b"hello, this is not one", b"QVM1B   \0\0\0\0\xff\xff\xff\xff", b"QVM1Q   \0\0\0\0\0\0\0\0"):
            with self.assertRaises(Broken):
                list(Decoder().feed(stream))

    def test_archive_is_what_cpio_writes(self):
        archive = initramfs.Cpio()
        archive.file("/a/b/c", b"data")
        archive.link("/a/l", "b/c")
        listed = subprocess.run([packages.ready("6.1") / "tools/bin/busybox", "cpio", "-t"], input=archive.finish(),
                                capture_output=True)
        self.assertEqual(listed.stdout.split(), [b"a", b"a/b", b"a/b/c", b"a/l"])


if __name__ == "__main__":
    try:
        packages.ready("6.1")
    except packages.Unavailable as reason:
        print(f"no guest: {reason}")
        sys.exit(77)
    unittest.main(argv=[str(pathlib.Path(__file__))], verbosity=2)
