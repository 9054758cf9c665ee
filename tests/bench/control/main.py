"""The command line, the table and the verdict of scripts/bench control."""
import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

from lab import UnixConnection, engine_binary
from machine import SKIPPED

BENCH = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path += [os.path.join(BENCH, "mirroring"), os.path.join(BENCH, "l4")]
# pylint: disable=wrong-import-position
from processes import Process, free_ports, until  # noqa: E402

STEP_MAX_S = 0.010
HEARTBEAT_MS, MISSES = 100, 5
STEPS, DELAYS = "limpet_control_step_seconds", "limpet_control_delay_seconds"


class Sizes:
    def __init__(self, services, servers, asked):
        self.services, self.servers, self.asked = services, servers, asked


FULL, QUICK, SMOKE = Sizes(5_000, 10, 10), Sizes(5_000, 10, 3), Sizes(40, 10, 2)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench control", description="The control thread of an engine with many virtual services, "
        "and a peer whose heartbeats it must not miss.")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="asks less often")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that it works, measures nothing")
    parser.add_argument("--services", type=int, metavar="N", help="virtual services, of ten servers each")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when the limit is missed")
    parser.add_argument("--cores", metavar="A,B", help="default: the first two allowed")
    return parser.parse_args()


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def address(base, index):
    return {"addr": f"{base}.{index // 65536}.{index // 256 % 256}.{index % 256}", "type": "V4"}


def document(sizes, engines, timeout_s=300, changed=False):
    """Servers behind one router, source NAT, everything in one group. changed: a server of each pool is another."""
    ref = "/api/{}/?name={}".format
    made = {
        "ApplicationPersistenceProfile": [{
            "name": "sticky", "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
            "ip_persistence_profile": {"timeout_seconds": timeout_s}}],
        "ServiceEngineGroup": [{"name": "group", "engines": engines}],
        "Pool": [], "VsVip": [], "VirtualService": []}
    for i in range(sizes.services):
        servers = [i * sizes.servers + n for n in range(sizes.servers)]
        if changed:
            servers[0] += sizes.services * sizes.servers
        made["Pool"].append({
            "name": f"pool-{i}", "default_server_port": 80, "lb_algorithm": "LB_ALGORITHM_CONSISTENT_HASH",
            "application_persistence_profile_ref": ref("applicationpersistenceprofile", "sticky"),
            "servers": [{"ip": address(20, n + 1)} for n in servers]})
        made["VsVip"].append({"name": f"vip-{i}", "vip": [{"vip_id": "0", "ip_address": address(30, i + 1)}]})
        made["VirtualService"].append({
            "name": f"web-{i}", "vsvip_ref": ref("vsvip", f"vip-{i}"), "services": [{"port": 80}],
            "pool_ref": ref("pool", f"pool-{i}"), "se_group_ref": ref("serviceenginegroup", "group"),
            "application_profile_ref": ref("applicationprofile", "System-L4-Application"),
            "network_profile_ref": ref("networkprofile", "System-TCP-Fast-Path")})
    return json.dumps(made)


class Engine:
    """One of two that mirror; each has a core, which its worker and its control thread share."""

    def __init__(self, folder, name, other, ports, core, sizes):
        self.name, self.core = name, core
        self.socket = os.path.join(folder, f"{name}.sock")
        self.config = os.path.join(folder, f"{name}.json")
        self.log = os.path.join(folder, f"{name}.log")
        blocks_mb = sizes.services * sizes.servers * 130 // 1024
        bootstrap = {
            "name": name, "control_core": core, "worker_cores": [core], "idle_sleep_us": 200,
            "memory": {"hugepages": False, "size_mb": 512 + blocks_mb * 9 // 8},
            "ports": [{"name": "front", "device": "net_null0,no-rx=1", "addresses": ["10.1.0.1/24"]},
                      {"name": "back", "device": "net_null1,no-rx=1", "addresses": ["10.2.0.1/24"]}],
            "routes": [{"prefix": "20.0.0.0/8", "next_hop": "10.2.0.254"}],
            "neighbors": [{"address": "10.2.0.254", "mac": "02:00:00:00:02:fe"}],
            "limits": {"persistence_entries": 8192, "flows_per_worker": 8192, "packet_buffers": 8192},
            "api": {"listen": f"unix:{self.socket}"},
            "mirroring": {"listen": f"127.0.0.1:{ports[name]}", "heartbeat_ms": HEARTBEAT_MS,
                          "heartbeat_misses": MISSES,
                          "peers": [{"name": other, "address": f"127.0.0.1:{ports[other]}"}]}}
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(bootstrap, file)
        self.process = Process([engine_binary(), "--config", self.config], self.log, {core})
        until(lambda: self.process.listens_at(self.socket), "the API")

    def ask(self, method, path, body=None):
        connection = UnixConnection(self.socket, 120)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
        return text

    def histogram(self, name):
        """{upper bound: how many up to it}"""
        found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', self.ask("GET", "/metrics"), re.M)
        return {float(bound): float(count) for bound, count in found}

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.ask("GET", "/metrics"), re.M).group(1))

    def owns(self):
        groups = json.loads(self.ask("GET", "/v1/status"))["groups"]
        return any(g["name"] == "group" and g["state"] == "owner" for g in groups)

    def events(self, *names):
        found, after = [], 0
        while True:
            page = json.loads(self.ask("GET", f"/v1/events?limit=1000&after={after}"))
            if not page["events"]:
                return found
            found += [e for e in page["events"] if e["name"] in names]
            after = page["next"]

    def stop(self):
        self.process.stop()


