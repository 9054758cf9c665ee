"""control/api/README.md against running engines: metrics with their types, labels and values, names that
repeat, and every event."""
import collections
import os
import re
import socket
import time
import unittest

import documents
import frames
from failover_lab import GROUP, FailoverLab
from lab import ROOT, ApiError, http_get, wait_until
from runner import LabTest, main

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLE = re.compile(r'([a-z0-9_]+)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

# Where each event is provoked on a running engine: file and test.
EVENTS = {
    "SERVER_UP": ("reference_test.py", "test_marks_are_told_of_servers_and_services"),
    "SERVER_DOWN": ("reference_test.py", "test_marks_are_told_of_servers_and_services"),
    "SERVER_AT_LIMIT": ("limits_test.py", "test_at_its_limit_a_server_takes_nobody"),
    "VS_UP": ("reference_test.py", "test_marks_are_told_of_servers_and_services"),
    "VS_DOWN": ("reference_test.py", "test_marks_are_told_of_servers_and_services"),
    "PERSIST_TABLE_HIGH": ("limits_test.py", "test_no_purge_refuses_new_clients_and_keeps_old_ones"),
    "CONN_DROP_MAX_PERSIST_TBL": ("limits_test.py", "test_no_purge_refuses_new_clients_and_keeps_old_ones"),
    "FLOW_TABLE_FULL": ("limits_test.py", "test_a_full_flow_table_is_an_event"),
    "SNAT_EXHAUSTED": ("reference_test.py", "test_source_ports_that_run_out_are_told"),
    "ADDRESS_CONFLICT": ("neighbor_test.py", "test_another_owner_of_a_vip_is_an_event_and_changes_nothing"),
    "CONFIG_APPLIED": ("reference_test.py", "test_documents_are_told"),
    "CONFIG_REFUSED": ("reference_test.py", "test_documents_are_told"),
    "PEER_UP": ("reference_test.py", "test_a_peer_that_comes_and_goes_is_told"),
    "PEER_DOWN": ("reference_test.py", "test_a_peer_that_comes_and_goes_is_told"),
    "PEER_SYNCED": ("reference_test.py", "test_a_peer_that_comes_and_goes_is_told"),
    "GROUP_TAKEN": ("failover_test.py", "test_paths_are_cut_a_split_heals_and_connections_go_on"),
    "GROUP_RELEASED": ("failover_test.py", "test_paths_are_cut_a_split_heals_and_connections_go_on"),
}


def documented(heading):
    """The rows below a heading of the reference: lists of cells."""
    with open(os.path.join(ROOT, "control/api/README.md"), encoding="utf-8") as file:
        text = file.read().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
            if line.startswith("| `")]
    return rows


def documented_metrics():
    """{name: (type, labels that are always there, labels that may be)}"""
    found = {}
    for name, kind, labels, _ in documented("Metrics"):
        optional = set(re.findall(r"\(`(\w+)`\)", labels))
        found[name.strip("`")] = (kind, set(re.findall(r"`(\w+)`", labels)) - optional, optional)
    return found


class Scrape:
    """One answer of /metrics: types, and samples by the family's name."""

    def __init__(self, engine):
        self.text = engine.request("GET", "/metrics")[2].decode()
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.M))
        self.samples = collections.defaultdict(list)  # family: [(suffix, labels, value)]
        self.series = collections.Counter()
        for line in self.text.splitlines():
            if line.startswith("#"):
                continue
            self.series[line.rsplit(" ", 1)[0]] += 1
            name, labels, value = SAMPLE.fullmatch(line).groups()
            family, suffix = self.family_of(name)
            self.samples[family].append((suffix, dict(LABEL.findall(labels or "")), float(value)))

    def family_of(self, name):
        for suffix in ("_bucket", "_sum", "_count"):
            family = name.removesuffix(suffix)
            if family != name and self.types.get(family) == "histogram":
                return family, suffix
        return name, ""

    def value(self, name, **labels):
        """Sum of the series with these labels; of a histogram the count. None: there is none."""
        found = [value for suffix, have, value in self.samples[name]
                 if suffix in ("", "_count") and labels.items() <= have.items()]
        return sum(found) if found else None


