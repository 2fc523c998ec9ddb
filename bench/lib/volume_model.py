#!/usr/bin/python3
"""volume_model.py - what cleaning must write at the least, by a model of it that has no costs of its own; or with some: run, it prints the table of these.

A log of segments holds blocks and nothing else: no heads, no map, no store. A volume is some part of it, written in order, then overwritten at random. When the
last segment but one is taken the emptiest one is cleaned: what is live in it is written to the log's end. Nothing that cleans by whole segments, and doesn't know what will be
overwritten next, writes less for uniform load; where some blocks are hot, who keeps those apart can.

Costs: a head before each so many blocks, dead from the beginning; and segments that are kept free.
"""
import random

SEGMENTS = 256
BLOCKS = 64  # of a segment
FREE = 2  # of segments: with one less, cleaning begins


class Log:
    def __init__(self, per_head=None, kept=0):
        self.live = [0] * SEGMENTS
        self.blocks = [[] for _ in range(SEGMENTS)]
        self.free = list(range(1, SEGMENTS))
        self.at, self.where, self.written = 0, {}, 0
        self.per_head, self.least_free = per_head, FREE + kept

    def take(self, block):
        if len(self.blocks[self.at]) == BLOCKS:
            self.at = self.free.pop()
        self.blocks[self.at].append(block)
        self.written += 1

    def put(self, block):
        if self.per_head and self.written % (self.per_head + 1) == 0:
            self.take(None)
        self.take(block)
        if block in self.where:
            self.live[self.where[block]] -= 1
        self.where[block] = self.at
        self.live[self.at] += 1

    def clean(self):
        """Until there is a segment more than those that cleaning itself may need."""
        while len(self.free) < self.least_free:
            victim = min((s for s in range(SEGMENTS) if s != self.at and s not in self.free), key=lambda s: self.live[s])
            for block in self.blocks[victim]:
                if block is not None and self.where[block] == victim:
                    self.put(block)
            self.blocks[victim] = []
            self.free.append(victim)


def amplification(part, times, hot=None, **costs):
    """Bytes written for each of the client's: a volume of `part` of the log, overwritten so many times; hot (0.8, 0.2): so much of the load goes to the first
    so much of the volume."""
    log, chance, n = Log(**costs), random.Random(1), int(SEGMENTS * BLOCKS * part)
    for block in range(n):
        log.put(block)
    log.written = 0
    for _ in range(int(times * n)):
        log.clean()
        edge = int(n * hot[1]) if hot else n
        log.put(chance.randrange(edge) if not hot or chance.random() < hot[0] else chance.randrange(edge, n))
    return log.written / int(times * n)


if __name__ == "__main__":
    print(f"{'80 % full, overwritten twice':50}uniform   80/20")
    for per_head, kept in (None, 0), (200, 0), (30, 0), (30, 2), (30, 4), (15, 4):
        what = f"a head for {per_head} blocks, {kept} of {SEGMENTS} segments kept" if per_head else "no costs"
        print(f"{what:50}{amplification(0.8, 2, per_head=per_head, kept=kept):7.2f}{amplification(0.8, 2, (0.8, 0.2), per_head=per_head, kept=kept):8.2f}", flush=True)
