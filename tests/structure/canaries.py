#!/usr/bin/python3
"""canaries.py CANARY.H WITH LIBRARY… - no library that is shipped has a switch for a known bug (src/base/canary.h).

Looks for the names of all canaries, for that of the variable that switches one on, and for that of the function that asks, in each
LIBRARY but for what it says for debuggers; and sees to it that the same search does find each of them in WITH, a library built
with canaries. With --there, LIBRARY is of such a build too, and each must be found there as well.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

VARIABLE = b"QUIRE_CANARY"
FUNCTION = b"canary_is_on"


def canaries(header):
    """Their names, in the order of the list."""
    return re.findall(r"^\tX\((\w+), \"", pathlib.Path(header).read_text(), re.MULTILINE)


def loaded(library):
    """The bytes of a library without what is for debuggers."""
    with tempfile.TemporaryDirectory() as directory:
        stripped = pathlib.Path(directory) / "stripped"
        subprocess.run(["objcopy", "--strip-debug", library, stripped], check=True)
        return stripped.read_bytes()


def complaints(library, words, there):
    content = loaded(library)
    for word in words:
        if (word in content) != there:
            yield f"{library}: {word.decode()} is {'not there' if there else 'there'}"


def main(arguments):
    there = "--there" in arguments
    header, with_canaries, *libraries = [a for a in arguments if a != "--there"]
    words = [name.encode() for name in canaries(header)] + [VARIABLE, FUNCTION]
    found = list(complaints(with_canaries, words, True))
    for library in libraries:
        found += complaints(library, words, there)
    for complaint in found:
        print(complaint)
    print(f"{len(words) - 2} canaries, {len(libraries)} libraries, {len(found)} complaints")
    return 1 if found or len(words) < 22 or not libraries else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