class Reference(unittest.TestCase):
    """Two engines that have seen everything that a metric is about, as far as a lab can show it. Five
    clients of web-v4 have entries of which one is deleted; one of them has two connections open."""

    @classmethod
    def setUpClass(cls):
        cls.lab = lab = FailoverLab()
        cls.addClassCleanup(lab.close)
        document = lab.document(
            timeout_s=60, preempt=False, pool={"max_concurrent_connections_per_server": 1},
            profile={"server_recovery": {"at_limit": "HM_DOWN_CONTINUE_PERSISTENT_SERVER"}})
        for pool in document["Pool"]:
            if pool["name"] == "web-pool-v6":  # an address that nobody has
                pool["servers"].append({"ip": documents.address("fd00:2::77"), "enabled": False})
        for i in (0, 1):
            lab.start(i, document)
        lab.wait_until_synced()
        lab.wait_for_owner(0)
        cls.tell_engines_nonsense()
        clients = lab.clients["v4"]
        for client in clients[:4] + lab.clients["v6"][:2]:
            lab.get(client)
        lab.get(clients[0])  # has an entry
        cls.open = [lab.connect_tcp(clients[4])]
        http_get(cls.open[0])
        cls.open.append(lab.connect_tcp(clients[4]))  # above the limit of its server
        http_get(cls.open[1])
        for connection in cls.open:
            cls.addClassCleanup(connection.close)
        lab.udp(clients[0])
        try:
            lab.connect_tcp(clients[0], port=81).close()
        except ConnectionError:
            pass
        lab.running[0].api("DELETE", f"/v1/persistence-tables?client={clients[3]}&virtual_service=web-v4")
        lab.wait_until_equal()
        wait_until(lambda: lab.running[1].metrics()["limpet_table_saved"] == 1, 10, "the table on disk")
        lab.running[1].stop()
        lab.start(1, None)
        lab.wait_until_synced()
        lab.get(clients[5])  # something that happens while both are synced
        lab.wait_until_equal()
        time.sleep(1.2)  # status and connections are at most a second old
        cls.owner, cls.other = Scrape(lab.running[0]), Scrape(lab.running[1])

    @classmethod
    def tell_engines_nonsense(cls):
        """To its mirroring port, and as a heartbeat."""
        with cls.lab.sides[1].socket(socket.AF_INET, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(10)
            stranger.connect(("192.0.2.1", 9090))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            try:
                while stranger.recv(1000):
                    pass
            except ConnectionError:
                pass
        with cls.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("0.0.0.0", 9091))  # of another port it is no heartbeat

            def refused():
                stranger.sendto(bytes(200), ("10.1.0.201", 9091))
                return Scrape(cls.lab.running[0]).value("limpet_heartbeats_refused_total",
                                                        reason="not_authentic")
            wait_until(refused, 10, "a heartbeat that is refused", step_s=0.05)

    def test_metrics_have_the_documented_types_and_labels(self):
        wanted = documented_metrics()
        for scrape in (self.owner, self.other):
            self.assertEqual(sorted(scrape.types), sorted(wanted))
            for name, (kind, always, maybe) in wanted.items():
                self.assertEqual(scrape.types[name], kind, name)
                self.assertTrue(scrape.samples[name], f"{name} has no series")
                for suffix, labels, _ in scrape.samples[name]:
                    have = set(labels) - ({"le"} if suffix == "_bucket" else set())
                    self.assertLessEqual(always, have, name)
                    self.assertLessEqual(have, always | maybe, name)

    def test_no_series_is_there_twice(self):
        for scrape in (self.owner, self.other):
            self.assertEqual([s for s, n in scrape.series.items() if n > 1], [])

    def test_drops_have_the_documented_reasons(self):
        wanted = [name.strip("`") for name, _ in documented("Drop reasons")]
        found = [labels["reason"] for _, labels, _ in self.owner.samples["limpet_drops_total"]]
        self.assertEqual(sorted(found), sorted(wanted))

    def test_metrics_count_what_happened(self):
        web = {"tenant": "admin", "virtual_service": "web-v4"}
        pool = {"tenant": "admin", "pool": "web-pool-v4"}
        entries = 5 + 2 + 1  # of web-v4, web-v6 and echo-v4
        limit = 16384
        group, peer = {"group": GROUP}, {"peer": self.lab.engine_names()[1]}
        # (name, labels, at least, at most)
        rows = [
            ("limpet_build_info", {}, 1, 1),
            ("limpet_uptime_seconds", {}, 1, 300),
            ("limpet_config_generation", {}, 1, 1),
            ("limpet_control_delay_seconds", {}, 100, None),
            ("limpet_control_step_seconds", {}, 100, None),
            ("limpet_packets_total", {"port": "front", "direction": "rx"}, 40, None),
            ("limpet_packets_total", {"port": "back", "direction": "tx"}, 40, None),
            ("limpet_bytes_total", {"port": "front", "direction": "tx"}, 40 * 60, None),
            ("limpet_port_up", {"port": "front"}, 1, 1),
            ("limpet_drops_total", {"reason": "no_service"}, 1, None),
            ("limpet_packet_buffers", {}, limit, None),
            ("limpet_packet_buffers_in_use", {}, 0, limit),
            ("limpet_neighbors", {}, 6, None),
            ("limpet_neighbors_unresolved", {}, 1, 2),
            ("limpet_virtual_service_up", web, 1, 1),
            ("limpet_connections", web, 2, 2),
            ("limpet_connections_total", web, 8, 8),
            ("limpet_persistence_entries", web, 5, 5),
            ("limpet_server_up", pool, 3, 3),
            ("limpet_server_connections", pool, 2, 2),
            ("limpet_server_connections_total", pool, 8, 8),
            ("limpet_server_persistence_entries", pool, 5, 5),
            ("limpet_server_over_limit_total", pool, 1, None),
            ("limpet_server_snat_exhausted_total", {}, 0, 0),
            ("limpet_server_snat_reused_total", {}, 0, 0),
            ("limpet_snat_ports_in_use", {}, 2, None),
            ("limpet_worker_busy_ratio", {}, 0, 1),
            ("limpet_worker_flows", {}, 2, None),
            ("limpet_worker_flows_max", {}, limit, limit),
            ("limpet_worker_persistence_entries", {}, entries, None),
            ("limpet_worker_persistence_lookups_total", {"result": "new"}, entries + 1, None),
            ("limpet_flow_bytes", {}, 192, 192),
            ("limpet_flow_index_bytes", {}, 8, 32),
            ("limpet_persistence_entries_max", {}, limit, limit),
            ("limpet_persistence_entry_bytes", {}, 64, 64),
            ("limpet_persistence_memory_bytes", {}, limit * 64, None),
            ("limpet_persistence_lookups_total", {"result": "hit"}, 2, None),
            ("limpet_persistence_records", {}, entries, entries),
            ("limpet_persistence_ends_total", {"reason": "deleted"}, 1, 1),
            ("limpet_persistence_evictions_total", {"reason": "deleted"}, 1, 1),
            ("limpet_pen_packets", {}, 0, 0),
            ("limpet_replication_messages_total", {"message": "news"}, entries, None),
            ("limpet_replication_waits_total", {}, 0, 0),
            ("limpet_replication_merges_total", {}, 0, None),
            ("limpet_replication_activity_total", {}, 0, None),
            ("limpet_table_restored_total", {}, 0, 0),
            ("limpet_table_saved", {}, 0, 1),
            ("limpet_peer_synced", peer, 1, 1),
            ("limpet_peer_state", {**peer, "state": "synced"}, 1, 1),
            ("limpet_peer_lag_seconds", peer, 0, 5),
            ("limpet_peer_lag_entries", peer, 0, entries),
            ("limpet_peer_bytes_total", {**peer, "direction": "out"}, 100, None),
            ("limpet_peer_updates_total", {**peer, "direction": "out"}, entries, None),
            ("limpet_peer_resyncs_total", peer, 2, None),
            ("limpet_peer_held_back_total", peer, 0, 0),
            ("limpet_peer_rejected_total", {"peer": ""}, 1, None),
            ("limpet_peer_sessions_ended_total", peer, 1, None),
            ("limpet_peer_alive", peer, 1, 1),
            ("limpet_mirroring_entries", {}, entries, entries + 1),
            ("limpet_mirroring_tombstones", {}, 0, 1),
            ("limpet_mirroring_unnamed", {}, 0, 0),
            ("limpet_mirroring_dropped_total", {}, 0, 0),
            ("limpet_group_owner", group, 1, 1),
            ("limpet_group_term", group, 1, None),
            ("limpet_heartbeats_sent_total", {}, 10, None),
            ("limpet_heartbeats_received_total", {}, 10, None),
            ("limpet_heartbeats_refused_total", {}, 1, None),
            ("limpet_flows_readopted_total", {}, 0, 0),
        ]
        at_the_other = [
            ("limpet_group_owner", group, 0, 0),
            ("limpet_connections", web, 0, 0),
            ("limpet_persistence_entries", web, 5, 5),
            ("limpet_replication_merges_total", {"result": "taken"}, 1, None),
            ("limpet_table_restored_total", {"result": "restored"}, 1, None),
            ("limpet_peer_apply_lag_seconds", {}, 1, None),
        ]
        wrong = []
        for scrape, table in ((self.owner, rows), (self.other, at_the_other)):
            for name, labels, low, high in table:
                value = scrape.value(name, **labels)
                if value is None or value < low or (high is not None and value > high):
                    wrong.append(f"{name}{labels}: {value}, not {low} to {high}")
        self.assertEqual(wrong, [])
        self.assertEqual({name for name, *_ in rows + at_the_other}, set(documented_metrics()))

    def test_a_peer_that_comes_and_goes_is_told(self):
        names = [e["name"] for e in self.lab.running[0].events() if e["object"] == self.lab.engine_names()[1]]
        self.assertEqual(names, ["PEER_UP", "PEER_SYNCED", "PEER_DOWN", "PEER_UP", "PEER_SYNCED"])


