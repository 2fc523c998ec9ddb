"""Rules on documents: each package has its reason, each link its target."""
import re

from tree import Violation

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def check(tree):
    yield from packages(tree)
    yield from readme_program(tree)
    for path in tree.paths:
        if path.suffix == ".md":
            yield from links(tree, path)


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
        for target in LINK.findall(line):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (tree.root / path.parent / target).exists():
                yield Violation(str(path), number, "link", f"{target}: no such file")


def readme_program(tree):
    """The program in the README is the one that is built and run."""
    readme, program = tree.root / "README.md", tree.root / "examples" / "first.c"
    if not program.exists():
        return
    text = program.read_text(encoding="utf-8")
    if text[text.index("#include"):] not in readme.read_text(encoding="utf-8"):
        yield Violation("README.md", 1, "example", "its program is not examples/first.c")
