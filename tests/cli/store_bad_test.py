#!/usr/bin/python3
"""store_bad_test.py QUIRE - stores that are damaged, foreign, newer, incomplete, or on a medium that only reads."""
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

from store_case import QUIRE, WithStore, quire


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class BadStores(WithStore):
    VERBS = (["stat"], ["info"], ["check"], ["blob", "ls"], ["serve"])

    def each_refuses(self, store, why):
        before = self.content(store)
        for words in self.VERBS:
            self.refused(1, why, *words, store)
        a = self.write("a", b"a")
        self.refused(1, why, "blob", "put", store, a)
        self.assertTrue(before == self.content(store))

    @staticmethod
    def content(store):
        """All but the lock, which may have been made."""
        return {p: p.read_bytes() for p in pathlib.Path(store).rglob("*") if p.name != "lock"}

    def test_missing(self):
        self.each_refuses(self.dir / "missing", "No such file")
        self.each_refuses(self.dir / "missing" / "deeper", "No such file")

    def test_empty_directory(self):
        (self.dir / "empty").mkdir()
        self.each_refuses(self.dir / "empty", "")
        self.assertLessEqual(set(os.listdir(self.dir / "empty")), {"lock"})

    def test_foreign_directory(self):
        (self.dir / "foreign").mkdir()
        (self.dir / "foreign" / "capacity").write_bytes(os.urandom(2 << 20))
        self.each_refuses(self.dir / "foreign", "")
        self.refused(1, "", "init", self.dir / "foreign")
        self.assertEqual((self.dir / "foreign" / "capacity").stat().st_size, 2 << 20)

    def test_not_a_directory(self):
        self.each_refuses(self.write("file", b"x"), "")
        self.refused(1, "", "init", self.dir / "file")

    def test_truncated(self):
        os.truncate(self.store / "capacity", 4 << 20)
        self.each_refuses(self.store, "too small")
        os.truncate(self.store / "capacity", 100)
        self.each_refuses(self.store, "too small")

    def patch(self, offset, data, copies=2):
        with open(self.store / "capacity", "r+b") as file:
            for at in (0, 65536)[:copies]:
                file.seek(at)
                block = bytearray(file.read(4096))
                block[offset:offset + len(data)] = data
                if offset != 8:
                    struct.pack_into("<I", block, 8, crc32c(bytes(block[12:])))
                file.seek(at)
                file.write(block)

    def test_damaged_superblocks(self):
        self.patch(8, b"\1\2\3\4", copies=1)
        done = quire("check", self.store)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout.decode().splitlines()[0], r"^superblock 0: .*class capacity, at 0\)")
        self.assertEqual(self.ids(), [])
        self.patch(8, b"\1\2\3\4")
        self.each_refuses(self.store, "damaged")

    def test_newer_format(self):
        self.patch(12, struct.pack("<I", 2))
        self.each_refuses(self.store, "format version 2")

    def test_class_file_gone_or_too_small(self):
        self.good("class", "add", self.store, "staging", "--size", "4M")
        os.truncate(self.store / "staging", 2 << 20)
        self.each_refuses(self.store, "too small")
        os.unlink(self.store / "staging")
        self.each_refuses(self.store, "staging is missing")

    def test_class_files_swapped(self):
        other = self.dir / "other"
        self.good("init", other, "--capacity", "32M")
        for store in (self.store, other):
            self.good("class", "add", store, "staging", "--size", "4M")
        shutil.copy(other / "staging", self.store / "staging")
        self.each_refuses(self.store, "a class of another store")

    def test_damaged_catalogue_does_not_crash(self):
        self.put(*(self.write(f"f{i}", os.urandom(100)) for i in range(10)))
        with open(self.store / "capacity", "r+b") as file:
            file.seek(72)
            at, = struct.unpack("<Q", file.read(8))
            file.seek(at)
            file.write(os.urandom(4096))
        done = quire("check", self.store)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout or done.stderr)

    def test_a_damaged_record_of_the_catalogue_is_told_as_that(self):
        for _ in range(20):
            self.put("-", input=b"x" * 5000)
        path = self.store / "capacity"
        content = bytearray(path.read_bytes())
        at, = struct.unpack_from("<Q", content, 72)
        content[at + 4096 + 700] ^= 0x40
        path.write_bytes(content)
        for words in (("stat",), ("check",), ("check", "--repair"), ("blob", "ls")):
            self.refused(1, "the store's catalogue can't be read; nothing was written, and what is left is a copy of the whole store: ",
                         *words, self.store)
        self.assertEqual(path.read_bytes(), content)

    def test_odd_entries_beside_the_classes(self):
        (self.store / "control").write_bytes(b"not a socket")
        self.assertEqual(self.ids(), [])
        self.put(self.write("a", b"a"))

    def test_read_only_file_system(self):
        id_, = self.put(self.write("a", b"content"))
        at = self.dir / "ro"
        at.mkdir()
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("no mounts for this user")
        script = ('mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 77; shift 2; exec "$@"')

        def there(*words):
            done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", self.store, at, QUIRE,
                                   *map(str, words)], capture_output=True, timeout=60)
            if done.returncode == 77:
                self.skipTest("no bind mounts here")
            return done
        done = there("blob", "get", at, id_)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"content", b""))
        for words in (["check", at], ["stat", at], ["info", at], ["blob", "ls", at]):
            self.assertEqual(there(*words).returncode, 0, words)
        for words in (["blob", "put", at, self.dir / "a"], ["blob", "rm", at, id_], ["serve", at]):
            done = there(*words)
            self.assertEqual((done.returncode, done.stdout), (1, b""), words)
            self.assertRegex(done.stderr, b"^quire: [^\n]*can't be written[^\n]*\n$")

    def test_long_path(self):
        deep = self.dir / ("d" * 200) / ("e" * 200) / ("f" * 200)
        deep.mkdir(parents=True)
        self.good("rename", self.store, deep / "s")
        self.store = deep / "s"
        a, = self.put(self.write("a", b"alone"))
        daemon = self.serve()
        b, = self.put(self.write("b", b"served"))
        self.assertEqual(self.facts("stat", self.store)["objects"], 2)
        self.assertEqual([self.good("blob", "get", self.store, i) for i in (a, b)], [b"alone", b"served"])
        self.stop(daemon)

    def test_rename(self):
        self.refused(1, "", "rename", self.dir / "missing", self.dir / "t")
        (self.dir / "t").mkdir()
        (self.dir / "t" / "x").touch()
        self.refused(1, "", "rename", self.store, self.dir / "t")
        self.assertEqual(self.good("rename", self.store, self.dir / "u"), b"")
        self.assertFalse(self.store.exists())
        self.good("check", self.dir / "u")

    def test_init_refuses_what_is_there(self):
        self.refused(1, "", "init", self.store)
        self.refused(1, "", "init", self.dir / "no" / "where")
        self.refused(1, "", "init", self.dir / "tiny", "--capacity", "4K")
        self.assertFalse((self.dir / "tiny").exists())
        self.clean()

    def test_init_on_a_file_elsewhere(self):
        with open(self.dir / "device", "wb") as file:
            file.truncate(16 << 20)
        self.good("init", self.dir / "t", "--device", self.dir / "device")
        self.assertEqual(self.facts("info", self.dir / "t")["classes"]["capacity"]["path"], str((self.dir / "device").resolve()))
        self.refused(1, "", "init", self.dir / "u", "--device", self.dir / "device")


if __name__ == "__main__":
    unittest.main()
