"""The command line, the table and the verdict of scripts/bench l4."""
import argparse
import json
import os
import signal
import sys
import tempfile

import captures
from lab import engine_binary
from machine import SKIPPED
from programs import testpmd_binary
from scenarios import Bench

# (name of a result, least ratio to testpmd).
RATIO_TARGETS = {"established_64k": 0.20, "established_1m": 0.15}
ON_OVER_OFF_TARGET = 0.85
LISTING_TARGET = 0.95
TIME_WAIT_TARGET = 0.90
FLOW_BYTES_MAX, INDEX_BYTES_MAX, ENTRY_BYTES_MAX = 192, 16, 64
SHARE_MIN = 0.95
NAMES = ("established_64k", "established_1m", "tcp_preserve_64k", "cps_persistence_on",
         "cps_persistence_off", "new_clients", "cps_while_listing", "cps_time_wait_full")


class Machine:
    def __init__(self, control_core, worker_core):
        self.control_core, self.worker_core = control_core, worker_core


class Sizes:
    """How much of each scenario there is."""

    def __init__(self, small, large, rounds, seconds, repeat):
        self.small, self.large, self.rounds = small, large, rounds
        self.seconds, self.repeat = seconds, repeat


FULL = Sizes(65536, 1_000_000, 4, 4.0, 3)
QUICK = Sizes(65536, 1_000_000, 4, 1.0, 1)
SMOKE = Sizes(512, 2048, 2, 0.2, 1)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench l4", description="One engine worker beside dpdk-testpmd's 5tswap on the same "
        "device, core, capture, mbuf size and count.")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="short windows, one run of each")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that it works, measures nothing")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of a window")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each program, in turns")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME",
                        help=f"of {', '.join(NAMES)}; may be given several times")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    parser.add_argument("--hugepages", action="store_true", help="reserve hugepages for the time of the run, "
                        "as root; without, those that are free are used, if they suffice")
    parser.add_argument("--control-core", type=int, metavar="N")
    parser.add_argument("--worker-core", type=int, metavar="N")
    return parser.parse_args()


def machine_of(options):
    """The first allowed core for control, the second for the worker, unless they are given."""
    cores = sorted(os.sched_getaffinity(0))
    control = cores[0] if options.control_core is None else options.control_core
    others = [core for core in cores if core != control]
    worker = options.worker_core if options.worker_core is not None else others[0] if others else None
    return None if worker is None or worker == control else Machine(control, worker)


def measure(bench, sizes, wanted):
    results = []
    if wanted("established_64k"):
        results += bench.established("established_64k", sizes.small, sizes.rounds)
    if wanted("established_1m"):
        results += bench.established("established_1m", sizes.large, min(2, sizes.rounds))
    if wanted("tcp_preserve_64k"):
        results += bench.tcp_preserve("tcp_preserve_64k", sizes.small)
    if wanted("cps_persistence_on") or wanted("cps_persistence_off"):
        results += bench.connections_per_second(sizes.small)
    if wanted("new_clients"):
        results += bench.new_clients("new_clients", sizes.large)
    if wanted("cps_while_listing"):
        results += bench.while_listing("cps_while_listing", sizes.large)
    if wanted("cps_time_wait_full"):
        results += bench.time_wait_full("cps_time_wait_full", 4 * sizes.small)
    return results


def print_table(results):
    print(f"\n{'':<22}{'limpet-se':>14}{'reference':>14}{'ratio':>8}")
    for result in results:
        print(f"{result.name:<22}{result.value:>14,.0f}{result.reference_value:>14,.0f}"
              f"{result.ratio():>8.3f}  {result.unit}, beside {result.reference}")


def verdicts(results, sizes_of_records):
    """[(met, text)]"""
    found = []
    for result in results:
        target = RATIO_TARGETS.get(result.name)
        if target is not None:
            found.append((result.ratio() >= target,
                          f"{result.name}: {result.ratio():.3f} of testpmd, at least {target:.2f}"))
        if result.name == "cps_while_listing":
            found.append((result.ratio() >= LISTING_TARGET,
                          f"connections per second while {result.notes['entries']:,} entries are listed: "
                          f"{result.ratio():.3f} of those without, at least {LISTING_TARGET:.2f}"))
        if result.name == "cps_time_wait_full":
            found.append((result.ratio() >= TIME_WAIT_TARGET,
                          f"connections per second with {result.notes['flows']:,} flows, all in TIME_WAIT: "
                          f"{result.ratio():.3f} of those with room, at least {TIME_WAIT_TARGET:.2f}"))
        if "on_over_off" in result.notes:
            ratio = result.notes["on_over_off"]
            found.append((ratio >= ON_OVER_OFF_TARGET, "connections per second with persistence: "
                          f"{ratio:.3f} of those without, at least {ON_OVER_OFF_TARGET:.2f}"))
    if sizes_of_records:
        flow, entry = sizes_of_records["flow"], sizes_of_records["entry"]
        found.append((flow <= FLOW_BYTES_MAX,
                      f"flow record: {flow:.0f} bytes for both directions, at most {FLOW_BYTES_MAX}"))
        found.append((entry <= ENTRY_BYTES_MAX,
                      f"persistence entry: {entry:.0f} bytes, at most {ENTRY_BYTES_MAX}"))
        index = round(sizes_of_records["index"], 1)
        found.append((index <= INDEX_BYTES_MAX,
                      f"index: {index:g} bytes a direction of a flow, at most {INDEX_BYTES_MAX}"))
    return found


def main():
    options = arguments()
    machine = machine_of(options)
    for missing, what in ((not os.path.exists(engine_binary()), f"{engine_binary()} is not built"),
                          (testpmd_binary() is None, "dpdk-testpmd is not installed (scripts/setup)"),
                          (machine is None, "two cores are needed")):
        if missing:
            print(f"bench: {what}", file=sys.stderr)
            return SKIPPED if options.smoke else 1
    sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
    sizes = Sizes(sizes.small, sizes.large, sizes.rounds, options.seconds or sizes.seconds,
                  options.repeat or sizes.repeat)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that contexts are left
    os.sched_setaffinity(0, {machine.control_core})  # the worker's core is for what is measured
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as folder:
        bench = Bench(machine, folder, seconds=sizes.seconds, repeat=sizes.repeat,
                      reserve_hugepages=options.hugepages,
                      say=lambda text: print(f"bench: {text}", file=sys.stderr, flush=True))
        try:
            results = measure(bench, sizes, lambda name: not options.only or name in options.only)
        except RuntimeError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    print_table(results)
    if bench.least_share < SHARE_MIN:
        print(f"\n  Others used the worker's core: it had {bench.least_share:.0%} of it in one run. Rates are "
              "per second of its CPU\n  time, but caches and memory were shared too: repeat it on a quiet machine.")
    checks = verdicts(results, bench.record_sizes)
    print()
    for met, text in checks:
        print(f"  {'met   ' if met else 'MISSED'} {text}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"benchmark": "l4", "results": [result.as_json() for result in results]}, file,
                      indent=2)
            file.write("\n")
    return 1 if options.strict and not all(met for met, _ in checks) else 0
