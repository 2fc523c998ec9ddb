#!/usr/bin/python3
"""tools/install-packages, against a package manager that is made of four small scripts."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = "[build]\ngcc # compiler\nmake\n[test]\ncmocka\n[arm64]\nlibc:arm64\n"

# What each script did is a line of $STATE/log. apt-get installs only after as many updates
# as $STATE/stale says.
SCRIPTS = {
    "dpkg": """#!/bin/bash
case $1 in
--print-architecture) echo amd64 ;;
--print-foreign-architectures) [[ ! -e $STATE/foreign ]] || cat $STATE/foreign ;;
--add-architecture) echo $2 >>$STATE/foreign; echo "$*" >>$STATE/log ;;
esac
""",
    "dpkg-query": """#!/bin/bash
sed 's/^/installed /' $STATE/installed
echo 'config-files cmocka:amd64'
""",
    "apt-get": """#!/bin/bash
while [[ $1 == -* ]]; do
    [[ $1 != -o ]] || shift
    shift
done
echo "$*" >>$STATE/log
n_stale=$(cat $STATE/stale)
if [[ $1 == update ]]; then
    echo $((n_stale - 1)) >$STATE/stale
elif [[ $n_stale -gt 0 ]]; then
    echo 'E: Unable to locate package'
    exit 100
fi
""",
}
SUDO = '#!/bin/bash\n[[ $1 != -n ]] || shift\necho sudo >>$STATE/log\nexec "$@"\n'


class Installer(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        for directory in ("bin", "tools", "state"):
            (self.root / directory).mkdir()
        (self.root / "packages.txt").write_text(LIST)
        shutil.copy(ROOT / "tools" / "install-packages", self.root / "tools")
        for name, text in SCRIPTS.items():
            self.script(name, text)
        self.state("installed", "gcc:amd64\nmake:all\n")
        self.state("stale", "0\n")

    def script(self, name, text):
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def state(self, name, text):
        (self.root / "state" / name).write_text(text)

    def log(self):
        path = self.root / "state" / "log"
        return path.read_text().splitlines() if path.exists() else []

    def install(self, *arguments, as_root=True):
        for path in (self.root, *self.root.rglob("*")):
            path.chmod(0o777)
        command = [self.root / "tools" / "install-packages", *arguments]
        if not as_root and os.geteuid() == 0:
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        elif as_root and os.geteuid() != 0:
            self.skipTest("what root does is tried by root only")
        env = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "STATE": str(self.root / "state")}
        return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)

    def test_nothing_missing_is_silent_and_needs_no_rights(self):
        done = self.install("build", as_root=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr, self.log()), (0, "", "", []))

    def test_removed_package_counts_as_missing(self):
        self.assertEqual(self.install("--missing", "build", "test", as_root=False).stdout, "cmocka\n")

    def test_installs_what_is_missing_and_nothing_else(self):
        done = self.install("build", "test")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.log(), ["install --no-install-recommends cmocka"])

    def test_stale_lists_are_fetched_again(self):
        self.state("stale", "1\n")
        self.assertEqual(self.install("test").returncode, 0)
        self.assertEqual([line.split()[0] for line in self.log()], ["install", "update", "install"])

    def test_gives_up_with_the_reason(self):
        self.state("stale", "9\n")
        done = self.install("test")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Unable to locate package", done.stderr)
        self.assertIn("could not install: cmocka", done.stderr)

    def test_optional_gives_up_quietly(self):
        self.state("stale", "9\n")
        self.assertEqual(self.install("--optional", "test").returncode, 0)

    def test_foreign_architecture_is_added_first(self):
        self.assertEqual(self.install("arm64").returncode, 0)
        self.assertEqual(self.log(), ["--add-architecture arm64", "update", "install --no-install-recommends libc:arm64"])

    def test_ordinary_user_gets_one_line(self):
        if shutil.which("sudo", path="/usr/bin:/bin"):
            self.script("sudo", "#!/bin/bash\nexit 1\n")
        done = self.install("test", as_root=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("apt-get install cmocka", done.stderr)
        self.assertEqual(self.log(), [])

    def test_ordinary_user_with_sudo(self):
        self.script("sudo", SUDO)
        self.assertEqual(self.install("test", as_root=False).returncode, 0)
        self.assertEqual(self.log()[-2:], ["sudo", "install --no-install-recommends cmocka"])

    def test_unknown_option(self):
        self.assertEqual(self.install("--odd", as_root=False).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
