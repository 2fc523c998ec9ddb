"""The source tree as the rules see it: its text files, and what a rule found."""
import pathlib
from dataclasses import dataclass

CODE_SUFFIXES = {".c", ".h", ".S", ".py", ".sh", ".build"}
TEXT_SUFFIXES = CODE_SUFFIXES | {".md", ".txt", ".ini", ".map", ".html", ".json"}
HIDDEN_BUT_OURS = {".ci"}


@dataclass(frozen=True)
class Violation:
    path: str
    line: int
    rule: str
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.paths = sorted(self._walk(self.root))  # relative to root
        self._texts = {}

    def _walk(self, directory):
        for entry in directory.iterdir():
            if entry.is_symlink():
                continue
            if entry.is_dir():
                if self._is_ours(entry):
                    yield from self._walk(entry)
            elif entry.suffix in TEXT_SUFFIXES or self._is_script(entry):
                yield entry.relative_to(self.root)

    def _is_ours(self, directory):
        name = directory.name
        if name.startswith("."):
            return name in HIDDEN_BUT_OURS
        return not (name == "__pycache__" or (directory.parent == self.root and name.startswith("build")))

    @staticmethod
    def _is_script(path):
        if path.name == "Makefile":
            return True
        with open(path, "rb") as file:
            return file.read(2) == b"#!"

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_bytes().decode("utf-8")
        return self._texts[path]

    def lines(self, path):
        return self.text(path).split("\n")

    def below(self, *folders):
        """Paths that lie in one of the folders ("src/cli")."""
        return [p for p in self.paths if any(p.is_relative_to(f) for f in folders)]

    def c_files(self, *folders):
        return [p for p in (self.below(*folders) if folders else self.paths) if p.suffix in (".c", ".h")]

    @staticmethod
    def is_code(path):
        return path.suffix in CODE_SUFFIXES or path.suffix == ""
