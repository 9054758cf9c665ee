"""What runs out: the persist table, the flow table, a server's connections; and the events that say so."""
import json
import os
import subprocess
import tempfile
import unittest

import documents
import frames
from lab import ApiError, engine_binary, wait_until
from runner import LabTest, main


class Limited(LabTest):
    def events_since(self, start, name):
        return [e for e in self.engine.events(after=start) if e["name"] == name]

    def last_event(self):
        return max([e["seq"] for e in self.engine.events()], default=0)


class SmallTable(Limited):
    engine_options = {"limits": {"persistence_entries": 4, "flows_per_worker": 1024,
                                 "packet_buffers": 16384}}

    def test_no_purge_refuses_new_clients_and_keeps_old_ones(self):
        self.apply(timeout_s=60, profile={"purge": "NO_PURGE"})
        start = self.last_event()
        old = self.reached(self.lab.clients["v4"][:4])
        wait_until(lambda: self.events_since(start, "PERSIST_TABLE_HIGH"), 3, "PERSIST_TABLE_HIGH")
        self.assertEqual(self.web(self.lab.clients["v4"][4]), "refused")
        self.assertEqual({c: self.web(c) for c in old}, old)
        wait_until(lambda: self.events_since(start, "CONN_DROP_MAX_PERSIST_TBL"), 3, "the event")
        self.assertEqual(len(self.engine.entries()), 4)

    def test_full_evicts_the_longest_idle(self):
        self.apply(timeout_s=60)
        clients = self.lab.clients["v6"]
        for client in clients[:5]:
            self.assertTrue(self.is_served(client), client)
        self.assertEqual({r["key"] for r in self.engine.entries()}, set(clients[1:5]))


class SmallFlowTable(Limited):
    engine_options = {"limits": {"persistence_entries": 1024, "flows_per_worker": 2,
                                 "packet_buffers": 16384}}

    def test_a_full_flow_table_is_an_event(self):
        self.apply(timeout_s=60)
        start = self.last_event()
        first, second, third = self.lab.clients["v4"][:3]
        with self.lab.connect_tcp(first), self.lab.connect_tcp(second):
            self.assertEqual(self.web(third), "refused")
            wait_until(lambda: self.events_since(start, "FLOW_TABLE_FULL"), 3, "FLOW_TABLE_FULL")
        wait_until(lambda: self.is_served(third), 20, "room again")


class FullServers(Limited):
    def test_at_its_limit_a_server_takes_nobody(self):
        self.apply(timeout_s=60, pool={"max_concurrent_connections_per_server": 1})
        start = self.last_event()
        clients = self.lab.clients["v4"]
        open_connections = [self.lab.connect_tcp(c) for c in clients[:3]]
        try:
            self.assertEqual(self.web(clients[3]), "refused")
            wait_until(lambda: self.events_since(start, "SERVER_AT_LIMIT"), 3, "SERVER_AT_LIMIT")
        finally:
            for connection in open_connections:
                connection.close()
        wait_until(lambda: self.is_served(clients[3]), 5, "a place given back")


