"""The lab itself: real clients reach real servers, and nothing stays behind."""
import os
import unittest

from lab import SERVERS, Lab, wait_until
from runner import main
from namespace import run


class LabItself(unittest.TestCase):
    def forwarding_kernel(self, lab):
        """Lets the kernel stand in for the engine: it only routes."""
        namespace = lab.engine_namespace
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.front.disable_ipv6=0",
                         "net.ipv6.conf.back.disable_ipv6=0", "net.ipv4.ip_forward=1",
                         "net.ipv6.conf.all.forwarding=1")
        namespace.add_addresses("front", ["10.1.0.1/24", "fd00:1::1/64"])
        namespace.add_addresses("back", ["10.2.0.1/24", "fd00:2::1/64"])
        lab.client.ip("route", "add", "default", "via", "10.1.0.1")
        lab.client.ip("-6", "route", "add", "default", "via", "fd00:1::1")

    def test_every_client_reaches_every_server(self):
        with Lab() as lab:
            self.forwarding_kernel(lab)
            for family in ("v4", "v6"):
                for i, server in enumerate(lab.servers[family]):
                    for client in lab.clients[family]:
                        self.assertEqual(lab.get(client, server), (lab.server_names[i], client))
                        self.assertEqual(lab.udp(client, server), (lab.server_names[i], client, b"hello"))
                    self.assertEqual(lab.curl(lab.clients[family][0], server),
                                     (lab.server_names[i], lab.clients[family][0]))
            self.assertEqual(len(lab.server_names), SERVERS)
            wait_until(lambda: "10.1.0.2 10.2.0.2 / 200" in "\n".join(lab.access_log("server1")), 10, "the log")

    def test_one_armed_clients_and_servers_are_neighbours(self):
        with Lab(one_armed=True) as lab:
            for family in ("v4", "v6"):
                self.assertEqual(lab.get(lab.clients[family][0], lab.servers[family][2])[0], "server3")

    def test_nothing_stays_behind(self):
        with Lab() as lab:
            folder, name, pids = lab.folder, lab.name, [p.pid for p in lab.processes]
        self.assertFalse(os.path.exists(folder))
        self.assertNotIn(name, run("ip", "netns", "list").stdout)
        self.assertEqual([pid for pid in pids if os.path.exists(f"/proc/{pid}")], [])

    def test_two_labs_side_by_side(self):
        with Lab() as one, Lab() as other:
            self.assertNotEqual(one.name, other.name)
            for lab in (one, other):
                self.forwarding_kernel(lab)
            for lab in (one, other):
                lab.get("10.1.0.2", "10.2.0.2")
                # A server writes it when it has answered.
                wait_until(lambda log=lab: log.access_log("server1"), 10, "the log")
                self.assertEqual(len(lab.access_log("server1")), 1, "reached by the own lab's client alone")


if __name__ == "__main__":
    main()
