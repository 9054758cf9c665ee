"""The command line, the tables and the verdict of scripts/bench mirroring."""
import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile

from lab import engine_binary
from machine import SKIPPED, available_mb

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "l4"))
# pylint: disable=wrong-import-position
import scenarios  # noqa: E402
from processes import Engines, Haproxies, channel_binary, haproxy_binary, traffic_binary  # noqa: E402

PARTS = ("new_entries", "resync", "throughput")
LAG_P99_MAX_MS = {50_000: 1.5, 200_000: 25}  # by new entries a second
RESYNC_MAX_S = 1.0
CPU_RATIO_MAX = 1.5
THROUGHPUT_MIN = 0.97


class Sizes:
    def __init__(self, *, rates, resync_entries, fill_rate, busy_rate, busy_s, busy_turns, capture_flows,
                 repeat):
        self.rates = rates  # [(entries a second, entries)]
        self.resync_entries, self.fill_rate = resync_entries, fill_rate
        self.busy_rate, self.busy_s, self.busy_turns = busy_rate, busy_s, busy_turns
        self.capture_flows, self.repeat = capture_flows, repeat


FULL = Sizes(rates=[(10_000, 30_000), (50_000, 200_000), (200_000, 400_000)], resync_entries=1_000_000,
             fill_rate=200_000, busy_rate=50_000, busy_s=0.25, busy_turns=80, capture_flows=65536, repeat=3)
QUICK = Sizes(rates=[(10_000, 10_000), (50_000, 100_000), (200_000, 200_000)], resync_entries=1_000_000,
              fill_rate=200_000, busy_rate=50_000, busy_s=0.25, busy_turns=12, capture_flows=65536, repeat=1)
SMOKE = Sizes(rates=[(2_000, 400)], resync_entries=2_000, fill_rate=20_000, busy_rate=2_000, busy_s=0.2,
              busy_turns=2, capture_flows=512, repeat=1)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench mirroring", description="Two engines that mirror to one another beside two "
        "HAProxies with its peers protocol.")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="fewer entries and turns")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that it works, measures nothing")
    parser.add_argument("--repeat", type=int, metavar="N", help="resyncs of each; turns of the throughput")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)}; may be given several times")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    parser.add_argument("--hugepages", action="store_true", help="reserve hugepages for the time of the throughput's "
                        "runs, as root; without, those that are free are used, if they suffice")
    parser.add_argument("--cores", metavar="A,B", help="default: the first two allowed")
    return parser.parse_args()


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def result(name, unit, value, reference_value, reference="HAProxy's peers", **notes):
    return {"name": name, "value": value, "unit": unit, "reference": reference,
            "reference_value": reference_value, "ratio": value / reference_value, **notes}


def new_entries(cores, sizes):
    ours = scenarios.new_entries(Engines, cores, sizes, say)
    theirs = scenarios.new_entries(Haproxies, cores, sizes, say)
    out = []
    for rate, _ in sizes.rates:
        label = f"{rate // 1000}k"
        (mirrored, alone), (peer, peer_alone) = ours[rate], theirs[rate]

        def cpu_us(on, off):
            return max((on.cpu_s - off.cpu_s) / on.count * 1e6, 1e-3)
        out += [result(f"rate_{label}", "entries/s", mirrored.rate, peer.rate),
                result(f"lag_p50_{label}", "ms", mirrored.lag_p50_s * 1e3, peer.lag_p50_s * 1e3),
                result(f"lag_p99_{label}", "ms", mirrored.lag_p99_s * 1e3, peer.lag_p99_s * 1e3),
                result(f"cpu_{label}", "us/entry", cpu_us(mirrored, alone), cpu_us(peer, peer_alone))]
    return out


def resync(cores, sizes):
    ours, theirs = (scenarios.resync(kind, cores, sizes, say) for kind in (Engines, Haproxies))

    def median(rounds, i):
        return statistics.median(r[i] for r in rounds)
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as folder:
        say("the list and the sockets alone")
        alone = scenarios.channel(cores, folder, sizes)
    return [result("resync", "s", median(ours, 1), median(theirs, 1), entries=sizes.resync_entries,
                   best=min(r[1] for r in ours), reference_best=min(r[1] for r in theirs)),
            result("channel", "s", alone, median(theirs, 1), entries=sizes.resync_entries),
            result("resync_bytes", "bytes/entry", median(ours, 2) / sizes.resync_entries,
                   median(theirs, 2) / sizes.resync_entries)]


