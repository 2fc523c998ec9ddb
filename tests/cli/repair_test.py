#!/usr/bin/python3
"""repair_test.py QUIRE - `check --repair`: what it makes again, what it calls lost, its exit codes; a dry run writes nothing."""
import json
import mmap
import os
import pathlib
import unittest

from store_case import WithStore, quire

FOOTER = b"QuireEnd"


class Repair(WithStore):
    def content(self):
        return {p: p.read_bytes() for p in pathlib.Path(self.store).rglob("*") if p.name != "lock" and p.is_file()}

    def repair(self, code, *options):
        done = quire("check", self.store, "--repair", "--json", *options)
        facts = json.loads(done.stdout)
        self.assertEqual(done.returncode, code, (facts, done.stderr))
        self.assertTrue(facts["complete"])
        return [(f["remedy"], f["text"]) for f in facts["findings"]], facts["rebuilt"], facts["lost"]

    def plan_and_repair(self, code):
        """Both say the same; the plan changes nothing."""
        before = self.content()
        planned = self.repair(code, "--dry-run")
        self.assertTrue(before == self.content())
        self.assertEqual(planned, self.repair(code))
        return planned

    def patch(self, at):
        with open(self.store / "capacity", "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0] ^ 0x40
            file.seek(at)
            file.write(bytes([byte]))

    def places(self, content):
        with open(self.store / "capacity", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            at, found = view.find(content), []
            while at >= 0:
                found.append(at)
                at = view.find(content, at + 1)
            return found

    def test_sound(self):
        self.put(self.write("a", os.urandom(50000)))
        self.assertEqual(self.plan_and_repair(0), ([], 0, 0))

    def test_superblock(self):
        self.patch(65536 + 40)
        findings, rebuilt, lost = self.plan_and_repair(3)
        self.assertEqual((rebuilt, lost, findings[0][0]), (1, 0, "rebuilt"))
        self.assertEqual(self.plan_and_repair(0), ([], 0, 0))

    def another(self, capacity, *growths):
        """A store of which a superblock goes astray."""
        path = self.dir / "other"
        self.good("init", path, "--capacity", capacity)
        for bytes_ in growths:
            self.good("class", "grow", path, "capacity", "--size", bytes_)
        return path

    def copy(self, other, cls="capacity", copy=0):
        with open(other / cls, "rb") as source, open(self.store / cls, "r+b") as file:
            block = source.read(4096)
            file.seek(65536 * copy)
            file.write(block)

    def expect_foreign(self):
        findings, rebuilt, lost = self.plan_and_repair(3)
        self.assertEqual((rebuilt, lost), (1, 0))
        self.assertRegex(findings[0][1], r"^superblock [01]: is another class's$")
        self.assertEqual(self.plan_and_repair(0), ([], 0, 0))

    def test_a_superblock_of_another_store(self):
        """Of a higher generation than the good one, and of a lower one: what there is tells which is right, and nothing is silent."""
        id_, = self.put(self.write("a", b"hello\n"))
        other = self.another("32M", "33M", "34M")
        for copy in range(2):
            self.copy(other, copy=copy)
            self.expect_foreign()
        for size in ("33M", "34M", "35M"):
            self.good("class", "grow", self.store, "capacity", "--size", size)
        self.copy(other)
        self.expect_foreign()
        self.assertEqual(self.good("blob", "get", self.store, id_), b"hello\n")

    def test_a_superblock_of_another_store_in_another_class(self):
        other = self.another("32M")
        for path in self.store, other:
            self.good("class", "add", path, "staging", "--size", "16M")
        for copy in range(2):
            self.copy(other, "staging", copy)
            self.expect_foreign()

    def test_an_opening_to_write_leaves_a_foreign_superblock_to_a_repair(self):
        self.copy(self.another("32M", "33M"))
        self.put(self.write("a", b"hello\n"))
        self.expect_foreign()

    def test_an_error_stands_in_a_line_once(self):
        for at in 0, 40:
            self.patch(at)
            done = quire("check", self.store)
            line = done.stdout.decode().splitlines()[0]
            reason = line.rpartition(": ")[2]
            self.assertEqual(line.count(reason), 1, line)

    def test_checksums_and_a_page(self):
        content = os.urandom(50000)
        id_, = self.put(self.write("a", content))
        end, = self.places(content[49152:])
        self.patch(end + 4096 + 1)
        self.assertEqual(quire("blob", "get", self.store, id_).returncode, 1)
        self.assertEqual(self.plan_and_repair(3)[1:], (1, 0))
        self.assertEqual(self.good("blob", "get", self.store, id_), content)
        other = self.put(self.write("b", b"alone"))[0]
        self.flip(content[8192:8292])
        self.assertEqual(self.plan_and_repair(1)[1:], (0, 1))
        done = quire("check", self.store, "--repair")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout.decode(), rf"object {id_}: offset 8192 .*: lost: 4096 bytes of it, from 8192 on\n")
        self.assertEqual(self.good("blob", "get", self.store, other), b"alone")

    def log(self):
        """Some segments that are sealed."""
        self.good("log", "create", self.store, "events", "--segment", "64K")
        lines = b"".join(b"record %d %s\n" % (i, b"x" * 1000) for i in range(300))
        self.good("log", "append", self.store, "events", input=lines)
        footers = self.places(FOOTER)
        self.assertGreater(len(footers), 3)
        return lines, footers

    def test_footer_of_a_log(self):
        lines, footers = self.log()
        self.patch(footers[1] + 100)
        findings, rebuilt, lost = self.plan_and_repair(3)
        self.assertEqual((rebuilt, lost), (len(findings), 0))
        self.assertEqual(self.repair(0), ([], 0, 0))
        self.assertEqual(self.good("log", "cat", self.store, "events"), lines)

    def test_footer_and_records_of_a_log(self):
        lines, footers = self.log()
        self.patch(footers[1] + 100)
        self.flip(b"record 80 ")
        before = self.content()
        _, rebuilt, lost = self.repair(1, "--dry-run")
        self.assertTrue(before == self.content())
        self.assertGreater(lost, 0)
        done = quire("check", self.store, "--repair")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"records in it, are damaged", done.stderr)

    def test_records_at_the_end_of_a_log(self):
        """What was not sealed yet: a record is lost, and told by its range; all others are read."""
        self.good("log", "create", self.store, "events", "--segment", "64K")
        for i in range(6):
            self.good("log", "append", self.store, "events", input=b"record %d %s\n" % (i, b"x" * 1000))
        self.flip(b"record 2 ")
        findings, rebuilt, lost = self.plan_and_repair(1)
        self.assertEqual((rebuilt, lost), (0, 1))
        self.assertEqual(findings, [("lost", "log events: 1 records from 2 on")])
        self.assertEqual(self.repair(1)[1:], (0, 1))
        shown = self.good("log", "cat", self.store, "events", "--from", "3")
        self.assertEqual(shown, b"".join(b"record %d %s\n" % (i, b"x" * 1000) for i in range(3, 6)))
        self.assertNotEqual(quire("log", "cat", self.store, "events").returncode, 0)
        self.good("log", "append", self.store, "events", input=b"and on\n")

    def test_footers_of_volumes(self):
        """One that is gone, and one that is damaged, behind a checkpoint: told, made again, and all is read."""
        image = self.write("image", os.urandom(4 << 20))
        self.good("volume", "import", self.store, "vm", image)
        self.good("volume", "checkpoint", self.store)
        footers = self.places(FOOTER)
        self.assertGreater(len(footers), 8)
        with open(self.store / "capacity", "r+b") as file:
            file.seek(footers[3])
            file.write(bytes(4096))
        self.patch(footers[5] + 60)
        self.assertEqual(quire("check", self.store).returncode, 1)
        findings, rebuilt, lost = self.plan_and_repair(3)
        self.assertEqual((rebuilt, lost), (2, 0), findings)
        self.assertEqual(self.repair(0), ([], 0, 0))
        self.good("volume", "scrub", self.store, "vm")
        self.good("volume", "export", self.store, "vm", self.dir / "back")
        self.assertTrue((self.dir / "back").read_bytes() == pathlib.Path(image).read_bytes())

    def test_through_a_daemon(self):
        daemon = self.serve()
        self.patch(65536 + 40)
        self.assertEqual(self.repair(3)[1:], (1, 0))
        self.assertEqual(self.repair(0)[1:], (0, 0))
        self.stop(daemon)

    def test_a_dry_run_through_a_daemon_writes_nothing(self):
        lines, footers = self.log()
        daemon = self.serve()
        self.patch(footers[1] + 100)
        findings, rebuilt, lost = self.plan_and_repair(3)
        self.assertEqual((rebuilt, lost), (len(findings), 0))
        self.assertEqual(self.repair(0), ([], 0, 0))
        self.assertEqual(self.good("log", "cat", self.store, "events"), lines)
        self.stop(daemon)

    def test_a_log_that_somebody_uses_is_not_mended_under_him(self):
        """Nor is it said that it can be."""
        _, footers = self.log()
        daemon = self.serve()
        follower = self.started("log", "follow", self.store, "events", "--last", "1")
        self.assertNotEqual(follower.stdout.readline(), b"")
        self.patch(footers[1] + 100)
        before = self.content()
        for options in ["--dry-run"], []:
            done = quire("check", self.store, "--repair", *options)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(b"in use", done.stderr)
            self.assertTrue(before == self.content())
        follower.terminate()
        follower.communicate()
        self.assertEqual(self.repair(3)[2], 0)
        self.stop(daemon)

    def test_a_list_of_keys_and_a_record_of_the_same_segment(self):
        """A plan knows that the records aren't whole, also where the objects' bytes aren't looked at."""
        self.good("log", "create", self.store, "k", "--segment", "64K", "--keys")
        self.good("log", "append", self.store, "k", "--keyed", input=b"".join(b"k%d\tvalue %d %s\n" % (i, i, b"v" * 400) for i in range(400)))
        footer = self.places(FOOTER)[0]
        self.patch(footer + 4096 + 9)
        for options in [], ["--structure"]:
            planned = self.repair(3, "--dry-run", *options)
            self.assertEqual(planned[1:], (1, 0))
        self.flip(b"value 20 ")
        for options in ["--structure"], []:
            planned = self.repair(1, "--dry-run", *options)
            self.assertEqual(planned, self.repair(1, *options))
            self.assertEqual(planned[1], 0)

    def test_what_can_not_be_opened_can_not_be_repaired(self):
        self.patch(40)
        self.patch(65536 + 40)
        before = self.content()
        self.refused(1, "damaged", "check", self.store, "--repair")
        self.assertTrue(before == self.content())

    def test_usage(self):
        self.refused(2, "--repair", "check", self.store, "--dry-run")


if __name__ == "__main__":
    unittest.main()
