#!/usr/bin/python3
"""daemon_test.py QUIRE - who holds a store, and what a daemon must outlive."""
import contextlib
import os
import pathlib
import select
import signal
import socket
import stat
import time
import unittest

from store_case import WithStore, quire


class Daemon(WithStore):
    FORBIDDEN = 1 << 7 | 1 << 12 | 1 << 16 | 1 << 17 | 1 << 21 | 1 << 22  # SETUID, NET_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_ADMIN, SYS_BOOT

    def setUp(self):
        super().setUp()
        self.daemon = self.serve()

    def test_only_its_user_may_speak(self):
        mode = os.stat(self.store / "control").st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_it_gives_up_what_it_has_no_use_for(self):
        """Each of its threads: new privileges, root's capabilities, system calls that change the machine."""
        self.put(self.write("a", b"a"))  # a caller's thread has been
        for task in pathlib.Path(f"/proc/{self.daemon.pid}/task").iterdir():
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            self.assertEqual(status["NoNewPrivs"].strip(), "1")
            self.assertEqual(status["Seccomp"].strip(), "2")
            for kind in "CapPrm", "CapEff", "CapInh":
                self.assertEqual(int(status[kind], 16) & self.FORBIDDEN, 0, kind)
            if os.geteuid() == 0:
                self.assertEqual(int(status["CapBnd"], 16) & self.FORBIDDEN, 0)

    def test_one_holder(self):
        self.refused(1, f"held by process {self.daemon.pid}", "serve", self.store)
        self.refused(1, f"held by process {self.daemon.pid}", "rename", self.store, self.dir / "t")
        self.refused(1, "", "init", self.store)
        self.assertEqual(self.ids(), [])

    def test_dead_daemon_s_socket_is_no_obstacle(self):
        content = os.urandom(10000)
        id_, = self.put(self.write("a", content))
        self.daemon.kill()
        self.daemon.wait()
        self.assertTrue((self.store / "control").exists())
        self.assertTrue(self.good("blob", "get", self.store, id_) == content)
        self.put(self.write("b", b"b"))
        self.clean()
        second = self.serve()
        self.assertEqual(len(self.ids()), 2)
        self.stop(second)

    def n_open(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def dial(self):
        s = socket.socket(socket.AF_UNIX)
        self.addCleanup(s.close)
        s.settimeout(60)
        s.connect(str(self.store / "control"))
        return s

    def test_nonsense_is_dropped(self):
        words = b"blob\0ls\0" + bytes(self.store) + b"\0"
        n_open = self.n_open()
        for garbage in (b"", b"x", b"GET / HTTP/1.0\r\n\r\n", os.urandom(16), os.urandom(100000), b"\xff" * 64,
                        bytes(1000), words):
            with self.subTest(garbage=garbage[:20]), contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s = self.dial()
                s.sendall(garbage)
                s.shutdown(socket.SHUT_WR)
                s.recv(1 << 16)
                s.close()
        self.assertEqual(self.ids(), [])
        self.until(lambda: self.n_open() <= n_open)

    def header(self):
        """What a real client sends, overheard by a socket that stands in for the daemon's."""
        spare = self.dir / "spare"
        spare.mkdir()
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(spare / "control"))
        listener.listen()
        client = self.started("blob", "ls", spare)
        s, _ = listener.accept()
        self.addCleanup(s.close)
        data, fds, _, _ = socket.recv_fds(s, 1 << 16, 16)
        for fd in fds:
            os.close(fd)
        while not data.endswith(b"blob\0ls\0" + bytes(spare) + b"\0"):
            more = s.recv(1 << 16)
            self.assertTrue(more)
            data += more
        s.close()
        out, err = client.communicate(timeout=60)
        self.assertEqual((client.returncode, out, err.count(b"\n")), (1, b"", 1))
        return data[:-len(b"blob\0ls\0" + bytes(spare) + b"\0")]

    def test_requests_with_any_byte_of_the_header_wrong(self):
        header = self.header()
        words = b"blob\0ls\0" + bytes(self.dir / "spare") + b"\0"
        null = os.open("/dev/null", os.O_RDWR)
        self.addCleanup(os.close, null)
        here = os.open(self.dir, os.O_RDONLY)
        self.addCleanup(os.close, here)
        n_open = self.n_open()

        def send(request, fds):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s = self.dial()
                socket.send_fds(s, [request], fds)
                s.shutdown(socket.SHUT_WR)
                s.recv(1 << 16)
                s.close()
        good = [null, null, null, here]
        for at in range(len(header)):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                send(header[:at] + bytes([value]) + header[at + 1:] + words, good)
        for fds in ([], [null], good[:3], good + [null], good * 4):
            send(header + words, fds)
        send(header + words[:-1] + b"x", good)
        send(header + words[:-3], good)
        send(header + b"\0" * len(words), good)
        self.assertEqual(self.ids(), [])
        self.until(lambda: self.ids() == [] and self.n_open() <= n_open)

    def test_silent_callers_are_no_obstacle_to_its_end(self):
        silent = [self.dial() for _ in range(5)]
        self.assertEqual(self.ids(), [])
        start = time.monotonic()
        self.stop(self.daemon)
        self.assertLess(time.monotonic() - start, 5)
        del silent

    def test_more_callers_than_it_runs_at_once_wait(self):
        self.stop(self.daemon)
        self.daemon = self.serve("--callers", 4)
        clients = [self.started("blob", "put", self.store, "-") for _ in range(20)]
        for i, client in enumerate(clients):
            client.stdin.write(b"%d" % i)
            client.stdin.close() # who is heard first, nobody knows: so none waits for another's end
        for i, client in enumerate(clients):
            self.assertEqual((client.wait(60), client.stderr.read()), (0, b""), i)
        self.assertEqual(len(self.ids()), 20)

    def began(self):
        """A verb that waits for its input, and its input."""
        client = self.started("blob", "put", self.store, "-")
        client.stdin.write(bytes(2 << 20))
        client.stdin.flush()
        self.until(lambda: self.facts("stat", self.store)["uncommitted"] == 1)
        return client

    def test_killed_client_s_verb_ends(self):
        client = self.began()
        client.kill()
        self.until(lambda: self.facts("stat", self.store)["uncommitted"] == 0)
        self.assertEqual(self.ids(), [])
        self.stop(self.daemon)
        self.clean()

    def test_killed_client_whose_output_nobody_reads(self):
        id_, = self.put(self.write("a", os.urandom(4 << 20)))
        client = self.started("blob", "get", self.store, id_)
        select.select([client.stdout], [], [], 60)
        client.kill()
        client.wait()
        self.stop(self.daemon)

    def test_its_end_cancels_what_is_under_way(self):
        client = self.began()
        self.stop(self.daemon)
        self.assertEqual(client.wait(60), 1)
        self.assertRegex(client.stderr.read(), b"^quire: [^\n]+\n$")
        self.assertEqual(self.ids(), [])
        self.clean()

    def test_killed_daemon_is_told_to_its_client(self):
        client = self.began()
        self.daemon.kill()
        self.assertEqual(client.wait(60), 1)
        self.assertRegex(client.stderr.read(), b"^quire: [^\n]+\n$")
        self.assertEqual(self.ids(), [])
        self.clean()

    def test_stopped_daemon_goes_on(self):
        self.daemon.send_signal(signal.SIGSTOP)
        client = self.started("blob", "put", self.store, "-")
        client.stdin.write(b"later")
        client.stdin.close()
        self.daemon.send_signal(signal.SIGCONT)
        self.assertEqual(client.wait(60), 0)
        self.assertEqual(self.good("blob", "get", self.store, int(client.stdout.read())), b"later")

    def test_readers_and_a_writer_at_once(self):
        slow = self.began()
        quick, = self.put(self.write("quick", b"quick"))
        self.clean()
        self.assertEqual(self.ids(), [quick])
        slow.stdin.close()
        self.assertEqual(slow.wait(60), 0)
        self.assertEqual(len(self.ids()), 2)

    def tearDown(self):
        if self.daemon.poll() is None:
            self.stop(self.daemon)
        super().tearDown()


class Held(WithStore):
    """Another process writes, and does not serve."""
    def test_writers_are_told_who(self):
        old, = self.put(self.write("a", b"old"))
        holder = self.started("blob", "put", self.store, "-")
        holder.stdin.write(bytes(2 << 20))
        holder.stdin.flush()
        a = self.dir / "a"
        for words in (["blob", "put", self.store, a], ["blob", "rm", self.store, old], ["check", self.store],
                      ["class", "add", self.store, "pmem", "--size", "4M"], ["serve", self.store]):
            self.refused(1, f"held by process {holder.pid}", *words)
        self.assertEqual(self.good("blob", "get", self.store, old), b"old")
        self.assertEqual(self.ids(), [old])
        holder.stdin.close()
        self.assertEqual(holder.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
