#!/usr/bin/env python3
"""Who may include whom.

LEAVES gives for every leaf folder the leaf folders it may include directly. Being a list, it also
is the picture of the architecture: a new edge is a decision, not an accident. What the edges must
never allow, even over several steps, is in FORBIDDEN_REACH. SYSTEM_HEADERS says where the headers
of DPDK belong.
"""
import re

from source_tree import TemporaryTree, code_only, expect, line_of, main, read, sources

COMMON = ["common/base", "common/net", "common/timing", "common/telemetry", "common/binding"]

# leaf -> what it may include, beside itself.
LEAVES = {
    "common/base": [],
    "common/net": ["common/base"],
    "common/timing": ["common/base"],
    "common/telemetry": ["common/base", "common/net", "common/timing"],
    # What cores, engines and controllers know of a binding, and how two of them agree.
    "common/binding": ["common/base", "common/net", "common/timing"],

    "dataplane/packet": COMMON,
    "dataplane/ring": COMMON,
    "dataplane/snapshot": COMMON,
    "dataplane/balance": COMMON + ["dataplane/snapshot"],
    "dataplane/persist": COMMON + ["dataplane/snapshot"],
    "dataplane/port": COMMON + ["dataplane/packet", "dataplane/ring"],
    # A home chooses servers: balance.
    "dataplane/replication": COMMON + ["dataplane/persist", "dataplane/ring", "dataplane/snapshot",
                                       "dataplane/balance"],
    # How frames leave; what l4, tcp and the slow path send by.
    "dataplane/egress": COMMON + ["dataplane/packet", "dataplane/snapshot"],
    # Whom a client belongs to; what l4 and proxy ask.
    "dataplane/affinity": COMMON + ["dataplane/packet", "dataplane/snapshot", "dataplane/balance",
                                    "dataplane/persist", "dataplane/replication"],
    "dataplane/l4": COMMON + ["dataplane/packet", "dataplane/snapshot", "dataplane/persist",
                              "dataplane/balance", "dataplane/replication", "dataplane/egress",
                              "dataplane/affinity"],
    "dataplane/tcp": COMMON + ["dataplane/packet", "dataplane/egress"],
    "dataplane/tls": COMMON + ["dataplane/snapshot"],
    "dataplane/http": COMMON + ["dataplane/snapshot"],
    "dataplane/script": COMMON + ["dataplane/snapshot", "dataplane/persist"],
    "dataplane/proxy": COMMON + ["dataplane/packet", "dataplane/snapshot", "dataplane/persist",
                                 "dataplane/balance", "dataplane/replication", "dataplane/egress",
                                 "dataplane/affinity", "dataplane/tcp", "dataplane/tls",
                                 "dataplane/http", "dataplane/script"],
    "dataplane/worker": COMMON + ["dataplane/packet", "dataplane/port", "dataplane/ring",
                                  "dataplane/snapshot", "dataplane/balance", "dataplane/persist",
                                  "dataplane/replication", "dataplane/egress",
                                  "dataplane/affinity", "dataplane/l4", "dataplane/proxy"],

    "control/config": COMMON,
    "control/cli": COMMON,
    "control/controller": COMMON + ["control/config", "control/mirroring"],
    "control/health": COMMON + ["control/config"],
    "control/compile": COMMON + ["control/config", "control/health", "dataplane/snapshot",
                                 "dataplane/balance", "dataplane/persist"],
    "control/api": COMMON + ["control/config"],
    "control/mirroring": COMMON,
    # Who owns a group; beats are sealed with the cluster's key and name boots as mirroring does.
    "control/failover": COMMON + ["control/mirroring"],
    "control/slowpath": COMMON + ["dataplane/packet", "dataplane/snapshot", "dataplane/egress",
                                  "dataplane/ring"],
    # The composition root: it may see everything.
    "control/engine": COMMON + ["control/config", "control/health", "control/compile",
                                "control/api", "control/mirroring", "control/failover",
                                "control/slowpath",
                                "dataplane/packet", "dataplane/port", "dataplane/ring",
                                "dataplane/snapshot", "dataplane/balance", "dataplane/persist",
                                "dataplane/replication", "dataplane/egress", "dataplane/affinity",
                                "dataplane/l4", "dataplane/worker"],
}

