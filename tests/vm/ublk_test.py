#!/usr/bin/python3
"""ublk_test.py AGENT QUIRE TEST - `quire serve --ublk` on the driver itself, in a guest with the later kernel. With QUIRE_TEST_LONG.

That kernel (6.12.95) has been seen to panic, twice in some hundred kills of a server, having freed a request of io_uring twice: no program may bring
it to that, so it is said, and the guest is booted again, PANICS_MOST times at most. What a test finds counts at once.
"""
import os
import pathlib
import subprocess
import sys

AGENT, QUIRE, TEST = sys.argv[1:4]
RUN = pathlib.Path(__file__).resolve().parent / "run"
SKIPPED = 77
PANIC = 3  # of RUN
PANICS_MOST = 2


def boot():
    # The first program is the command itself, which is then where the second looks for it. The disk is there for its file system's module.
    return subprocess.run([RUN, "--agent", AGENT, "--kernel", "6.12", "--disk", "64M", "--limit", "800",
                           "--", QUIRE, "--version", "--", TEST, f"/test/0/{pathlib.Path(QUIRE).name}"]).returncode


def main():
    if not os.environ.get("QUIRE_TEST_LONG"):
        print("Debian's own kernel has no ublk, and another guest is not booted for it: QUIRE_TEST_LONG")
        return SKIPPED
    for again in range(PANICS_MOST):
        status = boot()
        if status != PANIC:
            return status
        print(f"the guest's kernel panicked: again ({again + 1})", flush=True)
    return boot()


if __name__ == "__main__":
    sys.exit(main())
