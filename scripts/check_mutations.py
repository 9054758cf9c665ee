#!/usr/bin/env python3
"""Every text that a mutation of tests/sim/mutations.py replaces is in its file exactly once.

So the table cannot rot: whoever changes that code adapts the mutation.
"""
import importlib.util
import os

from source_tree import TemporaryTree, expect, main, read

TABLE = "tests/sim/mutations.py"


def mutations(root):
    spec = importlib.util.spec_from_file_location("mutations", os.path.join(root, TABLE))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MUTATIONS + getattr(module, "CLUSTER_MUTATIONS", [])


def check(root):
    problems, seen = [], set()
    for number, _, replacements, also in mutations(root):
        if number in seen:
            problems.append(f"{TABLE}: mutation {number} is there twice")
        seen.add(number)
        for path, old, new in replacements:
            if not os.path.exists(os.path.join(root, path)):
                problems.append(f"{TABLE}: mutation {number}: there is no {path}")
                continue
            count = read(root, path).count(old)
            if count != 1 or old == new:
                problems.append(f"{TABLE}: mutation {number}: its text is {count} times in {path}; "
                                "adapt it to the code")
        if not any(path.endswith(".cc") for path, _, _ in replacements) and not also:
            problems.append(f"{TABLE}: mutation {number}: nothing would be compiled")
    return problems


def self_test():
    def problems_of(replacements, also=(), text="one two two"):
        table = f"MUTATIONS = [(1, 'x', {replacements!r}, {list(also)!r})]"
        with TemporaryTree({TABLE: table, "a.cc": text, "a.h": text}) as root:
            return check(root)

    expect(problems_of([("a.cc", "one", "1")]))
    expect(problems_of([("a.cc", "two", "2")]), "2 times in a.cc")
    expect(problems_of([("a.cc", "three", "3")]), "0 times in a.cc")
    expect(problems_of([("b.cc", "one", "1")]), "there is no b.cc")
    expect(problems_of([("a.h", "one", "1")]), "nothing would be compiled")
    expect(problems_of([("a.h", "one", "1")], ["a.cc"]))


if __name__ == "__main__":
    main(check, self_test)