# (leaf, what it must not reach over any number of includes, why)
FORBIDDEN_REACH = [
    ("control/config", "dataplane/", "a management host has no DPDK"),
    ("control/controller", "dataplane/", "a management host has no DPDK"),
    ("control/cli", "dataplane/", "a management host has no DPDK"),
    ("dataplane/tcp", "dataplane/tls", "proxy joins them"),
    ("dataplane/tcp", "dataplane/http", "proxy joins them"),
    ("dataplane/tls", "dataplane/tcp", "proxy joins them"),
    ("dataplane/tls", "dataplane/http", "proxy joins them"),
    ("dataplane/http", "dataplane/tcp", "proxy joins them"),
    ("dataplane/http", "dataplane/tls", "proxy joins them"),
    ("dataplane/proxy", "dataplane/l4", "what both need is in egress and affinity"),
    ("dataplane/l4", "dataplane/tcp", "what both need is in egress and affinity"),
    ("control/slowpath", "dataplane/l4", "it only sends: egress"),
    ("control/mirroring", "dataplane/", "a controller is a peer, and has no DPDK"),
]

# (pattern of system headers, where they may be included). The first that matches decides.
SYSTEM_HEADERS = [
    (r"rte_(mbuf|mempool)\w*\.h", ["dataplane/port/", "dataplane/packet/buffer.h",
                                   "tests/support/", "tests/bench/"]),
    (r"rte_ring\w*\.h", ["dataplane/ring/", "tests/support/"]),
    (r"rte_(rcu_qsbr|fib6?|rib6?)\.h", ["dataplane/snapshot/"]),
    (r"rte_(ip_frag|gso|gro|ip|ether|tcp|udp|icmp|arp|net)\w*\.h",
     ["dataplane/packet/", "tests/support/"]),
    (r"rte_telemetry\.h", ["control/api/"]),
    # Hardware-neutral inline helpers: no EAL, no memory, no threads.
    (r"rte_(hash_crc|jhash|prefetch|branch_prediction|common|byteorder|vect|pause)\.h",
     ["dataplane/", "tests/"]),
    (r"rte_hash\.h", ["tests/bench/"]),
    # Telemetry's socket and the fragment tables need an EAL; their tests have to start one.
    (r"rte_eal\.h", ["dataplane/port/", "tests/"]),
    # Everything else of DPDK: devices, EAL, the TSC.
    (r"rte_\w+\.h", ["dataplane/port/", "tests/bench/"]),
    (r"boost/(asio|beast)(/|\.hpp).*", ["control/", "tests/"]),
    (r"(nlohmann/json.*\.hpp)", ["control/", "common/telemetry/", "tests/"]),
    (r"(openssl/.*|pcap(/.*)?\.h)", ["control/", "dataplane/tls/", "dataplane/port/", "tests/"]),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)


def leaf_of(path):
    """"dataplane/packet" for "dataplane/packet/parse.h"; None for a path outside the three layers."""
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 and parts[0] != "tests" else None


