"""The command line, the table and the verdict of scripts/bench instructions.

callgrind counts what a packet costs the core that judges it: turns of a burst of 32, without devices
(instructions.cc says what is counted). Counts depend on the code, the compiler and the C library,
neither on the machine's speed nor on what else runs there: a bound that is exceeded is an error.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from lab import build_folder
from machine import SKIPPED

COUNTED = "limpet_counted_turn"
# Name of a result: the most instructions that a packet may take; None: no bound.
BOUNDS = {"udp_established": 350, "udp6_established": 400, "tcp_preserve": 350, "first_packet_known": 2000,
          "first_packet_none": None}
FUNCTIONS = 25


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench instructions", description="Instructions that a packet takes from its arrival to "
        "where it is handed to a device, beside their bounds; counted by callgrind.")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--only", action="append", choices=BOUNDS, metavar="NAME",
                        help=f"of {', '.join(BOUNDS)}; may be given several times")
    parser.add_argument("--at-most", type=int, metavar="N",
                        help="instead of the bounds: to hold what has been reached")
    parser.add_argument("--profile", choices=BOUNDS, metavar="NAME",
                        help=f"only this one, and which {FUNCTIONS} functions take most of it")
    return parser.parse_args()


def binary():
    return os.path.join(build_folder(), "tests/bench/bench_instructions")


def said_by(command):
    # memcmp() takes another way near the end of a page, and the environment moves the stack.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          env={"PATH": os.environ["PATH"]})
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def run(name, counts):
    """How many packets were counted; `counts` is written."""
    return json.loads(said_by(["valgrind", "-q", "--tool=callgrind", f"--toggle-collect={COUNTED}",
                               f"--callgrind-out-file={counts}", binary(), name]))["packets"]


def total(counts):
    with open(counts, encoding="utf-8") as file:
        return int(re.search(r"^totals: (\d+)$", file.read(), re.M).group(1))


def functions(counts):
    """[(instructions, function)], those of the functions that it calls left out; most first."""
    text = said_by(["callgrind_annotate", "--threshold=100", "--auto=no", "--inclusive=no", counts])
    found = re.findall(r"^ *([\d,]+) \([ \d.]+%\)  (?:\?\?\?:|\S*/\.\./)?(\S.*?)(?: \[[^]]*\])?$", text, re.M)
    return [(int(number.replace(",", "")), name) for number, name in found if name != "PROGRAM TOTALS"]


def measure(name, profile):
    """The result; prints the functions."""
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as folder:
        counts = os.path.join(folder, "callgrind.out")
        packets = run(name, counts)
        value = total(counts) / packets
        if value < 1:
            raise RuntimeError(f"{name}: nothing was counted: {COUNTED} was not seen")
        for instructions, function in functions(counts)[:FUNCTIONS] if profile else ():
            share = instructions / packets
            print(f"{share:>9.1f} {share / value:>6.1%}  {function}")
    return {"name": name, "value": round(value, 1), "unit": "instructions/packet", "bound": BOUNDS[name]}


def exceeded(result):
    return result["bound"] is not None and result["value"] > result["bound"]


def main():
    options = arguments()
    for what, found in (("valgrind", shutil.which("valgrind")), (binary(), os.path.exists(binary()))):
        if not found:
            print(f"skipped: there is no {what}", file=sys.stderr)
            return SKIPPED
    results = []
    try:
        for name in [options.profile] if options.profile else options.only or BOUNDS:
            results.append(measure(name, options.profile is not None))
            r = results[-1]
            r["bound"] = options.at_most or r["bound"]
            bound = "no bound" if r["bound"] is None else f"at most {r['bound']}"
            print(f"{name:<20}{r['value']:>8.1f} instructions/packet, {bound}"
                  + (": EXCEEDED" if exceeded(r) else ""), flush=True)
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"benchmark": "instructions", "results": results}, file, indent=2)
            file.write("\n")
    return 1 if any(exceeded(r) for r in results) else 0
