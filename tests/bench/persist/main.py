"""The command line, the tables and the verdict of scripts/bench persist.

Runs three programs (their headers say what they measure, and how it is fair) and puts their lines of
JSON together. Whatever is compared was measured in one run, in turns.
"""
import argparse
import json
import os
import signal
import subprocess
import sys

from lab import build_folder
from machine import SKIPPED, Hugepages, available_mb, undisturbed_on

PARTS = ("lookups", "new_clients", "two_workers")
# (name of a result, least ratio, to what)
TARGETS = (("lookup_hit_1m", 1.6, "rte_hash_lookup_bulk"), ("lookup_hit_8m", 1.6, "rte_hash_lookup_bulk"),
           ("two_workers", 1.8, "one worker"))
SPARE_MB = 64


class Sizes:
    """How much of each part there is; tables: {name: entries}."""

    def __init__(self, tables, clients, new_clients, rounds, seconds):
        self.tables, self.clients, self.new_clients = tables, clients, new_clients
        self.rounds, self.seconds = rounds, seconds

    def memory_mb(self):
        """Of both tables and the records beside rte_hash, of the largest size."""
        largest = max(self.tables.values())
        return (largest * (84 + 64 + 64 + 32) >> 20) + SPARE_MB


TABLES = {"64k": 65536, "1m": 1_000_000, "8m": 8_000_000}
FULL = Sizes(TABLES, 65536, 50_000, 15, 0.3)
QUICK = Sizes(TABLES, 65536, 20_000, 5, 0.1)
SMOKE = Sizes({"64k": 1024, "1m": 2048, "8m": 4096}, 512, 512, 1, 0.02)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench persist", description="Bindings: persist::Table beside rte_hash, what replication "
        "costs a new client, two workers beside one.")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that it works, measures nothing")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of a round of two_workers")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds of each, in turns")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)}; may be given several times")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    parser.add_argument("--hugepages", action="store_true", help="reserve hugepages for the time of the "
                        "look-ups, as root; without, those that are free are used, if they suffice")
    parser.add_argument("--worker-cores", metavar="A,B", help="default: the first two allowed")
    return parser.parse_args()


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def binary(part):
    return os.path.join(build_folder(), "tests/bench", f"bench_persist_{part}")


def results_of(part, cores, *options):
    """What a program says; its standard error is ours."""
    done = subprocess.run([binary(part), *map(str, options)], stdout=subprocess.PIPE, text=True, check=False,
                          preexec_fn=undisturbed_on(cores))
    if done.returncode != 0:
        raise RuntimeError(f"{part} ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def lookups(sizes, cores, reserve):
    with Hugepages(sizes.memory_mb(), reserve) as hugepages:
        if not hugepages and available_mb() < 2 * sizes.memory_mb():
            raise RuntimeError(f"lookups: {2 * sizes.memory_mb()} MB of memory are needed, "
                               f"{available_mb()} MB are there")
        say("lookups: " + ("hugepages for both" if hugepages else "no hugepages: small pages for both"))
        tables = ",".join(f"{name}={entries}" for name, entries in sizes.tables.items())
        return results_of("lookups", {cores[1]}, "--memory-mb", sizes.memory_mb(), "--core", cores[1],
                          "--rounds", sizes.rounds, "--sizes", tables, *["--hugepages"] * hugepages)


def measure(sizes, cores, options):
    wanted = options.only or PARTS
    results = []
    if "lookups" in wanted:
        results += lookups(sizes, cores, options.hugepages)
    if "new_clients" in wanted:
        say("new_clients")
        results += results_of("new_clients", {cores[1]}, "--clients", sizes.new_clients,
                              "--rounds", -(-sizes.rounds // 3))
    if "two_workers" in wanted:
        say("two_workers")
        results += results_of("two_workers", set(cores), "--clients", sizes.clients, "--seconds", sizes.seconds,
                              "--rounds", sizes.rounds, "--cpus", f"{cores[0]},{cores[1]}")
    # The same name of several sizes: the largest is last.
    return list({result["name"]: result for result in results}.values())


def print_table(results):
    print(f"\n{'':<18}{'limpet':>14}{'reference':>14}{'ratio':>8}")
    for r in results:
        if r["name"].startswith("new_client"):
            continue
        more = ""
        if "bare" in r:
            more = f"; {r['value'] / r['bare']:.2f} of it without reading the record"
        if "alone" in r:
            more = f"; {r['value'] / r['alone']:.2f} of one worker alone"
        print(f"{r['name']:<18}{r['value']:>14,.0f}{r['reference_value']:>14,.0f}{r['ratio']:>8.3f}  "
              f"{r['unit']}, {r['reference']}{more}")


def print_new_clients(results):
    """Both ways side by side."""
    ways = {r["name"].removeprefix("new_client_"): r for r in results if r["name"].startswith("new_client_")}
    counts = sorted({name.rsplit("_", 1)[1] for name in ways})
    if not counts:
        return
    print(f"\n{'a new client':<34}{'push to all':>22}{'asker only':>22}\n{'':<34}"
          + f"{'CPU ns':>10}{'messages':>12}" * 2)
    for cores in counts:
        for what in ("once", "returning"):
            line = f"{cores} cores, " + ("connects once" if what == "once" else "and comes back 4 times")
            for way in ("push_all", "asker_only"):
                cost = ways[f"{way}_{cores}"][what]
                line = f"{line:<34}" if way == "push_all" else line
                line += f"{cost['ns']:>10,.0f}{cost['messages']:>12.2f}"
            print(line)
    print(f"{'1 core, connects once':<34}{ways['push_all_' + counts[0]]['one_core']:>10,.0f}{0:>12.2f}")


def verdicts(results):
    """[(met, text)]"""
    found = []
    by_name = {r["name"]: r for r in results}
    for name, least, to in TARGETS:
        if name in by_name:
            ratio = by_name[name]["ratio"]
            found.append((ratio >= least, f"{name}: {ratio:.2f} of {to}, at least {least:.1f}"))
    if "two_workers" in by_name:
        r = by_name["two_workers"]
        found.append((r["messages"] == 0, f"{r['connections']:,} connections of known clients sent "
                      f"{r['messages']} messages, at most 0"))
    return found


def main():
    options = arguments()
    allowed = sorted(os.sched_getaffinity(0))
    cores = [int(c) for c in options.worker_cores.split(",")] if options.worker_cores else allowed[:2]
    missing = [binary(part) for part in PARTS if not os.path.exists(binary(part))]
    for wrong, what in ((missing, f"not built: {', '.join(missing)}"), (len(cores) != 2, "two cores are needed")):
        if wrong:
            print(f"bench: {what}", file=sys.stderr)
            return SKIPPED if options.smoke else 1
    sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
    sizes = Sizes(sizes.tables, sizes.clients, sizes.new_clients, options.repeat or sizes.rounds,
                  options.seconds or sizes.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that hugepages are given back
    try:
        results = measure(sizes, cores, options)
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(results)
    print_new_clients(results)
    checks = verdicts(results)
    print()
    for met, text in checks:
        print(f"  {'met   ' if met else 'MISSED'} {text}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"benchmark": "persist", "results": results}, file, indent=2)
            file.write("\n")
    return 1 if options.strict and not all(met for met, _ in checks) else 0
