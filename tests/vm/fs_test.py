#!/usr/bin/python3
"""fs_test.py AGENT QUIRE ATTACH LOAD [SEED] - file systems on volumes, through NBD and ublk, when the whole guest is killed: the store is recovered, the file system is
clean, and what was synced is there.

The same media are booted with again and again; each boot checks what the kill before has left, then works until it is killed. With QUIRE_TEST_LONG alone.
"""
import contextlib
import os
import pathlib
import random
import sys
import tempfile

sys.dont_write_bytecode = True
import packages  # noqa: E402 - beside this file
from guest import Guest, MiB  # noqa: E402

AGENT, QUIRE, ATTACH, LOAD = sys.argv[1:5]
HERE = pathlib.Path(__file__).resolve().parent
SEED = int(sys.argv[5]) if len(sys.argv) > 5 else int(os.environ.get("QUIRE_TEST_SEED") or random.randrange(1 << 32))
N_KILLS = int(os.environ.get("QUIRE_TEST_COUNT") or 4)
LONGEST_SECONDS = 10.0  # from its beginning to write to the kill
SKIPPED = 77
WAYS = [("6.1", "nbd", "ext4"), ("6.1", "nbd", "xfs"), ("6.12", "ublk", "ext4"), ("6.12", "ublk", "xfs")]


def boot(kernel, keep, words, wait):
    """What was said; the guest is killed so many seconds after it began to write, or None: it ended before."""
    said = bytearray()

    def heard(number, data, is_error):
        said.extend(data)
        return wait if number == 3 and not is_error and b"writing" in data else None

    guest = Guest(packages.ready(kernel), AGENT, version=kernel, disk=64 * MiB, raws=[256 * MiB, MiB], keep=keep)
    with contextlib.closing(guest):
        # The first three are only brought along, as /test/0 to /test/2.
        outcome = guest.boot([[QUIRE, "--version"], [ATTACH], [LOAD], [str(HERE / "fs_guest"), *words]], limit=900, on_output=heard)
    text = said.decode(errors="replace")
    if outcome.verdict == "killed" and outcome.results[3].verdict == "cut short":
        return text
    print(text, f"boot: {outcome.verdict} {outcome.why}, the work: {outcome.results[-1].verdict if outcome.results else 'none'}", outcome.console, sep="\n")
    return None


def kill_again_and_again(kernel, door, fs, chance):
    """False if something was not as it should be."""
    inside = ["/test/0/quire", f"/test/1/{pathlib.Path(ATTACH).name}", f"/test/2/{pathlib.Path(LOAD).name}", door, fs]
    seeds = [str(chance.randrange(1 << 32)) for _ in range(N_KILLS + 1)]
    with tempfile.TemporaryDirectory(prefix="quire-fs-") as keep:
        for n, seed in enumerate(seeds):
            # The last boot is for its check, and killed at once.
            wait = chance.uniform(0, LONGEST_SECONDS) if n < N_KILLS else 0
            said = boot(kernel, keep, [*inside, seed, *seeds[max(n - 1, 0):n]], wait)
            if said is None:
                return False
            print(f"{kernel}, {door}, {fs}, boot {n + 1}: killed after {wait:.1f} s",
                  *(line for line in said.splitlines() if "were synced" in line), sep="\n    ", flush=True)
    return True


def main():
    if not os.environ.get("QUIRE_TEST_LONG"):
        print("QUIRE_TEST_LONG is not set")
        return SKIPPED
    print(f"seed {SEED}")
    chance, n_run = random.Random(SEED), 0
    for kernel, door, fs in WAYS:
        try:
            packages.ready(kernel)
        except packages.Unavailable as reason:
            print(f"no guest with {kernel}: {reason}")
            continue
        n_run += 1
        if not kill_again_and_again(kernel, door, fs, chance):
            return 1
    return 0 if n_run > 0 else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
