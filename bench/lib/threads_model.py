"""What many CPUs would do, from what few were seen to do: docs/scaling.md says why, and what is assumed.

A closed network of queues: each CPU works for a while by itself, then needs some cache lines and locks that others need
too, one CPU at a time. Solved exactly, by mean value analysis.
"""

NEAR_CPUS = 8       # that share a cache: among these a line travels as was measured here
FAR_NS = 220        # between others, or as measured if that is more
TARGETS_AT_ONCE = 16  # CPUs that one who evicts interrupts in the time that was measured for one
BATCH = 64          # pages that leave with one interrupt
N_SHARDS = 8
SHARD_NS = 200      # of work under a shard's lock, a miss: an entry made, an entry taken
LRU_NS = 65         # the same of the kernel's list of pages, whose lock is taken for some thirty at a time

# Times that a miss changes a line which all threads change.
GATE = 4            # a range's: the operation and the fill, in and out
FIGURES = 6         # a range's: fills, evictions; resident and unverified, up and down
BUDGET = 2          # the sum and the kind; batches of evictions hardly count
COUNTERS = 1        # the cache's
VMA = 2             # the kernel's count of those who use the one mapping
SHARD = 4           # its lock, its queues, its figures twice: but an eighth of all pages each
STREAMS = 1         # who reads in order: one line of eight


def transfer_ns(costs, n):
    """Until a line is there that any of n CPUs, the one that needs it among them, had last."""
    if n == 1:
        return 0.0
    near = min(1.0, (NEAR_CPUS - 1) / (n - 1))
    here = costs["transfer_ns"]
    return (near * here + (1 - near) * max(here, FAR_NS)) * (n - 1) / n


def miss_stations(costs, n):
    line = transfer_ns(costs, n)
    shards = {f"shard {i}": (SHARD_NS + (SHARD + STREAMS) * line) / N_SHARDS for i in range(N_SHARDS)}
    return {"range's gate": GATE * line, "range's figures": FIGURES * line, "budget": BUDGET * line,
            "cache's counters": COUNTERS * line, "mapping": VMA * line, "kernel's page list": LRU_NS, **shards}


def interrupt_ns(costs, n):
    """Of all CPUs together, for each page that leaves."""
    if n == 1:
        return 0.0
    wait = max(0.0, costs["drop_ipi_ns"] - costs["drop_ns"])
    return (wait * (1 + (n - 2) / TARGETS_AT_ONCE) + (n - 1) * costs["ipi_ns"]) / BATCH


def throughput(n, alone_ns, stations):
    """A second, of n CPUs, and which station has the longest demand. alone_ns: of one CPU by itself, all included."""
    think = max(0.0, alone_ns)
    queues = dict.fromkeys(stations, 0.0)
    for customers in range(1, n + 1):
        waits = {name: demand * (1 + queues[name]) for name, demand in stations.items()}
        rate = customers / (think + sum(waits.values()))
        queues = {name: rate * wait for name, wait in waits.items()}
    return rate * 1e9, max(stations, key=stations.get)


def want(costs, n):
    """Of pages that are there: nothing is shared."""
    return n * 1e9 / costs["want_own_ns"]


def want_counted_in_one_place(costs, n):
    """Were all hits of a map counted in one place."""
    return throughput(n, costs["want_own_ns"], {"the counter": transfer_ns(costs, n)})[0]


def miss(costs, n, alone_ns):
    """alone_ns: CPU time of a miss where one thread runs, which holds the work under locks."""
    work = SHARD_NS + LRU_NS
    return throughput(n, alone_ns - work + interrupt_ns(costs, n), miss_stations(costs, n))