def includes(root, path):
    """[(line, quote, included)]"""
    text = code_only(read(root, path), keep_strings=True)
    return [(line_of(text, m.start(2)), m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]


def check_own(path, line, included, problems):
    top = included.split("/")[0]
    if top not in ("common", "dataplane", "control", "tests"):
        problems.append(f'{path}:{line}: "{included}" is not written from the top of the tree; '
                        'write "layer/leaf/file.h", or <...> for a system header')
        return
    if path.startswith("tests/"):
        return
    if top == "tests":
        problems.append(f"{path}:{line}: {included}: product code must not include tests")
        return
    leaf, other = leaf_of(path), leaf_of(included)
    if leaf == other:
        return
    if leaf not in LEAVES:
        problems.append(f"{path}:{line}: leaf folder {leaf} is not in LEAVES of "
                        "scripts/check_layers.py; add it with what it may include")
    elif other not in LEAVES[leaf]:
        problems.append(f"{path}:{line}: {leaf} must not include {included}; move what is shared "
                        f"to a lower leaf, or pass it in (LEAVES in scripts/check_layers.py)")


def check_system(path, line, included, problems):
    for pattern, places in SYSTEM_HEADERS:
        if re.fullmatch(pattern, included):
            if not path.startswith(tuple(places)):
                problems.append(f"{path}:{line}: <{included}> belongs in {', '.join(places)}; use "
                                "what that folder offers (SYSTEM_HEADERS in scripts/check_layers.py)")
            return


def check_reach(graph, problems):
    """graph: {path: [(line, included path)]}. Follows includes over any number of steps."""
    for leaf, target, why in FORBIDDEN_REACH:
        for start in sorted(graph):
            if leaf_of(start) != leaf:
                continue
            seen, trail = {start}, [(start, [])]
            while trail:
                path, steps = trail.pop()
                for line, included in graph.get(path, []):
                    if included.startswith(target) and not (
                            target == leaf_of(included) == leaf):
                        way = " -> ".join([s for s in steps + [path]] + [included])
                        first = next((l for l, i in graph[start] if i == (steps + [path, included])[1]),
                                     line)
                        problems.append(f"{start}:{first}: {leaf} must not reach {target} "
                                        f"({why}): {way}")
                        trail = []
                        break
                    if included not in seen:
                        seen.add(included)
                        trail.append((included, steps + [path]))


def check_cycles(edges, problems):
    """edges: {leaf: {leaf: (path, line)}}. Leaf folders include one another in one direction only."""
    done, active = set(), []

    def visit(leaf):
        if leaf in active:
            cycle = active[active.index(leaf):] + [leaf]
            path, line = edges[cycle[-2]][cycle[-1]]
            problems.append(f"{path}:{line}: the leaf folders go round in a circle: "
                            + " -> ".join(cycle) + "; break it at its weakest edge")
            return
        if leaf in done:
            return
        active.append(leaf)
        for other in edges.get(leaf, {}):
            visit(other)
        active.pop()
        done.add(leaf)

    for leaf in sorted(edges):
        visit(leaf)


def check(root):
    problems, graph, edges = [], {}, {}
    for path in sources(root):
        graph[path] = []
        for line, quote, included in includes(root, path):
            if quote == "<":
                check_system(path, line, included, problems)
                continue
            check_own(path, line, included, problems)
            graph[path].append((line, included))
            leaf, other = leaf_of(path), leaf_of(included)
            if leaf and other and leaf != other:
                edges.setdefault(leaf, {}).setdefault(other, (path, line))
    check_reach(graph, problems)
    check_cycles(edges, problems)
    return problems


def self_test():
    def problems_of(files):
        with TemporaryTree(files) as root:
            return check(root)

    expect(problems_of({"dataplane/packet/a.h": '#include "common/net/address.h"\n',
                        "common/net/address.h": "#include <vector>\n"}))
    expect(problems_of({"common/net/a.h": '\n#include "dataplane/packet/b.h"\n',
                        "dataplane/packet/b.h": ""}),
           "common/net/a.h:2: common/net must not include dataplane/packet/b.h")
    expect(problems_of({"dataplane/l4/a.h": '#include "flow.h"\n'}), "from the top of the tree")
    expect(problems_of({"dataplane/l4/a.h": '#include "tests/support/b.h"\n'}), "must not include tests")
    expect(problems_of({"dataplane/newleaf/a.h": '#include "common/net/b.h"\n'}), "not in LEAVES")
    expect(problems_of({"dataplane/l4/a.h": "#include <rte_ethdev.h>\n"}), "<rte_ethdev.h> belongs in")
    expect(problems_of({"dataplane/l4/a.h": "#include <rte_ring.h>\n"}), "belongs in dataplane/ring/")
    expect(problems_of({"dataplane/l4/a.h": "#include <rte_cycles.h>\n"}), "belongs in dataplane/port/")
    expect(problems_of({"dataplane/packet/a.h": "#include <rte_mbuf.h>\n"}), "dataplane/packet/buffer.h")
    expect(problems_of({"dataplane/packet/buffer.h": "#include <rte_mbuf.h>\n",
                        "dataplane/ring/a.cc": "#include <rte_ring.h>\n",
                        "dataplane/snapshot/a.cc": "#include <rte_rcu_qsbr.h>\n",
                        "control/api/a.cc": "#include <rte_telemetry.h>\n"}))
    expect(problems_of({"control/mirroring/a.h": '#include "dataplane/persist/table.h"\n',
                        "dataplane/persist/table.h": ""}),
           "control/mirroring must not include dataplane/persist/table.h",
           "control/mirroring must not reach dataplane/")
    # Two steps: each edge alone is allowed in LEAVES, the way is not.
    expect(problems_of({"control/slowpath/a.h": '#include "dataplane/egress/b.h"\n',
                        "dataplane/egress/b.h": '#include "dataplane/l4/c.h"\n',
                        "dataplane/l4/c.h": ""}),
           "dataplane/egress must not include dataplane/l4/c.h",
           "control/slowpath must not reach dataplane/l4 (it only sends: egress): "
           "control/slowpath/a.h -> dataplane/egress/b.h -> dataplane/l4/c.h")
    expect(problems_of({"dataplane/l4/a.h": '// #include "control/api/b.h"\n'}))


if __name__ == "__main__":
    main(check, self_test)
