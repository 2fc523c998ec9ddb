#!/usr/bin/python3
"""writes_test.py AGENT GUEST CHECK [SEED] - the power is cut at any write of a store on a block device, and what was promised is there.

In the guest the kernel keeps a log of all that is written to the device, and of what was made durable (log-writes, a target of device-mapper), while volumes, snapshots,
a log and blobs are written at once. QEMU keeps one of its own, in which what wasn't durable stands as well where it was done. Both are then cut here, where that is quick
(writes_check.c). With QUIRE_TEST_LONG alone.
"""
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import packages  # noqa: E402 - beside this file
from guest import Guest, MiB, boot_environment  # noqa: E402

AGENT, GUEST, CHECK = sys.argv[1:4]
LONG = bool(os.environ.get("QUIRE_TEST_LONG"))
SEED = int(sys.argv[4]) if len(sys.argv) > 4 else int(os.environ.get("QUIRE_TEST_SEED") or random.randrange(1 << 32))
DEVICE, LOG = 32 * MiB + 4096, 4096 * MiB  # the log is sparse; the last page is for marks
N_STEPS, N_ROUNDS = 400, 2
N_POINTS = {"kernel": 500, "loose": 1000, "lost": 50}
SKIPPED = 77


def write(kernel, keep, seed):
    """0, or the exit status that says why there is nothing to cut."""
    guest = Guest(packages.ready(kernel), AGENT, version=kernel, keep=keep, raws=[DEVICE, LOG], env=boot_environment(), logged=True)
    with contextlib.closing(guest):
        outcome = guest.boot([[GUEST, "/dev/raw-0", "/dev/raw-1", str(seed), str(N_STEPS)]], limit=900 if LONG else 300)
    said = "".join(result.out.decode() + result.err.decode() for result in outcome.results)
    print(f"kernel {kernel}, seed {seed}: {outcome.verdict} {outcome.why}{outcome.results[0].verdict if outcome.results else ''}: {said}", end="", flush=True)
    if outcome.verdict == "done" and outcome.results[0].verdict in ("exit 0", f"exit {SKIPPED}"):
        return int(outcome.results[0].verdict.split()[1])
    print(outcome.console)
    return 1


def cut(keep, seed, how):
    with tempfile.TemporaryDirectory(prefix="quire-writes-") as tmp:
        return subprocess.run([CHECK, keep / "raw-1", keep / "writes", keep / "raw-0", str(seed), str(N_STEPS), str(N_POINTS[how]), how],
                              env=dict(os.environ, TMPDIR=tmp)).returncode


def once(kernel, seed):
    with tempfile.TemporaryDirectory(prefix="quire-writes-") as keep:
        keep = pathlib.Path(keep)
        return write(kernel, keep, seed) or next((status for status in (cut(keep, seed, how) for how in N_POINTS) if status != 0), 0)


def is_there(kernel):
    try:
        packages.ready(kernel)
        return True
    except packages.Unavailable:
        return False


def main():
    if not LONG:
        print("QUIRE_TEST_LONG is not set")
        return SKIPPED
    try:
        packages.ready("6.1")
    except packages.Unavailable as reason:
        print(f"no guest: {reason}")
        return SKIPPED
    for n in range(N_ROUNDS):
        kernel = "6.12" if n % 2 == 1 and is_there("6.12") else "6.1"
        status = once(kernel, SEED + n)
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
