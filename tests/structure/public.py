"""Rules on the library's face: headers that stand alone, commented functions, exact exports."""
import shutil
import subprocess
import tempfile

import c_source
from tree import Violation

DIALECTS = [
    (["gcc", "clang"], ["-x", "c", "-std=c99"]),
    (["g++", "clang++"], ["-x", "c++", "-std=c++11"]),
]
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
SYMBOL_TYPES = set("TtWwDdBbRrVvi")


def headers(tree):
    return [p for p in tree.below("include/quire") if p.suffix == ".h"]


def check(tree, library=None):
    for path in headers(tree):
        yield from stands_alone(tree, path)
        yield from is_commented(tree, path)
    if library:
        yield from exports(tree, library)


def stands_alone(tree, path):
    """Compiles where nothing else is included; twice, for its guard."""
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(f"#include <quire/{path.name}>\n#include <quire/{path.name}>\nint unused_name;\n")
        source.flush()
        for compilers, dialect in DIALECTS:
            for compiler in filter(shutil.which, compilers):
                done = subprocess.run([compiler, *dialect, *STRICT, "-I", tree.root / "include", source.name],
                                      capture_output=True, text=True)
                if done.returncode != 0:
                    first = next((l for l in done.stderr.splitlines() if "error" in l), done.stderr.strip())
                    yield Violation(str(path), 1, "header", f"{compiler} {dialect[-1]}: {first}")


def is_commented(tree, path):
    """A comment at its end, or above it with nothing between but other functions, or types, of the same paragraph; a
    structure's own comments are not the function's."""
    lines = tree.lines(path)
    code = c_source.without_comments(tree.text(path)).split("\n")
    for name, first, last in c_source.prototypes(tree.text(path)):
        above = first - 2
        while above >= 0 and code[above].strip() and not code[above].startswith("}"):
            above -= 1
        is_above = above >= 0 and "*/" in lines[above] and not code[above].strip()
        if not is_above and "*/" not in lines[last - 1]:
            yield Violation(str(path), first, "comment", f"{name} has none")


def exports(tree, library):
    declared = {}
    for path in headers(tree):
        for name, line, _ in c_source.prototypes(tree.text(path)):
            declared[name] = (path, line)

    listing = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    symbols = (line.split() for line in listing.stdout.splitlines())
    exported = {name.split("@")[0] for _, kind, name in symbols if kind in SYMBOL_TYPES}

    for name in sorted(declared.keys() - exported):
        path, line = declared[name]
        yield Violation(str(path), line, "export", f"{name}: declared, not exported")
    for name in sorted(exported - declared.keys()):
        yield Violation("include/quire", 1, "export", f"{name}: exported, declared in no public header")