def throughput(cores, sizes, reserve_hugepages):
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as folder:
        turns, rate = scenarios.throughput(cores, folder, sizes, reserve_hugepages, say)
    ratios = [mirrored / alone for mirrored, alone in turns]
    quarters = statistics.quantiles(ratios, n=4)
    return [result("throughput", "packets/s", *map(statistics.median, zip(*turns)), "clients that are not mirrored",
                   new_entries=rate, ratio=statistics.median(ratios), low=quarters[0], high=quarters[2])]


def print_table(results):
    print(f"\n{'':<16}{'limpet-se':>14}{'reference':>14}{'ratio':>8}")
    for r in results:
        digits = 0 if r["value"] >= 1000 else 3
        print(f"{r['name']:<16}{r['value']:>14,.{digits}f}{r['reference_value']:>14,.{digits}f}"
              f"{r['ratio']:>8.3f}  {r['unit']}, beside {r['reference']}")
    print("\n  Lag: of limpet-se from the confirmation of a binding until the peer's control thread knows that "
          "its home has\n  it (limpet_peer_apply_lag_seconds); of HAProxy from the answer to \"set table\" until "
          "\"show table\" finds it.\n  CPU: both processes, less the same without mirroring. HAProxy is given as "
          "many commands as it can take.\n  Resync: from when the restarted process listens at its socket.\n  "
          "Channel: the same between two processes that have nothing but update lists and sockets.\n  "
          "Throughput: of a worker's established flows, beside new clients whose bindings are mirrored and beside\n  "
          "others, in the same engines in turns; medians.")


def verdicts(results):
    """[(met, text)]"""
    found = []
    lag_rates = {f"lag_p99_{rate // 1000}k": rate for rate in LAG_P99_MAX_MS}
    for r in results:
        name, value, ratio = r["name"], r["value"], r["ratio"]
        if name in lag_rates:
            rate = lag_rates[name]
            found.append((value <= LAG_P99_MAX_MS[rate], f"lag at {rate:,} new entries/s: p99 {value:.2f} ms, at most "
                          f"{LAG_P99_MAX_MS[rate]:g}"))
        elif name == "resync":
            found.append((value <= RESYNC_MAX_S, f"resync of {r['entries']:,} entries: {value:.2f} s, at most "
                          f"{RESYNC_MAX_S:g}"))
            found.append((ratio <= 1, f"resync: {ratio:.2f} of HAProxy's time, at most 1"))
        elif name.startswith("cpu_"):
            found.append((ratio <= CPU_RATIO_MAX, f"{name}: {ratio:.2f} of HAProxy's CPU time for an entry, at "
                          f"most {CPU_RATIO_MAX:g}"))
        elif name == "throughput":
            found.append((ratio >= THROUGHPUT_MIN, f"worker's throughput with {r['new_entries']:,.0f} new entries/s: "
                          f"{ratio:.3f} of that beside clients that are not mirrored (half of the turns: {r['low']:.3f} to "
                          f"{r['high']:.3f}), at least {THROUGHPUT_MIN:g}"))
    return found


def missing():
    for binary in (engine_binary(), traffic_binary(), channel_binary()):
        if not os.path.exists(binary):
            return f"{binary} is not built"
    if haproxy_binary() is None or shutil.which("ss") is None:
        return "haproxy or ss is not installed (scripts/setup)"
    return None


def main():
    options = arguments()
    allowed = sorted(os.sched_getaffinity(0))
    cores = [int(c) for c in options.cores.split(",")] if options.cores else allowed[:2]
    sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
    sizes.repeat = options.repeat or sizes.repeat
    sizes.busy_turns = max(options.repeat, 2) if options.repeat else sizes.busy_turns
    needed_mb = 1024 + (sizes.resync_entries * 2500 >> 20)
    wrong = missing() or (None if len(cores) == 2 else "two cores are needed")
    wrong = wrong or (None if available_mb() >= needed_mb else f"{needed_mb} MB of memory are needed, "
                      f"{available_mb()} are there")
    if wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return SKIPPED if options.smoke else 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that contexts are left
    results = []
    try:
        measures = {"new_entries": new_entries, "resync": resync,
                    "throughput": lambda *given: throughput(*given, options.hugepages)}
        for part in PARTS:
            if not options.only or part in options.only:
                results += measures[part](cores, sizes)
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(results)
    checks = verdicts(results)
    print()
    for met, text in checks:
        print(f"  {'met   ' if met else 'MISSED'} {text}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"benchmark": "mirroring", "results": results}, file, indent=2)
            file.write("\n")
    return 1 if options.strict and not all(met for met, _ in checks) else 0
