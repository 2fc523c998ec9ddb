#!/usr/bin/python3
"""swap_test.py AGENT QUIRE - a guest swaps to `quire serve --swap`, which runs outside of it, under stress-ng, which verifies its memory. With QUIRE_TEST_LONG.

The daemon is reached as a hypervisor reaches it: QEMU is the client of NBD, and to the guest it is a disk. Another client, nbdcopy, reads what the pool
holds whenever the guest says that it has swapped.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import packages  # noqa: E402 - beside this file
from guest import Guest, MiB  # noqa: E402

AGENT, QUIRE = sys.argv[1:3]
HERE = pathlib.Path(__file__).resolve().parent
MEMORY = "384M"  # of the guest: what it is booted from is in there, too
SWAP, CAP = 768 * MiB, 512 * MiB
SECONDS = "20"   # of each round of each way to fill memory; then it ends when it is through
PAGE = 4096
LEAST_HELD = 4000  # pages
SKIPPED = 77


@contextlib.contextmanager
def served(directory):
    """The pool's URI."""
    socket = f"{directory}/socket"
    with subprocess.Popen([QUIRE, "serve", "--nbd", f"unix:{socket}", "--swap", f"{SWAP},cap={CAP}"], stdout=subprocess.PIPE) as daemon:
        try:
            daemon.stdout.readline()
            yield f"nbd+unix:///?socket={socket}"
        finally:
            daemon.terminate()
    if daemon.returncode != 0:
        raise AssertionError(f"the daemon ended with {daemon.returncode}")


def held(disk):
    """Pages of it that are not zeros."""
    n_held, zeros = 0, bytes(PAGE)
    with subprocess.Popen(["nbdcopy", disk, "-"], stdout=subprocess.PIPE) as copy:
        while piece := copy.stdout.read(MiB):
            n_held += sum(piece[at:at + PAGE] != zeros for at in range(0, len(piece), PAGE))
    if copy.returncode != 0:
        raise AssertionError(f"nbdcopy: {copy.returncode}")
    return n_held


def swap(kernel, disk):
    """Whether all of it was good."""
    cache = packages.ready(kernel)
    stress, most = cache / "tools/usr/bin/stress-ng", 0

    def look(_number, data, _is_error):
        nonlocal most
        print(data.decode(errors="replace"), end="", flush=True)
        if b"pages out" in data:
            most = max(most, held(disk))

    with contextlib.closing(Guest(cache, AGENT, version=kernel, raws=[disk], memory=MEMORY)) as guest:
        # The first one is only brought along.
        outcome = guest.boot([[str(stress), "--version"], [str(HERE / "swap_guest"), SECONDS, "/test/0/stress-ng"]], limit=3000, on_output=look)
    work = outcome.results[-1]
    print(f"{kernel}: {outcome.verdict} {outcome.why}, {work.verdict}, {most} pages in the pool", flush=True)
    if outcome.verdict == "done" and work.passed and b"swap: good\n" in work.out and most >= LEAST_HELD:
        return True
    print(outcome.console)
    return False


def main():
    if not os.environ.get("QUIRE_TEST_LONG"):
        print("QUIRE_TEST_LONG is not set")
        return SKIPPED
    if shutil.which("nbdcopy") is None:
        print("no nbdcopy")
        return SKIPPED
    n_run = 0
    for kernel in packages.KERNELS:
        try:
            packages.ready(kernel)
        except packages.Unavailable as reason:
            print(f"no guest: {reason}")
            continue
        n_run += 1
        with tempfile.TemporaryDirectory(prefix="quire-swap-") as directory, served(directory) as disk:
            if not swap(kernel, disk):
                return 1
    return 0 if n_run > 0 else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
