"""Part of `tmem`: pages put and got through the rings of a service in another process, beside a pool at home."""
import json

import machine
from report import median, row

FLOORS = {
    "service_get_p50_us": ("<=", 3),
}


def run(build, corpus, batch, rounds):
    machine.command(["ninja", "-C", build, "bench/bench-tmem-service"])
    program = build / "bench" / "bench-tmem-service"
    runs = []
    for number in range(max(rounds, 3)):
        machine.say(f"service: round {number + 1} of {max(rounds, 3)}")
        runs.append(json.loads(machine.command([program, corpus, batch])))

    def of(key):
        return median([r[key] for r in runs])

    rows = []
    for key, what in (("get", "get"), ("put", "put"), ("batch_get", f"a page of {batch} gets a message"),
                      ("batch_put", f"a page of {batch} puts a message"), ("woken_get", "get, both asleep before")):
        rows += [row("quire, service", f"files: {what}, p50", of(f"{key}_p50_ns"), "ns"),
                 row("quire, service", f"files: {what}, p99", of(f"{key}_p99_ns"), "ns")]
    rows += [row("quire, at home", "files: get, p50, in turns with the service's", of("local_get_p50_ns"), "ns"),
             row("quire, service", "CPU while idle", 100 * of("idle_cpu"), "%")]
    return rows, {
        "service_get_p50_us": of("get_p50_ns") / 1e3,
        "service_get_over_local": median([r["get_p50_ns"] / r["local_get_p50_ns"] for r in runs]),
        f"service_get_batch{batch}_us": of("batch_get_p50_ns") / 1e3,
        "service_idle_cpu": of("idle_cpu"),
    }
