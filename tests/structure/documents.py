"""Rules on documents: each package has its reason, each link its target, each file that the architecture tells of is there."""
import pathlib
import re

from tree import Violation

LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
ROW_OF_FILES = re.compile(r"\| (`[^|]+`) \|")
ARCHITECTURE = pathlib.Path("docs/architecture.md")


def check(tree):
    yield from packages(tree)
    yield from readme_program(tree)
    for path in tree.paths:
        if path.suffix == ".md":
            yield from links(tree, path)
    if ARCHITECTURE in tree.paths:
        yield from files_told_of(tree)


def packages(tree):
    """Each package of packages.txt stands in docs/dependencies.md."""
    listed, reasons = tree.root / "packages.txt", tree.root / "docs" / "dependencies.md"
    if not listed.exists():
        return
    text = reasons.read_text(encoding="utf-8") if reasons.exists() else ""
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        name = line.split("#")[0].strip().split(":")[0]
        if name and not name.startswith("[") and f"`{name}`" not in text:
            yield Violation("packages.txt", number, "dependency", f"{name}: no reason in docs/dependencies.md")


def links(tree, path):
    for number, line in enumerate(tree.lines(path), 1):
        for target, heading in LINK.findall(line):
            if "://" in target or target.startswith("mailto:"):
                continue
            file = tree.root / path.parent / target if target else tree.root / path
            if not file.exists():
                yield Violation(str(path), number, "link", f"{target}: no such file")
            elif heading and file.suffix == ".md" and heading not in anchors(file):
                yield Violation(str(path), number, "link", f"{target}#{heading}: no such heading")


def anchors(file):
    """What the headings of a document are called in links."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line.lstrip("#")).replace("`", "").strip().lower()
            yield re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def files_told_of(tree):
    """A row of the table names files below src/ without their endings; a folder stands at the first of a row."""
    for number, line in enumerate(tree.lines(ARCHITECTURE), 1):
        row, folder = ROW_OF_FILES.match(line), ""
        for name in re.findall(r"`([^`]+)`", row.group(1)) if row else ():
            folder = name.rpartition("/")[0] or folder
            pattern = f"{folder}/{name.rpartition('/')[2]}"
            if not any(any((tree.root / "src").glob(pattern + ending)) for ending in ("", ".c", ".h")):
                yield Violation(str(ARCHITECTURE), number, "file", f"src/{pattern}: no such file")


def readme_program(tree):
    """The program in the README is the one that is built and run."""
    readme, program = tree.root / "README.md", tree.root / "examples" / "first.c"
    if not program.exists():
        return
    text = program.read_text(encoding="utf-8")
    if text[text.index("#include"):] not in readme.read_text(encoding="utf-8"):
        yield Violation("README.md", 1, "example", "its program is not examples/first.c")
