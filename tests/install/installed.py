"""A build, installed into an empty directory: what tests of it share."""
import os
import pathlib
import subprocess
import tempfile
import unittest


def run(*command, **more):
    """Standard output. A failure carries what the command said."""
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Installed(unittest.TestCase):
    build = None  # the build directory, set by whoever starts the tests

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="quire-install-")
        cls.addClassCleanup(scratch.cleanup)
        cls.scratch = pathlib.Path(scratch.name)
        run("meson", "install", "-C", cls.build, "--no-rebuild", "--quiet", "--destdir", cls.scratch)
        cls.pc_file = next(cls.scratch.rglob("quire.pc"))
        cls.lib_dir = cls.pc_file.parent.parent
        cls.prefix = next(path for path in cls.pc_file.parents if (path / "include" / "quire").is_dir())

    def pkg_config(self, *options):
        env = dict(os.environ, PKG_CONFIG_PATH=str(self.pc_file.parent))
        return run("pkg-config", f"--define-variable=prefix={self.prefix}", *options, "quire", env=env).split()

    def shared(self, **variables):
        """The environment in which programs find the shared library."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.lib_dir), **variables}
