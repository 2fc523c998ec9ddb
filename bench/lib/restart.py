"""restart: how soon after a start lookups hit again, with a list of hot pages and without.

Zipfian lookups (exponent 0.99) of single pages of a file four times as large as the memory, from one thread. A first
process runs as fast as it can until its hit rate is steady, and ends; others then map the file anew, all in
the same memory cgroup, and are asked for a fixed number of pages a second, which is what a server meets that comes back to its
users. Time counts from before the cache is opened to the end of the first window of 0.5 s in which the hit rate is 90 % of the steady
one, so it can't be less than 0.5 s.

Beside it the same with lookups as fast as they are answered, 128 at a time: there misses take all that the device has, and a
list can only bring other pages than are asked for.
"""
import json

import machine
import map_miss
from report import median, row

FLOORS = {"warm_over_cold": ("<=", 0.5)}
SHARE = 0.9
KINDS = ("cold", "warm")


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-restart"])
    size = map_miss.QUICK_BYTES if quick else map_miss.FILE_BYTES
    path = map_miss.prepare(size)
    rounds, train_seconds, most_seconds, rate = (1, 6, 14, 20000) if quick else (3, 40, 120, 20000)
    listed = machine.data_dir() / "restart-hot"
    start = [build / "bench" / "bench-restart", "start", path, size, size // 4]
    samples = {}
    for number in range(rounds):
        machine.say(f"round {number + 1} of {rounds}: training")
        listed.unlink(missing_ok=True)
        steady = one(build, path, size, [build / "bench" / "bench-restart", "train", path, size, size // 4, listed,
                                         train_seconds])
        samples.setdefault("steady", []).append(steady)
        kept = listed.read_bytes()
        for speed in (rate, 0):
            for kind in KINDS:
                machine.say(f"round {number + 1} of {rounds}: {kind}, {speed or 'as many as can be'} a second")
                sample = one(build, path, size, start + [listed if kind == "warm" else "-", most_seconds, speed,
                                                         SHARE * steady["hit_rate"]])
                listed.write_bytes(kept)
                machine.drop_cache(listed)
                reached = sample["seconds_to_hit_rate"]
                sample["time"] = reached if reached >= 0 else float(most_seconds)
                sample["reached"] = reached >= 0
                samples.setdefault((kind, speed), []).append(sample)
    machine.say_done()
    listed.unlink()
    return summarise(samples, rate)


def one(build, path, size, words):
    machine.drop_cache(path)
    out, usage = machine.capped(build, size // 4, words)
    sample = json.loads(out)
    sample["peak_bytes"] = usage["peak_bytes"]
    if sample["wrong"]:
        raise machine.Failed(f"{sample['wrong']} wrong pages")
    return sample


def summarise(samples, rate):
    steady = samples["steady"]
    rows = [row("trained", "steady hit rate", median([s["hit_rate"] for s in steady]), ""),
            row("trained", "lookups", median([s["lookups"] / s["seconds"] for s in steady]), "1/s"),
            row("trained", "map destroyed, list written", median([s["destroy_seconds"] for s in steady]) * 1e3, "ms")]
    for speed in (rate, 0):
        for kind in KINDS:
            runs = samples[kind, speed]
            name = f"{kind}, {speed}/s" if speed else f"{kind}, all it can"
            late = "" if all(s["reached"] for s in runs) else " (not reached: the run's length)"
            rows += [row(name, "to 90 % of the hit rate", median([s["time"] for s in runs]), "s" + late),
                     row(name, "hit rate of the first 0.5 s", median([s["first_hit_rate"] for s in runs]), "")]
            if kind == "warm":
                rows.append(row(name, "pages brought back by then", int(median([s["replayed"] for s in runs])), ""))
            if speed:
                rows.append(row(name, "lookups given up", int(median([s["given_up"] for s in runs])), ""))
            rows.append(row(name, "peak memory", int(median([s["peak_bytes"] for s in runs])) >> 20, "MiB"))

    def over(speed):
        return median([w["time"] / c["time"] for w, c in zip(samples["warm", speed], samples["cold", speed])])

    return rows, {"warm_over_cold": over(rate), "warm_over_cold_saturated": over(0)}
