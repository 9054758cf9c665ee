#!/usr/bin/env python3
"""Counts single tests in a Meson test log, and says what was skipped.

usage: count_tests.py LOG STATUS     prints "PASSED FAILED SKIPPED_PROGRAMS SKIPPED_TESTS"
       count_tests.py --skipped LOG  prints "SUITE / PROGRAM: how much: why" for each
       count_tests.py --self-test

A GoogleTest program counts as many tests as it ran, a Python unittest program likewise, any other
program as one. SKIPPED_PROGRAMS were skipped whole; SKIPPED_TESTS are those of programs that ran
others. STATUS is the exit status of "meson test": when it says failure and the log shows none (the
build failed, no test ran), one failure is counted.
"""
import json
import re
import sys
from dataclasses import dataclass


@dataclass
class Outcome:
    name: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0  # single tests
    whole: bool = False  # the program was skipped
    why: str = ""


def sum_of(pattern, text):
    return sum(int(number) for number in re.findall(pattern, text, re.M))


def why_of(text):
    """The reason of the first skipped test, or what a program said when it ended at once."""
    for pattern in (r": Skipped\n(.+)$", r"\.\.\. skipped '(.*)'$", r"^\w+: (.*)$"):
        found = re.findall(pattern, text, re.M)
        if found:
            return found[0]
    return "it does not say why"


def outcome_of(test):
    """The outcome of one line of the log."""
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    one = Outcome(test["name"].removeprefix("limpet:"))
    if test["result"] == "SKIP":
        one.whole, one.why = True, why_of(text)
        return one
    one.passed = sum_of(r"^\[  PASSED  \] (\d+) tests?\.", text)
    one.failed = sum_of(r"^\[  FAILED  \] (\d+) tests?, listed below", text)
    one.skipped = sum_of(r"^\[  SKIPPED \] (\d+) tests?, listed below", text)
    ran = re.search(r"^Ran (\d+) tests? in", text, re.M)
    if ran:
        one.failed += sum_of(r"(?:failures|errors|unexpected successes)=(\d+)", text)
        one.skipped += sum_of(r"\bskipped=(\d+)", text)
        one.passed += max(0, int(ran.group(1)) - one.failed - one.skipped)
    if one.skipped:
        one.why = why_of(text)
    if test["result"] not in ("OK", "EXPECTEDFAIL"):
        one.failed = one.failed or 1
    elif not one.passed and not one.skipped:
        one.passed = 1
    return one


def outcomes(lines):
    return [outcome_of(json.loads(line)) for line in lines]


def counts(lines, status):
    all_of = outcomes(lines)
    failed = sum(one.failed for one in all_of)
    if status != 0 and failed == 0:
        failed = 1
    return (sum(one.passed for one in all_of), failed, sum(one.whole for one in all_of),
            sum(one.skipped for one in all_of))


def skipped(lines):
    return [f"{one.name}: {'all of it' if one.whole else f'{one.skipped} of its tests'}: {one.why}"
            for one in outcomes(lines) if one.whole or one.skipped]


def read(path):
    try:
        with open(path, encoding="utf-8") as log:
            return log.readlines()
    except FileNotFoundError:
        return []


def self_test():
    def line(result, stdout="", stderr="", name="limpet:e2e / a"):
        return json.dumps({"name": name, "result": result, "stdout": stdout, "stderr": stderr})

    def expect(lines, status, numbers, *listed):
        if counts(lines, status) != numbers or skipped(lines) != list(listed):
            sys.exit(f"self-test: expected {numbers} {listed}, got {counts(lines, status)} {skipped(lines)}")

    gtest = "[==========] 3 tests from 1 test suite ran. (9 ms total)\n[  PASSED  ] {} tests.\n"
    expect([], 0, (0, 0, 0, 0))
    expect([], 1, (0, 1, 0, 0))
    expect([line("OK")], 0, (1, 0, 0, 0))
    expect([line("FAIL")], 1, (0, 1, 0, 0))
    expect([line("TIMEOUT"), line("OK")], 1, (1, 1, 0, 0))
    expect([line("OK", gtest.format(3))], 0, (3, 0, 0, 0))
    expect([line("FAIL", gtest.format(2) + "[  FAILED  ] 1 test, listed below:\n")], 1, (2, 1, 0, 0))
    # A program that aborts after its tests, by a sanitizer for one.
    expect([line("FAIL", gtest.format(3))], 1, (3, 1, 0, 0))
    expect([line("OK", "../a.cc:140: Skipped\nno right\n" + gtest.format(0)
                 + "[  SKIPPED ] 3 tests, listed below:\n")], 0, (0, 0, 0, 3),
           "e2e / a: 3 of its tests: no right")
    expect([line("OK", "", "Ran 9 tests in 1.2s\n\nOK\n")], 0, (9, 0, 0, 0))
    expect([line("FAIL", "", "Ran 9 tests in 1.2s\n\nFAILED (failures=1, errors=2)\n")], 1, (6, 3, 0, 0))
    expect([line("OK", "", "test_b (A) ... skipped 'one CPU'\nRan 9 tests in 1.2s\n\nOK (skipped=1)\n")], 0,
           (8, 0, 0, 1), "e2e / a: 1 of its tests: one CPU")
    expect([line("SKIP", "", "skipped: network namespaces need root\n"),
            line("SKIP", "", "bench: two cores are needed\n", "limpet:bench / b"), line("SKIP"), line("OK")], 0,
           (1, 0, 3, 0), "e2e / a: all of it: network namespaces need root",
           "bench / b: all of it: two cores are needed", "e2e / a: all of it: it does not say why")
    expect([line("SKIP", "", "skipped: x\n")], 1, (0, 1, 1, 0), "e2e / a: all of it: x")
    print("self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    elif len(sys.argv) == 3 and sys.argv[1] == "--skipped":
        print("\n".join(skipped(read(sys.argv[2]))))
    elif len(sys.argv) == 3:
        print(*counts(read(sys.argv[1]), int(sys.argv[2])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
