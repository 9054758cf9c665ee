"""ARP and neighbour discovery: VIPs answer, are announced when served, and conflicts are told."""
import socket
import struct
import time

from frames import mac
from lab import wait_until
from runner import LabTest, main

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
STRANGER = "02:00:00:00:99:99"


class Neighbors(LabTest):
    def frames_of(self, kind, action, seconds=3.0):
        """The frames the clients' link sees while action() runs and shortly after."""
        found = []
        with self.lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)) as sniffer:
            sniffer.bind(("eth0", kind))
            action()
            sniffer.settimeout(0.1)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    found.append(sniffer.recv(2000))
                except TimeoutError:
                    pass
        return found

    def test_arp_for_a_vip_is_answered(self):
        self.apply()
        for target in ("10.1.0.1", "10.1.0.100"):
            done = self.lab.client.run("arping", "-c", "1", "-w", "2", "-I", "eth0", target, check=False)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_neighbour_solicitation_for_a_vip_is_answered(self):
        self.apply()
        for target in ("fd00:1::1", "fd00:1::100"):
            done = self.lab.client.run("ndisc6", "-1", "-r", "3", "-w", "1000", target, "eth0", check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_vip_that_is_not_served_is_not_answered(self):
        document = self.lab.document()
        for service in document["VirtualService"]:
            service["enabled"] = False
        self.engine.apply(document)
        for target, answers in (("10.1.0.1", True), ("10.1.0.100", False)):
            done = self.lab.client.run("arping", "-c", "1", "-w", "1", "-I", "eth0", target, check=False)
            self.assertIn(f"Received {int(answers)} response(s)", done.stdout, done.stderr)
            self.assertEqual(done.returncode == 0, answers)

    def test_an_ipv4_vip_is_announced_when_it_becomes_served(self):
        self.engine.apply({"Pool": []})
        seen = self.frames_of(ETH_P_ARP, self.apply)
        vip = socket.inet_aton("10.1.0.100")
        self.assertTrue([f for f in seen if f[28:32] == vip and f[38:42] == vip],
                        "no gratuitous ARP for 10.1.0.100")

    def test_an_ipv6_vip_is_announced_when_it_becomes_served(self):
        self.engine.apply({"Pool": []})
        seen = self.frames_of(ETH_P_IPV6, self.apply)
        vip = socket.inet_pton(socket.AF_INET6, "fd00:1::100")
        self.assertTrue([f for f in seen if f[20] == 58 and f[54] == 136 and f[62:78] == vip],
                        "no unsolicited neighbour advertisement for fd00:1::100")

    def test_another_owner_of_a_vip_is_an_event_and_changes_nothing(self):
        self.apply()
        server = self.reached(["10.1.0.2"])
        after = max([event["seq"] for event in self.engine.events()], default=0)
        vip = socket.inet_aton("10.1.0.100")
        spoof = (mac("ff:ff:ff:ff:ff:ff") + mac(STRANGER) + struct.pack("!HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, 2)
                 + mac(STRANGER) + vip + mac("ff:ff:ff:ff:ff:ff") + vip)
        with self.lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            sender.send(spoof)
        found = wait_until(lambda: [e for e in self.engine.events(after) if e["name"] == "ADDRESS_CONFLICT"],
                           5, "ADDRESS_CONFLICT")
        self.assertIn("10.1.0.100", found[0]["object"] + found[0]["message"])
        self.assertEqual(self.reached(["10.1.0.2"]), server)


if __name__ == "__main__":
    main()
