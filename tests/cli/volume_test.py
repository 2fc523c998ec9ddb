"""`quire volume …`: what each verb does, with and without a daemon; images in and out; what is refused."""
import json
import os
import shutil
import subprocess
import unittest

from store_case import WithStore, quire

MIB = 1 << 20
BLOCK = 4096


def content(n_bytes, seed):
    return bytes((i * 7 + seed + (i >> 12) * 13) & 0xff for i in range(n_bytes))


class Volumes(WithStore):
    def volume(self, *words, **options):
        return self.good("volume", *words, **options)

    def names(self):
        return self.volume("ls", self.store).decode().split()

    def make(self, name, *parts, size=MIB):
        """A volume of an image that has content at offsets, and holes elsewhere."""
        image = self.dir / f"{name}.img"
        with open(image, "wb") as file:
            for offset, data in parts:
                file.seek(offset)
                file.write(data)
            file.truncate(size)
        self.volume("import", self.store, name, image)
        return image

    def extents(self, verb, name, *words):
        return [(e["offset"], e["bytes"], e["kind"]) for e in self.facts("volume", verb, self.store, name, *words)]


class Verbs(Volumes):
    def life(self):
        image = self.make("a", (8 * BLOCK, content(BLOCK, 1)))
        self.volume("snapshot", self.store, "a@one")
        self.volume("clone", self.store, "a@one", "b")
        self.volume("create", self.store, "c", "--size", "16M", "--durable")
        self.assertEqual(self.names(), ["a", "a@one", "b", "c"])
        facts = {f["name"]: f for f in self.facts("volume", "ls", self.store)}
        self.assertEqual([facts[n]["snapshot"] for n in ("a", "a@one", "b")], [False, True, False])
        self.assertEqual((facts["c"]["bytes"], facts["c"]["durable"]), (16 * MIB, True))
        self.assertEqual(facts["a@one"]["origin"], facts["a"]["id"])
        self.volume("resize", self.store, "a", "512K")
        self.assertEqual(self.facts("volume", "stat", self.store, "a")["bytes"], 512 << 10)
        self.volume("rollback", self.store, "a@one")
        self.volume("export", self.store, "a", self.dir / "back")
        self.assertEqual((self.dir / "back").read_bytes(), image.read_bytes())
        self.refused(1, "volume a: it has snapshots", "volume", "rm", self.store, "a")
        for name in ("b", "a@one", "a"):
            self.volume("rm", self.store, name)
        self.assertEqual(self.names(), ["c"])
        self.volume("checkpoint", self.store)
        self.assertEqual(self.facts("volume", "stat", self.store)["volumes"], 1)
        self.clean()

    def test_life(self):
        self.life()

    def test_life_through_a_daemon(self):
        daemon = self.serve()
        self.life()
        self.stop(daemon)
        self.clean()

    def test_map_and_what_has_changed(self):
        self.make("a", (0, content(2 * BLOCK, 1)), (64 * BLOCK, content(BLOCK, 2)))
        whole = [(0, 2 * BLOCK, "data"), (2 * BLOCK, 62 * BLOCK, "hole"), (64 * BLOCK, BLOCK, "data"), (65 * BLOCK, MIB - 65 * BLOCK, "hole")]
        self.assertEqual(self.extents("map", "a"), whole)
        self.volume("snapshot", self.store, "a@one")
        self.assertEqual(self.extents("diff", "a", "--since", "@one"), [])
        stat = self.facts("volume", "stat", self.store, "a")
        self.assertEqual((stat["data_bytes"], stat["unique_bytes"] + stat["shared_bytes"], stat["extents"]), (3 * BLOCK, 3 * BLOCK, 2))
        self.volume("resize", self.store, "a", str(32 * BLOCK))
        self.volume("resize", self.store, "a", str(MIB))
        generation = self.facts("volume", "ls", self.store)[1]["generation"]
        for since in ("@one", str(generation)):
            self.assertIn((64 * BLOCK, BLOCK), [(max(o, 64 * BLOCK), BLOCK) for o, n, _ in self.extents("diff", "a", "--since", since)
                                                if o <= 64 * BLOCK < o + n])

    def promote(self):
        self.make("a", (0, content(BLOCK, 1)))
        self.volume("snapshot", self.store, "a@one")
        self.volume("clone", self.store, "a@one", "b")
        self.volume("promote", self.store, "b")
        self.assertEqual(sorted(self.names()), ["a", "b", "b@one"])
        self.refused(1, "not a clone", "volume", "promote", self.store, "b")
        self.volume("rm", self.store, "a")

    def test_promote(self):
        self.promote()

    def test_promote_through_a_daemon_that_serves(self):
        daemon = self.serve("--nbd", f"unix:{self.dir}/nbd")
        self.promote()
        self.volume("rm", self.store, "b@one")  # it is served, by that name
        daemon.stdout.readline()
        self.stop(daemon)

    def test_reserved_space(self):
        self.volume("create", self.store, "a", "--size", "4M", "--reserve")
        self.assertTrue(self.facts("volume", "ls", self.store)[0]["reserve"])
        self.assertEqual(self.facts("volume", "stat", self.store, "a")["reserved_bytes"], 4 * MIB)
        self.refused(1, "No space left", "volume", "create", self.store, "b", "--size", "1G", "--reserve")
        self.volume("reserve", self.store, "a", "off")
        self.assertEqual(self.facts("volume", "stat", self.store)["reserved_bytes"], 0)

    def test_scrub(self):
        data = os.urandom(4 * MIB)  # so the first of it is in a sealed segment
        self.make("a", (0, data), size=4 * MIB)
        self.volume("checkpoint", self.store)
        self.assertEqual(self.facts("volume", "scrub", self.store, "a", "--rate", "1G"), [])
        self.flip(data[2 * BLOCK:3 * BLOCK], 100)
        done = quire("volume", "scrub", self.store, "a")
        self.assertEqual((done.returncode, done.stdout), (1, f"{2 * BLOCK}\t{BLOCK}\ta checksum is wrong\n".encode()))
        self.assertEqual(done.stderr, f"quire: a: {BLOCK} bytes are damaged\n".encode())

    def test_over_a_file(self):
        base = self.write("base", content(MIB, 6))
        self.volume("create", self.store, "a", "--over", base)
        self.volume("export", self.store, "a", self.dir / "back")
        self.assertEqual((self.dir / "back").read_bytes(), base.read_bytes())
        self.refused(1, "none", "volume", "create", self.store, "b", "--over", self.dir / "none")

    def test_over_a_blob_and_over_a_volume(self):
        base = self.write("base", content(MIB, 6))
        blob = self.put(base)[0]
        self.volume("create", self.store, "a", "--over", f"blob:{blob}")
        self.volume("snapshot", self.store, "a@one")
        self.volume("create", self.store, "b", "--over", "volume:a@one", "--size", "2M")
        for name, more in (("a", 0), ("b", MIB)):
            self.volume("export", self.store, name, self.dir / name)
            self.assertEqual((self.dir / name).read_bytes(), base.read_bytes() + bytes(more))
        self.assertTrue(self.facts("volume", "ls", self.store)[0]["over"])
        odd = self.write("blob:1", content(BLOCK, 1))  # a file all the same
        self.volume("create", self.store, "c", "--over", "./blob:1", cwd=self.dir)
        self.volume("export", self.store, "c", self.dir / "c")
        self.assertEqual((self.dir / "c").read_bytes(), odd.read_bytes())
        for code, line, words in ((1, f"blob:{blob + 999}: no such blob", (f"blob:{blob + 999}",)), (2, "not blob:ID", ("blob:x",)),
                                  (2, "not blob:ID", ("blob:0",)), (1, "no such volume", ("volume:z",)), (2, "no name", ("volume:",)), (2, "no name", ("volume:.a",)),
                                  (1, "larger than --size", ("volume:b", "--size", "1M")), (2, "--reserve", ("volume:a", "--reserve"))):
            self.refused(code, line, "volume", "create", self.store, "d", "--over", *words)

    @unittest.skipUnless(shutil.which("qemu-io"), "not installed: qemu-io")
    def test_what_two_have_not_in_common(self):
        self.make("a", (0, content(4 * BLOCK, 1)))
        self.volume("snapshot", self.store, "a@one")
        self.volume("clone", self.store, "a@one", "b")
        daemon = self.serve("--nbd", f"unix:{self.dir}/n")
        for name, block in (("a", 1), ("b", 3)):
            subprocess.run(["qemu-io", "-f", "raw", "-c", f"write -P 7 {block * BLOCK} {BLOCK}", f"nbd+unix:///{name}?socket={self.dir}/n"],
                           check=True, capture_output=True, timeout=60)
        one, three = (BLOCK, BLOCK, "data"), (3 * BLOCK, BLOCK, "data")
        for words, want in ((("a@one", "a"), [one]), (("a", "a@one"), [one]), (("a@one", "b"), [three]), (("a", "b"), [one, three]),
                            (("a", "a"), [])):
            self.assertEqual(self.extents("diff", *words), want, words)
        text = self.volume("diff", self.store, "a@one", "b").decode().split("\t")
        self.assertEqual(text[:4], [str(3 * BLOCK), str(BLOCK), "data", "own"])
        self.stop_serving(daemon)

    def stop_serving(self, daemon):
        daemon.stdout.readline()  # where it serves
        self.stop(daemon)

    def cut_off(self):
        """A stream is received in three parts, each the rest of what was cut off."""
        self.make("a", (0, os.urandom(3 * MIB)), size=4 * MIB)
        self.volume("snapshot", self.store, "a@one")
        first = self.volume("send", self.store, "a@one")
        self.refused(1, "nothing of a stream", "volume", "receive", self.store, "b", "--token")
        done = quire("volume", "receive", self.store, "b", input=first[:len(first) // 2])
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"--token", done.stderr)
        self.assertEqual([f["partial"] for f in self.facts("volume", "ls", self.store)], [False, False, True])
        token = self.volume("receive", self.store, "b", "--token").decode().strip()
        self.assertEqual(self.facts("volume", "receive", self.store, "b", "--token"), {"token": token})
        rest = self.volume("send", self.store, "a@one", "--resume", token)
        self.assertLess(len(rest), len(first))
        self.volume("receive", self.store, "b", input=rest)
        self.assertEqual(self.extents("diff", "a@one", "b@one"), [e for e in self.extents("map", "a") if e[2] != "hole"])
        for name in ("a", "b"):
            self.volume("export", self.store, f"{name}@one", self.dir / name)
        self.assertEqual((self.dir / "a").read_bytes(), (self.dir / "b").read_bytes())
        self.refused(1, "token", "volume", "send", self.store, "a@one", "--resume", token[:-1])
        self.volume("snapshot", self.store, "a@two")
        self.refused(1, "another stream", "volume", "send", self.store, "a@two", "--resume", token)

    def test_a_stream_that_is_cut_off(self):
        self.cut_off()

    def test_a_stream_that_is_cut_off_through_a_daemon(self):
        daemon = self.serve()
        self.cut_off()
        self.stop(daemon)

    def test_what_was_cut_off_is_neither_served_nor_in_the_way(self):
        self.make("a", (0, content(BLOCK, 1)))
        self.volume("snapshot", self.store, "a@one")
        stream = self.volume("send", self.store, "a@one")
        self.assertEqual(quire("volume", "receive", self.store, "b", input=stream[:-1]).returncode, 1)
        self.assertEqual(self.names(), ["a", "a@one", ".b"])
        self.stop_serving(self.serve("--nbd", f"unix:{self.dir}/n"))
        self.volume("rm", self.store, ".b")
        self.assertEqual(self.names(), ["a", "a@one"])

    def test_send_and_receive(self):
        image = self.make("a", (0, content(8 * BLOCK, 1)))
        self.volume("snapshot", self.store, "a@one")
        self.volume("snapshot", self.store, "a@two")
        whole, more = (self.good("volume", "send", self.store, *words) for words in (("a@one",), ("a@two", "--from", "a@one")))
        self.volume("receive", self.store, "b", input=whole)
        self.volume("receive", self.store, "b", input=more)
        self.assertEqual(sorted(n for n in self.names() if n[0] == "b"), ["b", "b@one", "b@two"])
        self.volume("export", self.store, "b@two", self.dir / "back")
        self.assertEqual((self.dir / "back").read_bytes(), image.read_bytes())
        done = quire("volume", "receive", self.store, "c", input=whole[:-100])
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.refused(1, "no such", "volume", "send", self.store, "a@three")

    def test_a_class_that_is_not_there(self):
        self.refused(1, "the store has no class pmem", "volume", "create", self.store, "a", "--size", "1M", "--class", "pmem")

    def test_where_there_was_never_one(self):
        self.assertEqual((self.names(), self.facts("volume", "ls", self.store)), ([], []))
        self.refused(1, "no volumes", "volume", "stat", self.store)
        self.refused(1, "volume a: no such volume", "volume", "map", self.store, "a")


class Classes(Volumes):
    """Volumes of several classes of a store, by one daemon."""
    def setUp(self):
        super().setUp()
        self.good("class", "add", self.store, "staging", "--size", "32M")
        self.make("a", (0, content(BLOCK, 1)))
        image = self.write("other", content(MIB, 2))
        for name in ("a", "s"):
            self.volume("import", self.store, name, image, "--class", "staging")

    def exports(self, *words):
        daemon = self.serve(*words, "--nbd", f"unix:{self.dir}/n")
        daemon.stdout.readline()
        return daemon

    def listed(self):
        out = subprocess.run(["nbdinfo", "--list", "--json", f"nbd+unix:///?socket={self.dir}/n"], check=True, capture_output=True, timeout=60)
        return sorted(e["export-name"] for e in json.loads(out.stdout)["exports"])

    @unittest.skipUnless(shutil.which("nbdinfo"), "not installed: nbdinfo")
    def test_names(self):
        for words, want in (((), ["a", "staging:a", "staging:s"]), (("--class", "staging"), ["a", "s"]),
                            (("--class", "staging", "--class", "capacity"), ["a", "staging:a", "staging:s"]),
                            (("a", "staging:s"), ["a", "staging:s"]), (("--class", "staging", "s"), ["s"])):
            daemon = self.exports(*words)
            self.assertEqual(self.listed(), want, words)
            self.stop(daemon)

    @unittest.skipUnless(shutil.which("nbdinfo"), "not installed: nbdinfo")
    def test_those_that_come_and_go(self):
        daemon = self.exports()
        self.volume("create", self.store, "b", "--size", "1M", "--class", "staging")
        self.volume("rm", self.store, "s", "--class", "staging")
        self.volume("snapshot", self.store, "a@one")
        self.assertEqual(self.listed(), ["a", "a@one", "staging:a", "staging:b"])
        self.stop(daemon)

    def test_what_a_daemon_is_asked_makes_nothing(self):
        empty = self.dir / "empty"
        self.good("init", empty, "--capacity", "32M")
        daemon = self.started("serve", empty, "--nbd", f"unix:{self.dir}/n")
        daemon.stdout.readline()
        before = self.facts("stat", empty)["classes"]["capacity"]["used_bytes"]
        self.assertEqual(self.facts("volume", "ls", empty), [])
        self.refused(1, "no volumes", "volume", "stat", empty)
        self.refused(1, "no such volume", "volume", "rm", empty, "a")
        self.assertEqual(self.facts("stat", empty)["classes"]["capacity"]["used_bytes"], before)
        self.volume("create", empty, "a", "--size", "1M")
        self.assertGreater(self.facts("stat", empty)["classes"]["capacity"]["used_bytes"], before)

    def test_a_damaged_checkpoint_is_that_of_its_class_alone(self):
        for one, other in (("capacity", "staging"), ("staging", "capacity")):
            for cls in (one, other):
                self.volume("checkpoint", self.store, "--class", cls)
            path = self.store / one
            whole = path.read_bytes()
            path.write_bytes(whole.replace(b"QuireVol", b"QuireVoL"))
            self.refused(1, "volumes: their checkpoint: Bad message", "volume", "stat", self.store, "--class", one)
            self.volume("scrub", self.store, "a", "--class", other)
            path.write_bytes(whole)
            self.volume("scrub", self.store, "a", "--class", one)

    def test_words(self):
        for code, line, words in ((1, "no class", ("tape:a",)), (1, "volume b", ("staging:b",)), (1, "no class pmem", ("--class", "pmem")),
                                  (1, "no volumes of class capacity", ("--class", "staging", "capacity:a"))):
            self.refused(code, line, "serve", self.store, "--nbd", f"unix:{self.dir}/n", *words)


class Images(Volumes):
    def test_holes_are_kept(self):
        image = self.make("a", (16 * BLOCK, content(BLOCK, 3)), (40 * BLOCK, bytes(BLOCK)), size=8 * MIB)
        self.assertEqual([e for e in self.extents("map", "a") if e[2] != "hole"], [(16 * BLOCK, BLOCK, "data")])
        back = self.dir / "back"
        self.volume("export", self.store, "a", back)
        self.assertEqual(back.read_bytes(), image.read_bytes())
        self.assertLess(os.stat(back).st_blocks * 512, MIB)

    def test_an_odd_end_becomes_a_whole_block(self):
        self.make("a", (0, b"x" * 5000), size=5000)
        self.volume("export", self.store, "a", self.dir / "back")
        self.assertEqual((self.dir / "back").read_bytes(), b"x" * 5000 + bytes(2 * BLOCK - 5000))

    @unittest.skipUnless(shutil.which("qemu-img"), "not installed: qemu-img")
    def test_other_images_by_qemu_img(self):
        image = self.dir / "i"
        image.write_bytes(content(MIB, 4) + bytes(MIB))
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, self.dir / "i.qcow2"], check=True, timeout=60)
        daemon = self.serve()
        self.volume("import", self.store, "q", self.dir / "i.qcow2", "--format", "qcow2")
        self.stop(daemon)
        self.assertEqual(self.extents("map", "q"), [(0, MIB, "data"), (MIB, MIB, "hole")])
        self.good("volume", "export", self.store, "q", "out.vmdk", "--format", "vmdk", cwd=self.dir)
        same = subprocess.run(["qemu-img", "compare", image, self.dir / "out.vmdk"], capture_output=True, timeout=60, check=False)
        self.assertEqual((same.returncode, same.stdout), (0, b"Images are identical.\n"))
        self.refused(1, "not in qcow2 format", "volume", "import", self.store, "r", image, "--format", "qcow2")
        self.refused(1, "Unknown file format", "volume", "export", self.store, "q", self.dir / "o", "--format", "nonsense")
        self.assertEqual(self.names(), ["q"])
        self.assertFalse((self.dir / "o").exists())

    def test_without_qemu_img(self):
        self.volume("create", self.store, "a", "--size", "1M")
        done = quire("volume", "export", self.store, "a", self.dir / "o", "--format", "qcow2", env={"PATH": "/nonexistent"})
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"quire: qemu-img: not installed", done.stderr)
        self.assertFalse((self.dir / "o").exists())

    def test_what_cannot_be_an_image(self):
        self.volume("create", self.store, "a", "--size", "1M")
        (self.dir / "empty").touch()
        there = self.write("there", b"mine")
        for line, words in (("No such file", ("import", self.store, "b", self.dir / "none")),
                            ("Is a directory", ("import", self.store, "b", self.dir)),
                            ("No data", ("import", self.store, "b", self.dir / "empty")),
                            ("it is there already", ("import", self.store, "a", there)),
                            ("File exists", ("export", self.store, "a", there)),
                            ("no such volume", ("export", self.store, "b", self.dir / "out"))):
            self.refused(1, line, "volume", *words)
        self.assertEqual((there.read_bytes(), self.names()), (b"mine", ["a"]))
        self.assertFalse((self.dir / "out").exists())

    def test_one_that_has_no_room_leaves_nothing(self):
        big = self.dir / "big"
        with open(big, "wb") as file:
            for i in range(40):
                file.write(content(BLOCK, i) * 256)
        self.refused(1, "No space left", "volume", "import", self.store, "a", big)
        self.assertEqual(self.names(), [])


