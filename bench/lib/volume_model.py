"""What cleaning must write at the least, by a model of it that has no costs of its own: docs/performance.md says what comes on top.

A log of segments holds blocks and nothing else: no heads, no map, no store. A volume is some part of it, written in order, then overwritten at random. When the
last segment but one is taken the emptiest one is cleaned: what is live in it is written to the log's end. Nothing that cleans by whole segments, and doesn't know what will be
overwritten next, writes less for uniform load; where some blocks are hot, who keeps those apart can.
"""
import random

SEGMENTS = 256
BLOCKS = 64  # of a segment


class Log:
    def __init__(self):
        self.live = [0] * SEGMENTS
        self.blocks = [[] for _ in range(SEGMENTS)]
        self.free = list(range(1, SEGMENTS))
        self.at, self.where, self.written = 0, {}, 0

    def put(self, block):
        if len(self.blocks[self.at]) == BLOCKS:
            self.at = self.free.pop()
        if block in self.where:
            self.live[self.where[block]] -= 1
        self.where[block] = self.at
        self.live[self.at] += 1
        self.blocks[self.at].append(block)
        self.written += 1

    def clean(self):
        """Until there is a segment more than the one that cleaning itself may need."""
        while len(self.free) < 2:
            victim = min((s for s in range(SEGMENTS) if s != self.at and s not in self.free), key=lambda s: self.live[s])
            for block in self.blocks[victim]:
                if self.where[block] == victim:
                    self.put(block)
            self.blocks[victim] = []
            self.free.append(victim)


def amplification(part, times, hot=None):
    """Bytes written for each of the client's: a volume of `part` of the log, overwritten so many times; hot (0.8, 0.2): so much of the load goes to the first
    so much of the volume."""
    log, chance, n = Log(), random.Random(1), int(SEGMENTS * BLOCKS * part)
    for block in range(n):
        log.put(block)
    log.written = 0
    for _ in range(int(times * n)):
        log.clean()
        edge = int(n * hot[1]) if hot else n
        log.put(chance.randrange(edge) if not hot or chance.random() < hot[0] else chance.randrange(edge, n))
    return log.written / int(times * n)
