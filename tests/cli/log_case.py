"""A store with a log: what tests of the verbs of logs begin with. The command is the first argument of the program."""
import json

from store_case import WithStore


def lines(n, prefix="line", begin=0):
    return b"".join(b"%s %d\n" % (prefix.encode(), i) for i in range(begin, begin + n))


class WithLog(WithStore):
    """A log `l` of small segments."""
    served = False

    def setUp(self):
        super().setUp()
        self.good("log", "create", self.store, "l", "--segment-size", "64K")

    def append(self, content, *words, name="l"):
        return self.good("log", "append", self.store, name, *words, input=content)

    def cat(self, *words, name="l"):
        return self.good("log", "cat", self.store, name, *words)

    def records(self, *words, name="l"):
        return [json.loads(line) for line in self.cat("--json", *words, name=name).splitlines()]

    def about(self, name="l"):
        return self.facts("log", "stat", self.store, name)

    def begin_append(self, *words, name="l"):
        child = self.started("log", "append", self.store, name, *words)
        return child

    def feed(self, child, content):
        child.stdin.write(content)
        child.stdin.flush()

    def begin_follow(self, *words, name="l"):
        return self.started("log", "follow", self.store, name, *words)


class ByDaemon:
    """Before a WithLog: the same through a daemon."""
    served = True

    def setUp(self):
        super().setUp()
        self.daemon = self.serve()

    def tearDown(self):
        if self.daemon.poll() is None:
            self.stop(self.daemon)
        super().tearDown()