class Refused(Volumes):
    def test_words(self):
        s = self.store
        for line, words in (("create, ls, rm", ()), ("create, ls, rm", ("nonsense", s)), ("which store?", ("ls",)),
                            ("--size of how many bytes?", ("create", s, "a")), ("not a size of a volume", ("create", s, "a", "--size", "5000")),
                            ("not a size of a volume", ("create", s, "a", "--size", "128T")), ("no name of a volume", ("create", s, ".a", "--size", "1M")),
                            ("no name of a volume", ("create", s, "a@b", "--size", "1M")), ("no name of a volume", ("rm", s, "a@")),
                            ("no name of a volume", ("create", s, "x" * 64, "--size", "1M")), ("not VOLUME@SNAPSHOT", ("snapshot", s, "a")),
                            ("not VOLUME@SNAPSHOT", ("rollback", s, "@a")), ("no name of a volume", ("clone", s, "a", "b@c")),
                            ("--since which generation", ("diff", s, "a")), ("two volumes", ("diff", s, "a", "b", "--since", "1")),
                            ("with --token", ("receive", s, "a", "--json")), ("no name of a volume", ("diff", s, "a", "b@")), ("neither a generation", ("diff", s, "a", "--since", "x")),
                            ("no option of ls", ("ls", s, "--durable")), ("no class", ("ls", s, "--class", "tape")),
                            ("words behind", ("clone", s, "a")), ("words behind", ("ls", s, "a")), ("neither on nor off", ("reserve", s, "a", "x")), ("not a number", ("scrub", s, "a", "--rate", "x")), ("such option", ("ls", s, "--nonsense"))):
            self.refused(2, line, "volume", *words)

    def test_what_is_not_there(self):
        self.volume("create", self.store, "a", "--size", "1M")
        for line, words in (("volume b: no such volume", ("rm", "b")), ("no such", ("snapshot", "b@c")), ("no such", ("clone", "b", "c")),
                            ("no such", ("rollback", "a@b")), ("no such", ("resize", "b", "1M")), ("no such", ("stat", "b")),
                            ("no such", ("map", "b")), ("volume a@b: no such", ("diff", "a", "--since", "@b")),
                            ("volume a: it is there already", ("create", "a", "--size", "1M"))):
            self.refused(1, line, "volume", words[0], self.store, *words[1:])

    def test_serving_what_is_not_there(self):
        self.volume("create", self.store, "a", "--size", "1M")
        for code, line, words in ((1, "volume b", (self.store, "--nbd", f"unix:{self.dir}/n", "b")),
                                  (1, "No such file", (self.store, "--nbd", f"unix:{self.dir}/no/n")),
                                  (2, "no store", (self.store, "--nbd", f"unix:{self.dir}/n", "--memory", "1M")),
                                  (2, "no class", (self.store, "--nbd", f"unix:{self.dir}/n", "--class", "tape")),
                                  (2, "256 KiB", (self.store, "--nbd", f"unix:{self.dir}/n", "--map-bytes", "4K")),
                                  (2, "which store", ("--nbd", f"unix:{self.dir}/n", "--memory", "1M", "--class", "pmem")),
                                  (2, "have names", (self.store, "--nbd", f"unix:{self.dir}/n", "--name", "x"))):
            self.refused(code, line, "serve", *words)
        self.assertEqual(self.names(), ["a"])


if __name__ == "__main__":
    unittest.main()
