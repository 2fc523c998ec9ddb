#!/usr/bin/python3
"""units_test.py AGENT TESTS [NAME…] - unit tests on Debian's own kernel, which masking only imitates, and on real DAX.

TESTS: where a build has them. With QUIRE_TEST_LONG more of them on DAX, and then all unit tests of the build, on both kernels; or only those whose
names begin with one of these.
"""
import json
import os
import pathlib
import subprocess
import sys

AGENT, TESTS, NAMES = sys.argv[1], pathlib.Path(sys.argv[2]), tuple(sys.argv[3:])
BUILD = TESTS.parent
LONG = bool(os.environ.get("QUIRE_TEST_LONG"))
RUN = pathlib.Path(__file__).resolve().parent / "run"
SKIPPED = 77

UNITS = [["base/base-feature"], ["cache/cache-page"], ["cache/cache-fill"], ["map/map-want"], ["media/media-device"],
         ["log/log-face"], ["TMPDIR=/mnt/xfs-dax", "QUIRE_EXPECT_GRANULARITY=line", "media/media-pmem"]]
LONG_UNITS = [["log/log-basic"], ["log/log-damage"], ["media/media-pmem"],
              ["TMPDIR=/mnt/ext4-dax", "QUIRE_EXPECT_GRANULARITY=line", "media/media-pmem"],
              ["TMPDIR=/mnt/ext4-dax", "log/log-face"], ["QUIRE_TEST_SECONDS=60", "log/log-cut"]]
ON_DAX = ["--nvdimm", "256M", "--disk", "64M"]
WITH_ROOM = ["--memory", "3G", "--disk", "4G"]


def run_on(version, media, units, bring=()):
    """All of it only as long as it usually is: emulated, that is long."""
    environment = {name: value for name, value in os.environ.items() if name != "QUIRE_TEST_LONG"}
    command = [RUN, "--agent", AGENT, "--kernel", version, *media, "--tmp", "/mnt/disk", "--limit", "900" if LONG else "240"]
    for path in bring:
        command += ["--bring", path]
    for words in units:
        command += ["--", *words]
    return subprocess.run(command, env=environment).returncode


def with_program(words):
    return [*words[:-1], str(TESTS / words[-1])]


def all_units():
    """([words…], {what they are given of this machine…}) of the programs; without scripts, since there is no Python in the guest, and without what is simulated,
    which asks nothing of a kernel."""
    units, bring = [], set()
    for test in json.loads((BUILD / "meson-info/intro-tests.json").read_text()):
        program, *arguments = test["cmd"]
        suites = {suite.partition(":")[2] for suite in test["suite"]}
        if "unit" not in suites or "simulated" in suites or not pathlib.Path(program).is_relative_to(TESTS) or not test["name"].startswith(NAMES or ""):
            continue
        # Libraries lie in the guest where it finds them by itself.
        variables = {name: value for name, value in test["env"].items() if name != "LD_LIBRARY_PATH"}
        arguments = [str(BUILD / word) if is_ours(BUILD / word) else word for word in arguments]
        units.append(["QUIRE_SLOW_CPU=1", *(f"{name}={value}" for name, value in variables.items()), program, *arguments])
        bring.update(word for word in [*arguments, *variables.values()] if is_ours(pathlib.Path(word)))
    return units, sorted(bring)


def is_ours(path):
    """Not a place that each machine has."""
    return path.is_absolute() and path.exists() and not path.is_relative_to("/dev")


def main():
    units = [with_program(words) for words in UNITS]
    if not LONG:
        return run_on("6.1", ON_DAX, units)
    units += [with_program(words) for words in LONG_UNITS]
    statuses = []
    for version in "6.1", "6.12":
        statuses += [] if NAMES else [run_on(version, ON_DAX, units)]
        statuses += [run_on(version, WITH_ROOM, *all_units())]
    bad = [status for status in statuses if status not in (0, SKIPPED)]
    return bad[0] if bad else statuses[0]


if __name__ == "__main__":
    sys.exit(main())