def longest(before, after):
    """The bound of the last bucket that something fell into; 0: nothing happened."""
    result, below = 0.0, 0.0
    for bound in sorted(after):
        count = after[bound] - before[bound]
        if count > below:
            result, below = bound, count
    return result


class Measure:
    def __init__(self, engine):
        self.engine, self.results = engine, []

    def __call__(self, name, what):
        before = [self.engine.histogram(h) for h in (STEPS, DELAYS)]
        began = time.monotonic()
        what()
        took = time.monotonic() - began
        after = [self.engine.histogram(h) for h in (STEPS, DELAYS)]
        step, delay = (longest(b, a) for b, a in zip(before, after))
        self.results.append({"name": name, "seconds": took, "step_s": step, "delay_s": delay,
                             "steps": after[0][float("inf")] - before[0][float("inf")],
                             "limit_s": STEP_MAX_S, "ratio": step / STEP_MAX_S})
        say(f"{name}: {took:.2f} s, no step longer than {step * 1e3:g} ms")


def marks(sizes, status):
    return json.dumps([{"pool": f"pool-{i}", "server": f"{address(20, i * sizes.servers + 1)['addr']}:80",
                        "oper_status": status} for i in range(sizes.services)])


def run(folder, cores, sizes):
    names = [f"bench-{os.getpid()}-{letter}" for letter in "ab"]
    ports = dict(zip(names, free_ports(2)))
    with contextlib.ExitStack() as stack:
        first, second = (Engine(folder, name, other, ports, core, sizes)
                         for name, other, core in zip(names, reversed(names), cores))
        for engine in (first, second):
            stack.callback(engine.stop)
        until(lambda: "PEER_SYNCED" in {e["name"] for e in first.events("PEER_SYNCED")}, "a session")
        measure = Measure(first)
        text = document(sizes, names)
        measure("first document", lambda: first.ask("PUT", "/v1/config", text))
        until(first.owns, "the group's owner")
        second.ask("PUT", "/v1/config", text)
        measure("nothing asked, 3 s", lambda: time.sleep(3))

        def ask_often(*paths):
            for _ in range(sizes.asked):
                for path in paths:
                    first.ask("GET", path)
        measure("status", lambda: ask_often("/v1/status"))
        measure("metrics", lambda: ask_often("/metrics"))
        measure("explain, listings", lambda: ask_often(
            "/v1/explain?virtual_service=web-7&client=10.1.0.9",
            "/v1/persistence-tables?virtual_service=web-7", "/v1/persistence-tables?pool=pool-7"))
        measure("deletion", lambda: first.ask("DELETE", "/v1/persistence-tables?virtual_service=web-7"))
        one = json.dumps([{"pool": "pool-7", "server": f"{address(20, 7 * sizes.servers + 1)['addr']}:80",
                           "oper_status": "OPER_DOWN"}])
        measure("one mark", lambda: first.ask("POST", "/v1/health-marks", one))
        measure("a mark in each pool", lambda: first.ask("POST", "/v1/health-marks", marks(sizes, "OPER_DOWN")))
        measure("taken back", lambda: first.ask("POST", "/v1/health-marks", marks(sizes, None)))
        measure("other timeout", lambda: first.ask("PUT", "/v1/config", document(sizes, names, timeout_s=60)))
        changed = document(sizes, names, timeout_s=60, changed=True)
        measure("a tenth of the servers", lambda: first.ask("PUT", "/v1/config", changed))
        second.ask("PUT", "/v1/config", changed)
        lost = [e for engine in (first, second) for e in engine.events("PEER_DOWN", "GROUP_RELEASED")]

        def kill():
            second.process.child.send_signal(signal.SIGKILL)
            until(lambda: first.events("PEER_DOWN"), "the peer's end")
        second_owned = second.owns()
        measure("the peer dies", kill)
        measure("empty document", lambda: first.ask("PUT", "/v1/config", "{}"))
        measure("slots given back, 3 s", lambda: time.sleep(3))
        return measure.results, lost, second_owned


def main():
    options = arguments()
    sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
    if options.services:
        sizes = Sizes(options.services, sizes.servers, sizes.asked)
    if not os.path.exists(engine_binary()):
        print("skipped: limpet-se is not built", file=sys.stderr)
        return SKIPPED
    cores = [int(c) for c in options.cores.split(",")] if options.cores else sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        cores *= 2
    folder = tempfile.mkdtemp(prefix="limpet-bench-")
    try:
        results, lost, strange = run(folder, cores, sizes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{sizes.services} virtual services of {sizes.servers} servers\n"
          f"{'':<24}{'took':>9}{'steps':>9}{'longest step':>14}{'of 10 ms':>10}{'timer late':>12}")
    for r in results:
        print(f"{r['name']:<24}{r['seconds']:>7.2f} s{r['steps']:>9.0f}{r['step_s'] * 1e3:>11g} ms{r['ratio']:>10.2f}"
              f"{r['delay_s'] * 1e3:>9g} ms")
    print("\n  Step: processor time of a turn of the control loop, as the upper bound of its bucket in\n"
          f"  {STEPS}. Late: {DELAYS},\n  which is what other programs on the core cost, too.\n"
          f"  Heartbeats each {HEARTBEAT_MS} ms, {MISSES} may be missed: {len(lost)} peers lost before one was killed.")
    missed = [r for r in results if r["step_s"] > STEP_MAX_S]
    for r in missed:
        print(f"  MISSED: {r['name']}: a step of more than 10 ms")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"results": results, "peers_lost": len(lost)}, file, indent=1)
    if lost or strange:
        print(f"  MISSED: {lost}, second engine an owner: {strange}")
    return 1 if options.strict and (missed or lost or strange) else 0
