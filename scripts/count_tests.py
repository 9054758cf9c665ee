#!/usr/bin/env python3
"""Counts single tests in a Meson test log: "PASSED FAILED SKIPPED".

usage: count_tests.py testlog.json STATUS

A GoogleTest program counts as many tests as it ran, a Python unittest program likewise, any other
program as one; SKIPPED counts programs. STATUS is the exit status of "meson test": when it says failure and the log shows
none (the build failed, no test ran), one failure is counted.
"""
import json
import re
import sys


def count(test):
    """Returns (passed, failed) of one line of the log."""
    good = test["result"] in ("OK", "EXPECTEDFAIL", "SKIP")
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    if test["result"] == "SKIP":
        return 0, 0
    passed = sum(int(n) for n in re.findall(r"^\[  PASSED  \] (\d+) tests?\.", text, re.M))
    failed = sum(int(n) for n in re.findall(r"^\[  FAILED  \] (\d+) tests?, listed below", text, re.M))
    ran = re.search(r"^Ran (\d+) tests? in", text, re.M)
    if not passed and not failed and ran:
        for number in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", text):
            failed += int(number)
        skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", text))
        passed = max(0, int(ran.group(1)) - failed - skipped)
    if good:
        return (passed or 1, failed)
    return passed, failed or 1


def main():
    passed = failed = skipped = 0
    try:
        with open(sys.argv[1]) as log:
            for line in log:
                test = json.loads(line)
                skipped += test["result"] == "SKIP"
                one = count(test)
                passed += one[0]
                failed += one[1]
    except FileNotFoundError:
        pass
    if sys.argv[2] != "0" and failed == 0:
        failed = 1
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