class SourcePorts(Limited):
    """Eight source addresses, and room for about forty blocks of source ports."""

    engine_options = {"memory": {"hugepages": False, "size_mb": 65}, "snat": ["10.2.0.32/29"],
                      "limits": {"persistence_entries": 1024, "flows_per_worker": 1024,
                                 "packet_buffers": 15000}}

    def test_a_document_that_needs_more_is_refused_and_the_one_before_goes_on(self):
        # A server, a protocol and an address at a time: 2 x 2 x 8 of IPv4.
        two = documents.document({"v4": self.lab.servers["v4"][:2]}, {"v4": self.lab.vips["v4"]})
        self.engine.apply(two)
        with self.assertRaises(ApiError) as refused:
            self.engine.apply(self.lab.document())
        self.assertEqual(refused.exception.status, 400)
        (error,) = refused.exception.body["errors"]
        # 3 x 2 x 8 of IPv4, and 3 x 2 of IPv6, whose only source is the port's own address.
        self.assertRegex(error["message"], r"need 7 MB \(54 blocks of 129 KB, .* leaves \d MB \(\d\d blocks\)")
        self.assertEqual(error["path"], "/Pool")
        self.assertIn(self.web(self.lab.clients["v4"][0]), self.lab.server_names[:2])
        self.engine.apply(two)

    def test_servers_that_come_and_go_find_room(self):
        vips = {"v4": self.lab.vips["v4"]}
        for i in range(12):
            # 32 blocks each time, towards servers that were not there before.
            servers = [f"10.2.0.{100 + 2 * i + n}" for n in (0, 1)]
            self.engine.apply(documents.document({"v4": servers}, vips))
        self.engine.apply(documents.document({"v4": self.lab.servers["v4"][:2]}, vips))
        self.assertIn(self.web(self.lab.clients["v4"][1]), self.lab.server_names[:2])


class VlanCapture(unittest.TestCase):
    """Tagged on the client side, untagged towards the servers: the kernel here has no 802.1Q, so by
    captures."""

    FRONT, BACK, CLIENT, SERVER = ("02:00:00:00:01:01", "02:00:00:00:02:01", "02:00:00:00:04:02",
                                   "02:00:00:00:05:02")

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="limpet-vlan-")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    @staticmethod
    def tagged(frame, vlan):
        return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]

    def test_tags_are_taken_off_and_put_on(self):
        clients = {"v4": ("10.1.0.2", "10.1.0.100", "10.2.0.2"),
                   "v6": ("fd00:1::2", "fd00:1::100", "fd00:2::2")}
        sent, neighbors = [], []
        for i, (client, vip, server) in enumerate(clients.values()):
            datagram = frames.packet(self.CLIENT, self.FRONT, client, vip, frames.UDP,
                                     frames.udp(4000, documents.ECHO_PORT, b"tagged"))
            sent += [(0.1 * i, self.tagged(datagram, 100)), (0.1 * i + 0.01, self.tagged(datagram, 200)),
                     (0.1 * i + 0.02, datagram)]
            neighbors.append({"address": server, "mac": self.SERVER})
        frames.write_pcap(self.path("in.pcap"), sent)
        with open(self.path("document.json"), "w") as file:
            json.dump(documents.document({f: [c[2]] for f, c in clients.items()},
                                         {f: c[1] for f, c in clients.items()}), file)
        with open(self.path("engine.json"), "w") as file:
            json.dump({
                "name": f"vlan-{os.getpid()}", "worker_cores": [0], "api": {"listen": "127.0.0.1:9080"},
                "memory": {"hugepages": False, "size_mb": 256}, "document": "document.json",
                "neighbors": neighbors, "ports": [
                    {"name": "front", "vlan": 100, "mac": self.FRONT,
                     "device": "net_pcap0,rx_pcap=in.pcap,tx_pcap=front.pcap",
                     "addresses": ["10.1.0.1/24", "fd00:1::1/64"]},
                    {"name": "back", "device": "net_pcap1,tx_pcap=back.pcap", "mac": self.BACK,
                     "addresses": ["10.2.0.1/24", "fd00:2::1/64"]}]}, file)
        done = subprocess.run([engine_binary(), "--config", self.path("engine.json"), "--replay"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        forwarded = [frames.parse(f, t) for t, f in frames.read_pcap(self.path("back.pcap"))]
        forwarded = [p for p in forwarded if p and p.payload == b"tagged"]
        # Of each family one: VLAN 200 and untagged are nobody's.
        self.assertEqual([p.destination for p in forwarded], [c[2] for c in clients.values()])
        announced = [f for _, f in frames.read_pcap(self.path("front.pcap"))]
        self.assertTrue(announced)
        self.assertEqual({f[12:16] for f in announced}, {b"\x81\x00\x00\x64"})


if __name__ == "__main__":
    main()
