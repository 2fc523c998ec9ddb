#!/usr/bin/python3
"""swap_test.py AGENT QUIRE - a guest swaps to `quire serve --swap`, which runs outside of it, under stress-ng, which verifies its memory. With QUIRE_TEST_LONG.

The daemon is reached as a hypervisor reaches it: QEMU is the client of NBD, and to the guest it is a disk. Another client, nbdcopy, reads what the pool
holds whenever the guest says that it has swapped. On each kernel first all fits below the pool's cap; then the cap is small, and what doesn't fit is spilled to a store: its
file says how much that is.
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
SWAP = 768 * MiB
CAPS = {"": 512 * MiB, "spilling": 16 * MiB}
METHODS = {"": "ror rand-set", "spilling": "rand-sum ror"}  # by the first of them nothing can be compressed
SECONDS = "20"   # of each round of each way to fill memory; then it ends when it is through
PAGE = 4096
LEAST_HELD = 4000  # pages
LEAST_SPILLED = 8 * MiB  # of its file
SKIPPED = 77


@contextlib.contextmanager
def served(directory, way):
    """The pool's URI."""
    socket, swap = f"{directory}/socket", f"{SWAP},cap={CAPS[way]}"
    if way:
        subprocess.run([QUIRE, "init", f"{directory}/store", "--capacity", str(SWAP)], check=True)
        swap += f",spill={directory}/store"
    with subprocess.Popen([QUIRE, "serve", "--nbd", f"unix:{socket}", "--swap", swap], stdout=subprocess.PIPE) as daemon:
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


def spilled(directory):
    """Bytes of the store's file that are in use."""
    file = pathlib.Path(directory) / "store" / "capacity"
    return file.stat().st_blocks * 512 if file.exists() else 0


def swap(kernel, way, directory, disk):
    """Whether all of it was good."""
    cache = packages.ready(kernel)
    stress, most, most_spilled, empty = cache / "tools/usr/bin/stress-ng", 0, 0, spilled(directory)

    def look(_number, data, _is_error):
        nonlocal most, most_spilled
        print(data.decode(errors="replace"), end="", flush=True)
        if b"pages out" in data:
            most, most_spilled = max(most, held(disk)), max(most_spilled, spilled(directory) - empty)

    with contextlib.closing(Guest(cache, AGENT, version=kernel, raws=[disk], memory=MEMORY)) as guest:
        # The first one is only brought along.
        outcome = guest.boot([[str(stress), "--version"], [str(HERE / "swap_guest"), SECONDS, "/test/0/stress-ng", METHODS[way]]], limit=3000, on_output=look)
    work = outcome.results[-1]
    print(f"{kernel} {way}: {outcome.verdict} {outcome.why}, {work.verdict}, {most} pages in the pool, {most_spilled} bytes spilled", flush=True)
    is_enough = most >= LEAST_HELD and (not way or most_spilled >= LEAST_SPILLED)
    if outcome.verdict == "done" and work.passed and b"swap: good\n" in work.out and is_enough:
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
        for way in CAPS:
            with tempfile.TemporaryDirectory(prefix="quire-swap-") as directory, served(directory, way) as disk:
                if not swap(kernel, way, directory, disk):
                    return 1
    return 0 if n_run > 0 else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
