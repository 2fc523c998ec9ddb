"""Rule: layers include downward only; programs include the public headers only."""
import os
import pathlib
import re

from layers import INSIDERS, PUBLIC_HEADERS, USERS, rank
from tree import Violation

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')


def check(tree):
    for path in tree.c_files("src", "include", "examples", "bench"):
        for number, line in enumerate(tree.lines(path), 1):
            match = INCLUDE.match(line)
            if match is None:
                continue
            target = resolve(tree, path, match.group(1))
            reason = fault(path, target) if target else unknown(line)
            if reason:
                yield Violation(str(path), number, "include", f"{match.group(1)}: {reason}")


def resolve(tree, path, name):
    """The included file, relative to the root; None if it is none of this tree's."""
    for base in (path.parent, pathlib.Path("src"), pathlib.Path("include")):
        candidate = pathlib.Path(os.path.normpath(base / name))
        if (tree.root / candidate).is_file():
            return candidate
    return None


def unknown(line):
    return 'in quotes, but no file of this tree' if '"' in line else ""


def fault(path, target):
    """Why path may not include target, or ""."""
    if path.parent == target.parent:
        return ""
    if target.is_relative_to("include") and target.name not in PUBLIC_HEADERS:
        return "a public header that tests/structure/layers.py does not know"
    if any(path.is_relative_to(user) for user in USERS):
        return user_fault(path, target)
    if target.name.endswith("_internal.h"):
        return "internal to its module"

    ours, theirs = owner(path), owner(target)
    if ours is None or rank(ours) is None:
        return f"{path.parent} is no layer of tests/structure/layers.py"
    if theirs is None or rank(theirs) is None:
        return "belongs to no layer"
    if ours == theirs or rank(theirs) < rank(ours):
        return ""
    return f"{theirs} stands {'beside' if rank(ours) == rank(theirs) else 'above'} {ours}"


def user_fault(path, target):
    if target.is_relative_to("include") or INSIDERS.get(path.as_posix()) == target.as_posix():
        return ""
    own = next(user for user in USERS if path.is_relative_to(user))
    return "" if target.is_relative_to(own) else "programs include public headers only"


def owner(path):
    """The layer that a file belongs to, or None."""
    if path.is_relative_to("include"):
        return PUBLIC_HEADERS.get(path.name)
    return path.parts[1] if path.parts[0] == "src" and len(path.parts) > 2 else None
