#!/usr/bin/python3
"""store_verbs_test.py QUIRE - every verb of a store, alone and through a daemon."""
import errno
import json
import os
import signal
import subprocess
import time
import unittest

from store_case import QUIRE, WithStore, quire


class Alone(WithStore):
    """Every verb, by a process that opens the store."""
    served = False

    def test_blobs_come_back_as_they_were(self):
        sizes = [0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (2 << 20) + 5]
        files = [self.write(f"f{size}", os.urandom(size)) for size in sizes]
        ids = self.put(*files)
        self.assertEqual((len(ids), self.ids()), (len(sizes), ids))
        for id_, file in zip(ids, files):
            self.assertTrue(self.good("blob", "get", self.store, id_) == file.read_bytes())
            out = self.dir / "out"
            self.assertEqual(self.good("blob", "get", self.store, id_, "-o", out), b"")
            self.assertTrue(out.read_bytes() == file.read_bytes())
        self.clean()

    def test_standard_input_is_streamed(self):
        content = os.urandom((3 << 20) + 7)
        for words in ([], ["-"]):
            id_, = self.put(*words, input=content)
            self.assertTrue(self.good("blob", "get", self.store, id_) == content)

    def test_relative_paths_are_the_caller_s(self):
        self.write("here", b"here")
        id_, = self.put("here", cwd=self.dir)
        self.good("blob", "get", "s", id_, "-o", "there", cwd=self.dir)
        self.assertEqual((self.dir / "there").read_bytes(), b"here")

    def test_listing_and_properties(self):
        a, = self.put(self.write("a", b"abc"), "--tag", 7)
        b, = self.put(self.write("b", bytes(10000)))
        listed = self.facts("blob", "ls", self.store)
        self.assertEqual([(x["id"], x["bytes"], x["tag"]) for x in listed], [(a, 3, 7), (b, 10000, 0)])
        long = self.good("blob", "ls", "-l", self.store).decode().splitlines()
        self.assertEqual(len(long), 2)
        self.assertRegex(long[1], rf"\b{b}\b.*\b10000\b.*\bcapacity\b")
        props = self.facts("blob", "props", self.store, b)
        self.assertEqual((props["id"], props["bytes"], props["class"], props["tag"]), (b, 10000, "capacity", 0))
        self.assertIn(b"10000", self.good("blob", "props", self.store, b))

    def test_removal_is_of_all_or_none(self):
        ids = self.put(*(self.write(f"f{i}", os.urandom(5000)) for i in range(3)))
        self.refused(1, f"object {ids[2] + 1000}: ", "blob", "rm", self.store, ids[0], ids[2] + 1000)
        self.assertEqual(self.ids(), ids)
        self.assertEqual(self.good("blob", "rm", self.store, ids[0], ids[2]), b"")
        self.assertEqual(self.ids(), [ids[1]])
        for verb in ("get", "props", "rm"):
            self.refused(1, f"{ids[0]}", "blob", verb, self.store, ids[0])
        self.clean()

    def test_put_is_of_all_or_none(self):
        good = self.write("good", os.urandom(9000))
        used = self.used()
        self.refused(1, "missing: No such file", "blob", "put", self.store, good, self.dir / "missing")
        self.refused(1, "Is a directory", "blob", "put", self.store, good, self.dir)
        self.assertEqual((self.ids(), self.used()), ([], used))

    def test_no_space_leaves_nothing(self):
        used = self.used()
        big = self.write("big", b"")
        os.truncate(big, 64 << 20)
        self.refused(1, "No space left", "blob", "put", self.store, big)
        done = quire("blob", "put", self.store, input=bytes(40 << 20))
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertRegex(done.stderr, b"^quire: [^\n]*No space left[^\n]*\n$")
        self.assertEqual((self.ids(), self.used()), ([], used))
        self.clean()

    def test_output_appears_whole_or_not_at_all(self):
        content = os.urandom(3 << 20)
        damaged, = self.put(self.write("d", content))
        self.flip(content[2 << 20:(2 << 20) + 64])
        out = self.write("out", b"before")
        self.refused(1, f"object {damaged}, ", "blob", "get", self.store, damaged, "-o", out)
        self.assertEqual(out.read_bytes(), b"before")
        self.refused(1, "", "blob", "get", self.store, damaged, "-o", self.dir / "new")
        self.refused(1, "No such file", "blob", "get", self.store, damaged, "-o", self.dir / "no" / "where")
        self.assertEqual(sorted(os.listdir(self.dir)), ["d", "out", "s"])
        whole, = self.put(self.write("d", b"whole"))
        self.good("blob", "get", self.store, whole, "-o", out)
        self.assertEqual(out.read_bytes(), b"whole")

    def test_check_names_what_is_damaged(self):
        content = os.urandom(20000)
        damaged, whole = self.put(self.write("a", content), self.write("b", b"whole"))
        self.flip(content[4096 * 2:4096 * 2 + 64], 5)
        done = quire("check", self.store)
        self.assertEqual((done.returncode, done.stderr), (1, b""))
        line, summary = done.stdout.decode().splitlines()
        self.assertRegex(line, rf"^object {damaged}: offset 8192 .*class capacity, at \d+\): Bad message")
        self.assertRegex(summary, r"\b1 finding$")
        found = json.loads(quire("check", self.store, "--json").stdout)["findings"]
        self.assertEqual([(f["error"], f["object"], f["class"]) for f in found], [(errno.EBADMSG, damaged, "capacity")])
        self.good("check", self.store, "--structure")
        self.assertEqual(self.good("blob", "get", self.store, whole), b"whole")
        self.refused_output(damaged)

    def refused_output(self, id_):
        done = quire("blob", "get", self.store, id_)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), rf"^quire: [^\n]*object {id_}, from \d+: Bad message\n$")

    def test_check_obeys_a_rate(self):
        self.put(self.write("a", os.urandom(1 << 20)))
        start = time.monotonic()
        self.good("check", self.store, "--rate", "4M")
        self.assertGreater(time.monotonic() - start, 0.2)

    def test_classes(self):
        a = self.write("a", os.urandom(5000))
        self.refused(1, "staging", "blob", "put", self.store, a, "--class", "staging")
        self.good("class", "add", self.store, "staging", "--size", "4M")
        self.refused(1, "staging", "class", "add", self.store, "staging", "--size", "4M")
        id_, = self.put(a, "--class", "staging")
        self.assertEqual(self.facts("blob", "props", self.store, id_)["class"], "staging")
        self.good("class", "grow", self.store, "staging", "--size", "8M")
        self.refused(1, "", "class", "grow", self.store, "staging", "--size", "2M")
        self.refused(1, "", "class", "grow", self.store, "pmem", "--size", "2M")
        classes = self.facts("info", self.store)["classes"]
        self.assertEqual({name: c["bytes"] for name, c in classes.items()},
                         {"capacity": 32 << 20, "staging": 8 << 20})
        self.assertEqual(classes["staging"]["path"], str(self.store.resolve() / "staging"))
        self.clean()

    def test_class_on_a_device_named_relatively(self):
        with open(self.dir / "device", "wb") as file:
            file.truncate(4 << 20)
        self.good("class", "add", self.store, "pmem", "--device", "device", cwd=self.dir)
        self.assertEqual((self.store / "pmem").resolve(), (self.dir / "device").resolve())
        self.assertEqual(self.facts("info", self.store)["classes"]["pmem"]["bytes"], 4 << 20)
        self.clean()

    def test_pmem_without_dax(self):
        """Refused where power is asked for, in one line, and nothing is left; mapped where the process will do."""
        add = ["class", "add", self.store, "pmem", "--size", "4M"]
        self.refused(2, "tape", *add, "--durable", "tape")
        self.refused(2, "--durable", "class", "add", self.store, "staging", "--size", "4M", "--durable", "process")
        self.refused(1, "no DAX", *add, "--durable", "power")
        self.assertFalse((self.store / "pmem").exists())
        self.good(*add, "--durable", "process")
        self.check_pmem("pmem", "page", "process")
        id_, = self.put(self.write("a", data := os.urandom(50000)), "--class", "pmem")
        self.assertTrue(self.good("blob", "get", self.store, id_) == data)
        self.good("class", "grow", self.store, "pmem", "--size", "8M")
        self.check_pmem("pmem", "page", "process")
        self.clean()

    def test_dax_of_one_file(self):
        """There is none here: refused where it is asked for, and nothing is left; where none is asked for, all is well."""
        add = ["class", "add", self.store]
        self.refused(2, "perhaps", *add, "pmem", "--size", "4M", "--dax", "perhaps")
        self.refused(2, "--dax", *add, "staging", "--size", "4M", "--dax", "on")
        self.refused(2, "--dax", *add, "pmem", "--device", "device", "--dax", "on")
        self.refused(1, "no DAX", *add, "pmem", "--size", "4M", "--dax", "on")
        self.assertFalse((self.store / "pmem").exists())
        self.good(*add, "staging", "--size", "4M", "--dax", "off")
        self.refused(2, "--dax", "class", "grow", self.store, "staging", "--size", "8M", "--dax", "off")
        self.clean()

    def check_pmem(self, medium, granularity, durable):
        facts = self.facts("info", self.store)["classes"]["pmem"]
        self.assertEqual((facts["medium"], facts["granularity"], facts["durable"]), (medium, granularity, durable))
        self.assertIn(f"{medium}, granularity {granularity}, durable beyond {durable}",
                      self.good("info", self.store).decode())

    def test_pmem_by_default_without_dax(self):
        self.good("class", "add", self.store, "pmem", "--size", "4M")
        facts = self.facts("info", self.store)["classes"]["pmem"]
        self.assertIn(facts["medium"], ("direct", "buffered"))
        self.assertEqual((facts["granularity"], facts["durable"]), ("block", "power"))

    def test_facts(self):
        self.put(self.write("a", bytes(100)))
        info, stat_ = self.facts("info", self.store), self.facts("stat", self.store)
        self.assertRegex(info["uuid"], r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")
        self.assertEqual((info["format_version"], stat_["objects"], stat_["uncommitted"]), (1, 1, 0))
        self.assertEqual((info["served"], stat_["transactions"]), (self.served, int(self.served)))
        self.assertIn(info["uuid"].encode(), self.good("info", self.store))
        self.assertIn(b"capacity", self.good("stat", self.store))

    def test_full_disk_is_told(self):
        id_, = self.put(self.write("a", os.urandom(100000)))
        for words in (["blob", "get", self.store, id_], ["stat", self.store], ["blob", "ls", self.store]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([QUIRE, *map(str, words)], stdout=full, stderr=subprocess.PIPE, timeout=60)
            self.assertEqual((done.returncode, done.stderr),
                             (1, b"quire: standard output: No space left on device\n"), words)

    def test_interrupted_it_leaves_nothing(self):
        child = self.started("blob", "put", self.store, "-")
        child.stdin.write(bytes(3 << 20))
        child.stdin.flush()
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(60), -signal.SIGINT if self.served else 1)
        self.assertEqual(child.stdout.read(), b"")
        self.assertRegex(child.stderr.read(), b"^(quire: [^\n]*interrupted\n)?$")
        self.until(lambda: self.facts("stat", self.store)["uncommitted"] == 0)
        self.assertEqual(self.ids(), [])
        self.clean()

    def test_usage(self):
        store = str(self.store)
        for words in (["blob"], ["blob", "frob", store], ["blob", "get", store], ["blob", "get", store, "x"],
                      ["blob", "get", store, "0"], ["blob", "rm", store], ["blob", "props", store], ["blob", "ls"],
                      ["blob", "put"], ["blob", "put", store, "--class", "tape"], ["blob", "put", store, "--tag", "256"],
                      ["blob", "put", store, "--tag", "73"], ["blob", "put", store, "--tag", "80"], ["blob", "put", store, "--tag", "116"],
                      ["class"], ["class", "add", store], ["class", "add", store, "tape", "--size", "4M"],
                      ["class", "add", store, "pmem"], ["class", "shrink", store, "pmem"],
                      ["check"], ["check", store, store], ["check", store, "--rate", "fast"], ["stat"],
                      ["stat", store, "--frob"], ["serve"], ["serve", store, "--budget", "1K"],
                      ["init"], ["init", store, "--capacity", "x"], ["rename", store]):
            done = quire(*words)
            self.assertEqual((done.returncode, done.stdout), (2, b""), words)
            self.assertRegex(done.stderr.decode(), r"\Aquire: [^:\n]+: [^\n]+\n\Z", words)

    def test_help(self):
        for words in (["init"], ["stat"], ["check"], ["blob"], ["blob", "put"], ["blob", "get"], ["blob", "ls"],
                      ["blob", "rm"], ["blob", "props"], ["class"], ["class", "add"], ["class", "grow"], ["rename"],
                      ["serve"]):
            out = self.good(*words, "--help").decode()
            self.assertTrue(out.startswith(f"usage: quire {words[0]}"), words)


class Served(Alone):
    """The same through a daemon."""
    served = True

    def setUp(self):
        super().setUp()
        self.daemon = self.serve()

    def tearDown(self):
        self.stop(self.daemon)
        super().tearDown()


if __name__ == "__main__":
    unittest.main()