class OneName(LabTest):
    """Objects of two tenants with one name, servers of one address and port, servers without a port."""

    def two_tenants(self):
        document = self.lab.document(timeout_s=60)
        keep = {"web-v4", "web-pool-v4", "vip-v4"}
        for model in ("Pool", "VsVip", "VirtualService"):
            document[model] = [o for o in document[model] if o["name"] in keep]
        service, pool, vip = (document[m][0] for m in ("VirtualService", "Pool", "VsVip"))
        document["VsVip"].append({**vip, "name": "vip-blue", "vip": [
            {"vip_id": "0", "ip_address": documents.address("10.1.0.101")}]})
        blue = {"tenant_ref": "/api/tenant/?name=blue"}
        document["Pool"].append({**pool, **blue, "uuid": "pool-blue"})
        document["VirtualService"].append({
            **service, **blue, "vsvip_ref": "/api/vsvip/?name=vip-blue", "pool_ref": "/api/pool/pool-blue"})
        return document

    def assert_refused(self, status, text, method, path, body=None):
        with self.assertRaises(ApiError) as refused:
            self.engine.api(method, path, body)
        self.assertEqual(refused.exception.status, status)
        self.assertIn(text, refused.exception.body["errors"][0]["message"])

    def test_tenants_tell_objects_of_one_name_apart(self):
        self.engine.apply(self.two_tenants())
        for target in ("10.1.0.100", "10.1.0.101"):
            self.lab.get("10.1.0.2", target)
        services = self.engine.api("GET", "/v1/status")["virtual_services"]
        self.assertEqual([(s["name"], s["tenant"], s["serving"], s["reason"]) for s in services],
                         [("web-v4", "admin", True, None), ("web-v4", "blue", True, None)])
        self.assertEqual(len({s["uuid"] for s in services}), 2)
        scrape = Scrape(self.engine)
        self.assertEqual([s for s, n in scrape.series.items() if n > 1], [])
        self.assertEqual(scrape.value("limpet_connections_total", tenant="blue", virtual_service="web-v4"), 1)

        explain = "/v1/explain?virtual_service=web-v4&client=10.1.0.2"
        self.assert_refused(404, "admin, blue", "GET", explain)
        self.assertEqual(self.engine.api("GET", f"{explain}&tenant=blue")["reason"], "entry")
        mark = {"pool": "web-pool-v4", "server": "10.2.0.2:80", "oper_status": "OPER_DOWN"}
        self.assert_refused(404, "admin, blue", "POST", "/v1/health-marks", [mark])
        self.engine.api("POST", "/v1/health-marks", [{**mark, "tenant": "blue"}])
        self.assertEqual(self.down(), [("blue", "10.2.0.2:80")])
        done = self.engine.limpetctl("mark", "web-pool-v4", "10.2.0.2:80", "clear", "--tenant", "blue")
        self.assertEqual((done.returncode, self.down()), (0, []))
        self.assertEqual(self.engine.api("DELETE", "/v1/persistence-tables?tenant=blue"), {"removed": 1})
        self.assertEqual(len(self.engine.entries()), 1)

    def down(self):
        return [(service["tenant"], server["server"])
                for service in self.engine.api("GET", "/v1/status")["virtual_services"]
                for server in service["servers"] if server["oper_status"] == "OPER_DOWN"]

    def test_a_server_on_the_clients_port_is_named_and_marked(self):
        self.engine.apply(self.lab.document(timeout_s=60, pool={"use_service_port": True}))
        self.engine.api("DELETE", "/v1/persistence-tables")
        server = self.lab.get("10.1.0.2")[0]
        address = self.lab.servers["v4"][self.lab.server_names.index(server)]
        self.assertEqual([r["server"] for r in self.engine.entries(server=f"{address}:*")], [f"{address}:*"])
        row = self.engine.limpetctl("get", "persistence-tables").stdout.splitlines()[1].split()
        self.assertEqual(row[1:3], [address, "*"])
        self.assertEqual(self.engine.limpetctl("mark", "web-pool-v4", f"{address}:*", "down").returncode, 0)
        self.assertEqual(self.down(), [("admin", f"{address}:*")])
        self.assertNotEqual(self.lab.get("10.1.0.2")[0], server)
        self.assert_refused(404, "has no server", "POST", "/v1/health-marks", [
            {"pool": "web-pool-v4", "server": f"{address}:080", "oper_status": "OPER_UP"}])


