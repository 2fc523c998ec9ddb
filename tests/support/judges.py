"""Tools that are not ours, and judge: whether they are there, and run."""
import shutil
import subprocess
import unittest


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return unittest.skipIf(missing, f"not installed: {' '.join(missing)}")


def needs_libnbd():
    found = subprocess.run(["/usr/bin/python3", "-c", "import nbd"], capture_output=True).returncode == 0
    return unittest.skipUnless(found, "not installed: python3-libnbd")


def run(*words, timeout=60, **options):
    """Standard output. A failure carries what it said."""
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, **options)
    if done.returncode != 0:
        raise AssertionError(f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
