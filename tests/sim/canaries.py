#!/usr/bin/python3
"""canaries.py SIM CANARY.H [NAME…] - does the simulator find the bugs that are known (src/base/canary.h)?

SIM is the simulator of a build with canaries. It runs once with each of them switched on, from the same seed (QUIRE_TEST_SEED; else one of
the clock), until it finds something: the table says after how many seeds, and how many seconds of a processor. A seed that fails without the
canary as well has found something else: it is told, counts for nothing, and the search goes on behind it.

Without names: a sample, a few of each layer that are found in no time; with QUIRE_TEST_LONG all of them. Exit: 0 each was found within a minute
of a processor; 1 one was not, or a seed fails by itself; 77 the build has no canaries.
"""
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

LIMIT_SECONDS = 60  # of a processor: whatever else the machine does
SAMPLE = ("group_acked_when_taken", "torn_payload_accepted", "pmem_fence_skipped", "transaction_not_synced", "page_shown_unverified",
          "hole_lost_in_merge", "put_keeps_older")


def canaries(header):
    """Name → what it is, in the order of the list."""
    return dict(re.findall(r"^\tX\((\w+), \"(.*)\"\)", pathlib.Path(header).read_text(), re.MULTILINE))


def busy_seconds():
    """Of processors, by all that was started and has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Run:
    """One run of the simulator: the seed that failed, or None, and what was said of it; and where to go on."""

    def __init__(self, simulator, arguments, canary=""):
        done = subprocess.run([simulator, *map(str, arguments)], env={**os.environ, "QUIRE_CANARY": canary},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        failed = re.search(r"VIOLATION: seed (\d+): (.*)$", done.stdout, re.MULTILINE)
        self.next = re.search(r"^to go on: --from (\d+)$", done.stdout, re.MULTILINE)
        if self.next is None or (failed is None) != (done.returncode == 0):
            sys.exit(f"{simulator}: exit status {done.returncode}\n{done.stdout}")
        self.next = int(self.next.group(1))
        self.failed = int(failed.group(1)) if failed else None
        self.why = ""
        if failed:
            said = [line for line in done.stdout[:failed.start()].splitlines() if line and not line.startswith("from seed")]
            self.why = said[0] if said else failed.group(2)


class Search:
    """For one canary."""

    def __init__(self, simulator, canary, first):
        self.by_themselves, self.found, self.why = [], False, ""
        began, seed = busy_seconds(), first
        while not self.found and busy_seconds() - began < LIMIT_SECONDS:
            left = LIMIT_SECONDS - (busy_seconds() - began)
            run = Run(simulator, ["--from", seed, "--seconds", f"{left + 1:.0f}", "--stop"], canary)
            seed = run.next
            if run.failed is None:
                continue
            if Run(simulator, ["--seed", run.failed]).failed is None:
                self.found, self.why = True, run.why
            else:
                self.by_themselves.append(run.failed)
        self.n_seeds = seed - first
        self.seconds = busy_seconds() - began


def has_canaries(simulator):
    """A build without them takes any name."""
    asked = subprocess.run([simulator, "--histories", "1"], env={**os.environ, "QUIRE_CANARY": "no such"},
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return "no such canary" in asked.stderr


def main(simulator, header, *names):
    known = canaries(header)
    if not has_canaries(simulator):
        print("this build has no canaries: meson setup -Dcanaries=true")
        return 77
    names = names or (list(known) if os.environ.get("QUIRE_TEST_LONG") else SAMPLE)
    first = int(os.environ.get("QUIRE_TEST_SEED") or time.time_ns() // 1000 % 1000000)
    print(f"from seed {first}\n{'canary':32} {'seeds':>6} {'s':>5}  found")
    missed, by_themselves = 0, set()
    for name in names:
        search = Search(simulator, name, first)
        missed += not search.found
        by_themselves.update(search.by_themselves)
        print(f"{name:32} {search.n_seeds:6} {search.seconds:5.1f}  {search.why if search.found else 'NOT FOUND: ' + known[name]}", flush=True)
    for seed in sorted(by_themselves):
        print(f"seed {seed} fails without a canary: {simulator} --seed {seed} --verbose")
    print(f"{len(names) - missed} of {len(names)} canaries found")
    return 1 if missed or by_themselves else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
