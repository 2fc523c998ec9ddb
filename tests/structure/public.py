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
    """A comment in the paragraph of the function: above it, or at its end."""
    lines = tree.lines(path)
    for name, first, last in c_source.prototypes(tree.text(path)):
        top = first - 1
        while top > 0 and lines[top - 1].strip():
            top -= 1
        if not any("*/" in line for line in lines[top:last]):
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