class Events(LabTest):
    engine_options = {"limits": {"persistence_entries": 1024, "flows_per_worker": 131072,
                                 "packet_buffers": 16384}}

    def events_since(self, start):
        return {(e["name"], e["object"]) for e in self.engine.events(after=start)}

    def last_event(self):
        return max([e["seq"] for e in self.engine.events()], default=0)

    def test_documents_are_told(self):
        start = self.last_event()
        self.apply()
        broken = self.lab.document()
        broken["Pool"][0]["lb_algorithm"] = 5
        with self.assertRaises(ApiError):
            self.engine.apply(broken)
        found = self.events_since(start)
        self.assertIn(("CONFIG_APPLIED", self.engine.name), found)
        self.assertIn(("CONFIG_REFUSED", self.engine.name), found)

    def test_marks_are_told_of_servers_and_services(self):
        self.apply()
        time.sleep(1.1)  # at most one event of a name and object in a second
        start = self.last_event()
        for name in self.lab.server_names:
            self.mark(name, "OPER_DOWN")
        objects = {f"web-pool-v4 {a}:80" for a in self.lab.servers["v4"]}
        self.assertLessEqual({("SERVER_DOWN", o) for o in objects} | {("VS_DOWN", "web-v4")},
                             self.events_since(start))
        for name in self.lab.server_names:
            self.mark(name, None)
        self.assertLessEqual({("SERVER_UP", o) for o in objects} | {("VS_UP", "web-v4")},
                             self.events_since(start))

    def test_source_ports_that_run_out_are_told(self):
        """Of one address towards one server there are fewer than 64,512, and each flow has one."""
        document = self.lab.document(udp_idle_s=30, persistent=False)
        for pool in document["Pool"]:
            pool["servers"] = pool["servers"][:1]
        self.engine.apply(document)
        start = self.last_event()
        own = self.lab.client.ip("-j", "link", "show", "eth0").stdout
        source_mac = re.search(r'"address":"([0-9a-f:]+)"', own).group(1)
        front_mac = self.engine.api("GET", "/v1/status")["ports"][0]["mac"]
        told = ("SNAT_EXHAUSTED", f"echo-pool-v4 {self.lab.servers['v4'][0]}:9053")
        with self.lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind(("eth0", 0))
            for client in self.lab.clients["v4"]:
                for port in range(1024, 65536):
                    link.send(frames.packet(source_mac, front_mac, client, self.lab.vips["v4"], frames.UDP,
                                            frames.udp(port, documents.ECHO_PORT, b"")))
                    if port % 4096 == 0 and told in self.events_since(start):
                        break
                if told in self.events_since(start):
                    break
        wait_until(lambda: told in self.events_since(start), 5, "SNAT_EXHAUSTED")
        scrape = Scrape(self.engine)
        self.assertGreater(scrape.value("limpet_server_snat_exhausted_total", pool="echo-pool-v4"), 0)
        self.assertGreater(scrape.value("limpet_drops_total", reason="snat_exhausted"), 0)

        # All have been used, so the first that is free again is one that was freed lately.
        def reused():
            self.echo(self.lab.clients["v4"][0])
            return Scrape(self.engine).value("limpet_server_snat_reused_total", pool="echo-pool-v4") > 0
        wait_until(reused, 60, "a port that is used again")
        again = "freed less than 60 s before, the last one of 10.2.0.1"
        wait_until(lambda: any(e["name"] == "SNAT_EXHAUSTED" and again in e["message"]
                               for e in self.engine.events(after=start)), 5, "the event")


class EveryEvent(unittest.TestCase):
    def test_each_event_of_the_reference_is_provoked_by_a_test(self):
        self.assertEqual(sorted(EVENTS), sorted(row[0].strip("`") for row in documented("Events")))
        for name, (file, test) in EVENTS.items():
            with open(os.path.join(HERE, file), encoding="utf-8") as source:
                text = source.read()
            body = text.split(f"def {test}(", 1)
            self.assertEqual(len(body), 2, f"{file} has no {test}")
            self.assertIn(name, body[1].split("\n    def ", 1)[0], f"{test} says nothing of {name}")


if __name__ == "__main__":
    main()
