#!/usr/bin/env python3
"""Every golden row of IPv4 has its IPv6 twin, or says why none can exist.

A row is named `.name = "v4/<case>"`. Its twin is `.name = "v6/<case>"`; a row without one carries
`.no_twin = "reason"` between its own name and the next row's. The same holds the other way round.
"""
import re

from source_tree import TemporaryTree, code_only, expect, line_of, main, read, sources

NAME = re.compile(r'\.name\s*=\s*"(v4|v6)/([^"]+)"')
NO_TWIN = re.compile(r'\.no_twin\s*=\s*"([^"]*)"')


def check(root):
    rows, problems = {}, []
    for path in sources(root, folders=("tests/golden",)):
        text = code_only(read(root, path), keep_strings=True)
        found = list(NAME.finditer(text))
        for i, match in enumerate(found):
            end = found[i + 1].start() if i + 1 < len(found) else len(text)
            excuse = NO_TWIN.search(text, match.end(), end)
            place = f"{path}:{line_of(text, match.start())}"
            key = (match.group(1), match.group(2))
            if key in rows:
                problems.append(f'{place}: the row "{key[0]}/{key[1]}" exists already at '
                                f"{rows[key][0]}; rename one")
            rows[key] = (place, excuse)
    for (family, case), (place, excuse) in rows.items():
        twin = ("v6" if family == "v4" else "v4", case)
        if excuse and not excuse.group(1).strip():
            problems.append(f"{place}: .no_twin is empty; say why no twin can exist")
        elif excuse and twin in rows:
            problems.append(f"{place}: has .no_twin, but {twin[0]}/{case} exists; remove the line")
        elif not excuse and twin not in rows:
            problems.append(f'{place}: "{family}/{case}" has no twin "{twin[0]}/{case}"; write it, or '
                            'add .no_twin = "why none can exist" to this row')
    return problems


def self_test():
    def problems_of(text):
        with TemporaryTree({"tests/golden/rows.cc": text}) as root:
            return check(root)

    expect(problems_of('{.name = "v4/syn"},\n{.name = "v6/syn"}'))
    expect(problems_of('\n{.name = "v4/syn"}'), 'tests/golden/rows.cc:2: "v4/syn" has no twin "v6/syn"')
    expect(problems_of('{.name = "v6/packet_too_big"}'), 'has no twin "v4/packet_too_big"')
    expect(problems_of('{.name = "v4/options", .no_twin = "IPv6 has no header options"}'))
    expect(problems_of('{.name = "v4/options", .no_twin = ""}'), "say why")
    expect(problems_of('{.name = "v4/a", .no_twin = "x"}, {.name = "v6/a"}'), "remove the line")
    expect(problems_of('{.name = "v4/a"}, {.name = "v6/a"}, {.name = "v6/a"}'), "exists already")
    expect(problems_of('// {.name = "v4/a"}'))


if __name__ == "__main__":
    main(check, self_test)
