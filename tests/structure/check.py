#!/usr/bin/python3
"""check.py ROOT [LIBQUIRE.SO] - holds a source tree to its own rules.

Prints one line a violation; exit 0 if there was none, else 1. selftest.py plants
violations and sees that each is found.
"""
import sys

sys.dont_write_bytecode = True
import documents  # noqa: E402
import includes   # noqa: E402
import public     # noqa: E402
import text       # noqa: E402
from tree import Tree  # noqa: E402


def violations(root, library=None):
    tree = Tree(root)
    yield from includes.check(tree)
    yield from text.check(tree)
    yield from public.check(tree, library)
    yield from documents.check(tree)


def main():
    found = list(violations(*sys.argv[1:3]))
    for violation in found:
        print(violation)
    print(f"{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
