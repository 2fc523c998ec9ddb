"""threads: hits and misses of 1 to 64 threads on one map and on one mmap, what sharing costs, and what 64 CPUs would do.

Every page is checked, as in map-miss. Kinds:

  mmap-hit, quire-hit    random pages, all resident; Quire's thread looks at the page's word, then loads
  quire-want             the same, each page wanted first
  mmap-miss, quire-miss  random pages of a file four times as large as the memory; each of Quire's threads has a loop,
                         and 128 pages under way are shared out among them, four each at least
  quire-fill             as quire-miss, of a file that is in the kernel's page cache: no device is in the way

*CPU* is the time of all threads by access, or by miss: where there are more threads than CPUs it says what sharing costs, as
time does not. TLB interrupts are those of the whole machine. The model, threads_model.py, takes what was
measured with one thread; docs/scaling.md has its assumptions.
"""
import json
import os

import machine
import map_miss
import threads_model as model
from report import median, ratio, row

FLOORS = {}
THREADS = (1, 2, 4, 16, 64)
HITS = ("mmap-hit", "quire-hit", "quire-want")
MISSES = ("mmap-miss", "quire-miss", "quire-fill")
MODEL_CPUS = (1, 2, 4, 16, 64)


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-threads"])
    size = (512 if quick else 1024) << 20
    rounds, seconds = (1, 0.3) if quick else (3, 2)
    path = map_miss.prepare(map_miss.QUICK_BYTES)
    samples, costs = {}, []
    for number in range(rounds):
        machine.say(f"round {number + 1} of {rounds}: costs")
        costs.append(json.loads(machine.command([build / "bench" / "bench-threads", "--file", path, "costs"])))
        for kind in HITS + MISSES:
            for n in THREADS:
                prepare(path, size, kind, n)
                machine.say(f"round {number + 1} of {rounds}: {kind}, {n} threads")
                samples.setdefault((kind, n), []).append(one(build, path, size, seconds, kind, n))
    machine.drop_cache(path)
    machine.say_done()
    return summarise(samples, costs)


def prepare(path, size, kind, n):
    """What an earlier run has left in the kernel's page cache is no start for a run that misses."""
    if kind != "quire-fill":
        machine.drop_cache(path)
    elif n == THREADS[0]:
        with open(path, "rb") as file:
            while file.tell() < size and file.read(1 << 20):
                pass


def one(build, path, size, seconds, kind, n):
    out, _ = machine.capped(build, size // 4, [
        build / "bench" / "bench-threads", "--file", path, "--bytes", size, "--memory", size // 4,
        "--seconds", seconds, "--threads", n, kind])
    sample = json.loads(out)
    if sample["wrong"]:
        raise machine.Failed(f"{kind}, {n} threads: {sample['wrong']} wrong pages")
    if kind in MISSES and sample["misses"] == 0:
        raise machine.Failed(f"{kind}, {n} threads: no misses: somebody else keeps {path} in memory")
    per = sample["accesses"] if kind in HITS else sample["misses"]
    sample["per_second"] = per / sample["seconds"]
    sample["cpu_ns"] = sample["cpu_seconds"] * 1e9 / max(per, 1)
    sample["tlb_per_1000"] = sample["tlb"] * 1000 / max(sample["evictions"], 1)
    return sample


def summarise(samples, costs):
    def of(kind, n, key):
        return median([s[key] for s in samples[kind, n]])

    rows = []
    for kind, n in samples:
        name, what = f"{kind}, {n} thread{'s' if n > 1 else ''}", "accesses" if kind in HITS else "misses"
        rows += [row(name, what, of(kind, n, "per_second"), "1/s"), row(name, "CPU", of(kind, n, "cpu_ns"), "ns")]
        if kind in MISSES:
            rows.append(row(name, "TLB interrupts", of(kind, n, "tlb_per_1000"), "per 1000 evictions"))
    known = {key: measured(costs, key) for key in ("alone_ns", "add_ns", "transfer_ns", "lock_alone_ns", "lock_ns",
                                                   "drop_ns", "drop_ipi_ns", "ipi_ns",
                                                   "want_ns", "want_own_ns", "want_shared_ns")}
    rows += [row("cost", name, value, "ns" if value is not None else "not measured: one CPU, or others use it")
             for name, value in known.items()]
    ratios = {}
    for n in THREADS:
        ratios[f"hit_{n}threads_over_mmap"] = ratio(of("quire-hit", n, "per_second"), of("mmap-hit", n, "per_second"))
        ratios[f"miss_{n}threads_over_mmap"] = ratio(of("quire-miss", n, "per_second"), of("mmap-miss", n, "per_second"))
    for kind in ("quire-hit", "quire-want", "quire-fill"):
        ratios[f"{kind.removeprefix('quire-')}_2threads_over_1"] = ratio(of(kind, 2, "per_second"), of(kind, 1, "per_second"))
    if known["want_own_ns"] and known["want_shared_ns"]:
        ratios["want_shared_over_own"] = ratio(known["want_own_ns"], known["want_shared_ns"])
    if all(known[key] is not None for key in ("transfer_ns", "drop_ns", "drop_ipi_ns", "ipi_ns", "want_own_ns")):
        predicted(rows, ratios, known, of)
    else:
        rows.append(row("model", "no figures: costs are missing", None, ""))
    return rows, ratios


def measured(costs, key):
    values = [c[key] for c in costs if c.get(key) is not None]
    return median(values) if values else None


def predicted(rows, ratios, costs, of):
    """The model's figures, and how it does where it can be held against the machine."""
    miss_ns, hit_ns = of("quire-miss", 1, "cpu_ns"), of("quire-hit", 1, "cpu_ns")
    for n in MODEL_CPUS:
        name = f"model, {n} CPU{'s' if n > 1 else ''}"
        miss, station = model.miss(costs, n, miss_ns)
        rows += [row(name, "hits, word and load", n * 1e9 / hit_ns, "1/s"),
                 row(name, "hits, want", model.want(costs, n), "1/s"),
                 row(name, "the same counted in one place", model.want_counted_in_one_place(costs, n), "1/s"),
                 row(name, "misses, fast device", miss, "1/s" + (f", most wait at: {station}" if n > 1 else "")),
                 row(name, "interrupts, CPU a miss", model.interrupt_ns(costs, n), "ns")]
    n = min(2, len(os.sched_getaffinity(0)))
    ratios[f"model_over_measured_fill_{n}cpus"] = ratio(
        model.miss(costs, n, of("quire-fill", 1, "cpu_ns"))[0], n * 1e9 / of("quire-fill", n, "cpu_ns"))
