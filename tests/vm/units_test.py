#!/usr/bin/python3
"""units_test.py AGENT TESTS - unit tests on Debian's own kernel, which masking only imitates, and on real DAX.

TESTS: where a build has them. With QUIRE_TEST_LONG more of them, and on both kernels.
"""
import os
import pathlib
import subprocess
import sys

AGENT, TESTS = sys.argv[1], pathlib.Path(sys.argv[2])
LONG = bool(os.environ.get("QUIRE_TEST_LONG"))
RUN = pathlib.Path(__file__).resolve().parent / "run"
SKIPPED = 77

UNITS = [["base/base-feature"], ["cache/cache-page"], ["cache/cache-fill"], ["map/map-want"], ["media/media-device"],
         ["log/log-face"], ["TMPDIR=/mnt/xfs-dax", "QUIRE_EXPECT_GRANULARITY=line", "media/media-pmem"]]
# What is simulated there asks little of the kernel.
LONG_UNITS = [["log/log-basic"], ["log/log-damage"], ["media/media-pmem"],
              ["TMPDIR=/mnt/ext4-dax", "QUIRE_EXPECT_GRANULARITY=line", "media/media-pmem"],
              ["TMPDIR=/mnt/ext4-dax", "log/log-face"], ["QUIRE_TEST_LONG=", "QUIRE_TEST_SECONDS=60", "log/log-cut"]]


def run_on(version, units):
    command = [RUN, "--agent", AGENT, "--kernel", version, "--nvdimm", "256M", "--disk", "64M", "--tmp", "/mnt/disk",
               "--limit", "900" if LONG else "240"]
    for *variables, program in units:
        command += ["--", *variables, TESTS / program]
    return subprocess.run(command).returncode


def main():
    if not LONG:
        return run_on("6.1", UNITS)
    statuses = [run_on(version, UNITS + LONG_UNITS) for version in ("6.1", "6.12")]
    bad = [status for status in statuses if status not in (0, SKIPPED)]
    return bad[0] if bad else statuses[0]


if __name__ == "__main__":
    sys.exit(main())
