#!/usr/bin/python3
"""nbd_test.py AGENT QUIRE ATTACH - ext4 and XFS on volumes, through the kernel's own client of NBD, across a kill of the daemon.

Emulated it takes a minute or two: with QUIRE_TEST_LONG alone.
"""
import os
import pathlib
import subprocess
import sys

AGENT, QUIRE, ATTACH = sys.argv[1:]
HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77


def main():
    if not os.environ.get("QUIRE_TEST_LONG"):
        print("QUIRE_TEST_LONG is not set")
        return SKIPPED
    # The first two are only brought along, as /test/0 and /test/1.
    command = [HERE / "run", "--agent", AGENT, "--disk", "384M", "--limit", "600", "--", QUIRE, "--version", "--", ATTACH]
    checkers = {"ext4": "e2fsck -fn", "xfs": "xfs_repair -n"}
    for fs, checker in checkers.items():
        command += ["--", HERE / "nbd_guest", "/test/0/quire", f"/test/1/{pathlib.Path(ATTACH).name}", checker, fs]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(done.stdout)
    if done.returncode not in (0, 1):
        return done.returncode
    return 0 if all(f"{fs}: good\n" in done.stdout for fs in checkers) else 1


if __name__ == "__main__":
    sys.exit(main())
