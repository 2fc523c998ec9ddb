"""replay: miss ratios of the caches' own policy beside others, on traces made here.

`bench/replay` drives the very code of the policy with a zipfian trace (exponents 1.0 and 0.8) and with one that is mixed with
scans: zipfian accesses, a fifth of them replaced by pages that are never seen again, and six runs over the same
pages in order. Beside it S3-FIFO as its authors publish it (small queue 10 %), LRU, FIFO and Belady's limit, at
sizes from a thousandth of the pages to half of them. Ratios are the worst over all sizes. The traces and
so all these figures are the same in every run on every machine.

Then small traces go through a real map, with hits told (`want`) and with hits hidden (raw loads).
"""
import json

import machine
from report import row

FLOORS = {
    "quire_over_lru_zipf": ("<=", 1.0),
    "quire_over_lru_scan": ("<=", 1.0),
    "quire_over_s3fifo_zipf": ("<=", 1.01),
    "quire_over_s3fifo_scan": ("<=", 1.01),
}
SIZES = "0.001,0.003,0.01,0.03,0.1,0.2,0.3,0.4,0.5"
TRACES = {"zipf 1.0": ("zipf", 1.0), "zipf 0.8": ("zipf", 0.8), "scan": ("scan", 1.0)}
SIMS = ("quire", "s3-fifo", "lru", "fifo", "min")

# For the maps: small ones, since a fill costs a thousand times what a simulated miss does.
MAP_PAGES, MAP_ACCESSES, MAP_SIZES = 30000, 200000, "3000,8000"


def run(build, quick):
    machine.command(["ninja", "-C", build, "bench/bench-replay", "bench/bench-trace"])
    n_pages = 50000 if quick else 500000
    rows, worst = [], {}
    for name in TRACES:
        result = replay(build, make(build, name, n_pages, 20 * n_pages), "--sizes", SIZES)
        rows += rows_of(name, result)
        compare(worst, TRACES[name][0], result)
    for name in ("zipf 1.0", "scan"):
        result = replay(build, make(build, name, MAP_PAGES, MAP_ACCESSES), "--map", "--sizes", MAP_SIZES)
        rows += map_rows(name, result)
        worst[f"raw_over_want_{TRACES[name][0]}"] = max(m["raw"] / m["want"] for m in result["maps"])
    machine.say_done()
    return rows, worst


def make(build, name, n_pages, n_accesses):
    """The trace's file, made if it is not there yet."""
    kind, alpha = TRACES[name]
    path = machine.data_dir() / f"{kind}-{alpha}-{n_pages}-{n_accesses}.oracleGeneral"
    if not path.exists():
        machine.say(f"making {path.name}")
        half_made = path.with_suffix(".part")
        machine.command([build / "bench" / "bench-trace", kind, alpha, n_pages, n_accesses, half_made])
        half_made.rename(path)
    return path


def replay(build, path, *options):
    machine.say(f"replaying {path.name}")
    out = machine.command([build / "bench" / "bench-replay", "--json", *options, path])
    return json.loads(out)["traces"][0]


def rows_of(name, result):
    return [row(sim, f"{name}, {size['frames'] / result['pages']:.1%} of {result['pages']:,} pages", size[sim],
                "miss ratio")
            for size in result["sizes"] for sim in SIMS]


def map_rows(name, result):
    rows = []
    for m in result["maps"]:
        metric = f"map: {name}, {m['want_frames']:,} frames"
        rows += [row("quire, hits told by want", metric, m["want"], "fills an access"),
                 row("quire, raw loads", metric, m["raw"], "fills an access")]
        rows += [row(f"{sim}, simulated", metric, m["simulated"][sim], "miss ratio") for sim in SIMS]
    return rows


def compare(worst, kind, result):
    for size in result["sizes"]:
        for peer in ("lru", "s3-fifo"):
            key = f"quire_over_{peer.replace('-', '')}_{kind}"
            worst[key] = max(worst.get(key, 0), size["quire"] / size[peer])
