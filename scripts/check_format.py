#!/usr/bin/env python3
"""All sources are formatted by clang-format 14 with the tree's .clang-format.

--fix formats them.
"""
import os
import shutil
import subprocess
import sys

from source_tree import ROOT, TemporaryTree, expect, main, sources


def formatter():
    return shutil.which("clang-format-14") or shutil.which("clang-format")


def check(root):
    paths = sources(root)
    if not paths:
        return []
    done = subprocess.run([formatter(), "--style=file", "--dry-run", "--Werror", *paths], cwd=root,
                          capture_output=True, text=True)
    places = {}
    for line in done.stderr.splitlines():
        if ": error: " in line:
            path, number = line.split(": error: ")[0].split(":")[:2]
            places.setdefault(path, []).append(number)
    if done.returncode != 0 and not places:
        return [done.stderr.strip()]
    return [f"{path}:{numbers[0]}: not formatted ({len(set(numbers))} lines); run "
            "scripts/check_format.py --fix" for path, numbers in places.items()]


def self_test():
    style = "BasedOnStyle: Google\n"
    with TemporaryTree({".clang-format": style, "common/a.cc": "int  x;\n"}) as root:
        expect(check(root), "common/a.cc:1: not formatted")
    with TemporaryTree({".clang-format": style, "common/a.cc": "int x;\n"}) as root:
        expect(check(root))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fix"]:
        os.chdir(ROOT)
        sys.exit(subprocess.run([formatter(), "--style=file", "-i", *sources()]).returncode)
    main(check, self_test)
