#!/usr/bin/env python3
"""control/api/README.md names what there is, and nothing else; a test on a real engine has each name.

Compared, both ways: metrics ("limpet_…" in control/ and common/), events (telemetry::to_string()),
drop reasons (packet::kDropReasonNames), the endpoints with their parameters (control/api/service.cc)
and the commands of DPDK telemetry. Names of metrics and events have to occur below tests/e2e.
"""
import os
import re

from source_tree import TemporaryTree, code_only, expect, main, read, sources

README = "control/api/README.md"
EVENTS, DROPS = "common/telemetry/events.cc", "dataplane/packet/verdict.h"
SERVICE, TELEMETRY = "control/api/service.cc", "control/api/telemetry.cc"

METRIC = re.compile(r'"(limpet_[a-z0-9_]+)"')
EVENT = re.compile(r'return\s+"([A-Z][A-Z_]+)"')
DROP_NAMES = re.compile(r"kDropReasonNames\s*=\s*\{([^}]*)\}")
PLACE = re.compile(r'Place\{"([^"]+)",\s*"([A-Z]+)",\s*Endpoint::(\w+)\}')
CASE = re.compile(r"case Endpoint::(\w+):")
READER = re.compile(r"QueryReader query\(\s*target,\s*\{([^}]*)\}")
COMMAND = re.compile(r'"(/limpet/[a-z]+)"')
TEXT = re.compile(r'"([^"]*)"')

HEADING = re.compile(r"^(#+) (.*)$", re.M)
FIRST_CELL = re.compile(r"^\|([^|]*)\|", re.M)
QUOTED = re.compile(r"`([^`]+)`")


def code(root, path):
    return code_only(read(root, path), keep_strings=True)


def sections(text):
    """{heading: what stands below it, up to the next heading}"""
    found = list(HEADING.finditer(text))
    ends = [heading.start() for heading in found[1:]] + [len(text)]
    return {heading.group(2): text[heading.end():end] for heading, end in zip(found, ends)}


def table_names(text):
    """What the first cells of the tables quote."""
    return {name for cell in FIRST_CELL.findall(text) for name in QUOTED.findall(cell)}


def parameters_in_code(text):
    """{endpoint: names}: the reader that follows the endpoint's case."""
    cases = list(CASE.finditer(text))
    found = {}
    for case, following in zip(cases, cases[1:] + [None]):
        reader = READER.search(text, case.end(), following.start() if following else len(text))
        found.setdefault(case.group(1), set())
        if reader:
            found[case.group(1)] |= set(TEXT.findall(reader.group(1)))
    return found


def differences(what, there, told):
    return ([f"{README}: {what} {name} is missing; describe it" for name in sorted(there - told)] +
            [f"{README}: there is no {what} {name}; take it out" for name in sorted(told - there)])


def check(root):
    told = sections(read(root, README))
    metrics = {name for path in sources(root, folders=("control", "common"))
               for name in METRIC.findall(code(root, path))}
    events = set(EVENT.findall(code(root, EVENTS))) - {"UNKNOWN"}
    drops = set(TEXT.findall(DROP_NAMES.search(code(root, DROPS)).group(1)))
    problems = []
    for what, there, heading in (("metric", metrics, "Metrics"), ("event", events, "Events"),
                                 ("drop reason", drops, "Drop reasons"),
                                 ("command", set(COMMAND.findall(code(root, TELEMETRY))),
                                  "DPDK telemetry")):
        problems += differences(what, there, table_names(told.get(heading, "")))

    service = code(root, SERVICE)
    places = {f"{method} {path}": endpoint for path, method, endpoint in PLACE.findall(service)}
    headings = {heading.strip("`"): text for heading, text in told.items() if " /" in heading}
    problems += differences("endpoint", set(places), set(headings))
    parameters = parameters_in_code(service)
    for place, endpoint in places.items():
        named = set() if endpoint == "kStatus" else table_names(headings.get(place, ""))
        problems += differences(f"parameter of {place}", parameters.get(endpoint, set()), named)

    tests = "\n".join(read(root, path) for path in
                      sources(root, suffixes=(".py",), folders=("tests/e2e",)))
    for name in sorted(metrics | events):
        if not re.search(rf"\b{name}\b", tests):
            problems.append(f"tests/e2e: no test has {name}; see to it on a running engine")
    return problems


TREE = {
    README: """# Reference
### `GET /v1/status`

| | |
|---|---|
| `ports` | of the answer |

### `GET /v1/events`

| parameter | |
|---|---|
| `after`, `limit` | |

## Metrics
| name | type | labels | meaning |
|---|---|---|---|
| `limpet_flows` | gauge | `core` | |

## Events
| `VS_UP` | a virtual service |

## Drop reasons
| `no_route` | no `way` |

## DPDK telemetry
| `/limpet/status` | `name` |
""",
    "control/engine/views.cc": 'gauge("limpet_flows", ""); // "limpet_comment"',
    EVENTS: 'case kVsUp:\n return "VS_UP";\n return "UNKNOWN";',
    DROPS: 'kDropReasonNames = {\n    "no_route"};',
    SERVICE: 'Place{"/v1/status", "GET", Endpoint::kStatus}, Place{"/v1/events", "GET", Endpoint::kEvents},'
             ' case Endpoint::kEvents: { QueryReader query(target, {"after", "limit"}); }'
             ' case Endpoint::kStatus: break;',
    TELEMETRY: 'check("/limpet/status", 0);',
    "tests/e2e/some_test.py": "limpet_flows VS_UP",
}


def self_test():
    def problems_of(**changed):
        names = {"readme": README, "views": "control/engine/views.cc", "events": EVENTS, "drops": DROPS,
                 "service": SERVICE, "telemetry": TELEMETRY, "tests": "tests/e2e/some_test.py"}
        tree = dict(TREE)
        for name, (old, new) in changed.items():
            assert old in tree[names[name]], old
            tree[names[name]] = tree[names[name]].replace(old, new)
        with TemporaryTree(tree) as root:
            return check(root)

    expect(problems_of())
    expect(problems_of(views=('"limpet_flows"', '"limpet_flows" "limpet_flows_max"')),
           "metric limpet_flows_max is missing", "no test has limpet_flows_max")
    expect(problems_of(readme=("`limpet_flows`", "`limpet_flow`")),
           "metric limpet_flows is missing", "no metric limpet_flow;")
    expect(problems_of(events=('"VS_UP"', '"VS_UP" return "VS_DOWN"')),
           "event VS_DOWN is missing", "no test has VS_DOWN")
    expect(problems_of(readme=("| `VS_UP`", "| `VS_UP`, `VS_GONE`")), "there is no event VS_GONE")
    expect(problems_of(drops=('"no_route"', '"no_route", "no_way"')), "drop reason no_way is missing")
    expect(problems_of(telemetry=("/limpet/status", "/limpet/drops")),
           "command /limpet/drops is missing", "no command /limpet/status")
    expect(problems_of(service=('"GET", Endpoint::kStatus', '"PUT", Endpoint::kStatus')),
           "endpoint PUT /v1/status is missing", "no endpoint GET /v1/status")
    expect(problems_of(service=('"limit"', '"limit", "name"')),
           "parameter of GET /v1/events name is missing")
    expect(problems_of(readme=("`after`, `limit`", "`after`, `limit`, `name`")),
           "no parameter of GET /v1/events name")
    # A longer name is another one.
    expect(problems_of(tests=("limpet_flows", "limpet_flows_max")), "no test has limpet_flows")
    expect(problems_of(tests=("VS_UP", "VS_UPS")), "no test has VS_UP")


if __name__ == "__main__":
    main(check, self_test)
