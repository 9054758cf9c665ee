"""What devices do under load: bursts that fit their queues, losses that are told, and datagrams in pieces."""
import json
import signal
import socket
import sys
import threading
import time
import unittest

import documents
from lab import Lab, wait_until
from runner import LabTest, main

STREAMS = 8
LOSSES = {"device_missed", "device_error", "no_buffer", "transmit_full"}
SINK = """
import selectors, socket, sys, threading
def serve(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 5201))
    listener.listen(64)
    while True:
        threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()
def drain(connection):
    with connection:
        while connection.recv(1 << 20):
            pass
for address in sys.argv[1:]:
    threading.Thread(target=serve, args=(address,)).start()
"""


def drops(engine):
    """{port: {reason: n}}"""
    return {p["name"]: p["drops"] for p in engine.api("GET", "/v1/status")["ports"]}


def telemetry(engine, command):
    """DPDK telemetry's answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(5)
        connection.connect(f"/var/run/dpdk/limpet-{engine.name}/dpdk_telemetry.v2")
        connection.recv(1024)  # who it is
        connection.send(command.encode())
        return json.loads(connection.recv(1 << 16))[command]


class Bulk(LabTest):
    """Eight TCP connections that send as fast as they can."""
    lost_of = 0  # how much of what is received may be lost

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for i, namespace in enumerate(cls.lab.server_namespaces):
            addresses = [cls.lab.servers[f][i] for f in ("v4", "v6")]
            cls.lab.processes.append(namespace.start(sys.executable, "-c", SINK, *addresses))
            for address in addresses:
                wait_until(lambda: cls.listens(namespace, address), 10, f"the sink at {address}")

    @staticmethod
    def listens(namespace, address):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespace.socket(family, socket.SOCK_STREAM) as probe:
            return probe.connect_ex((address, 5201)) == 0

    def send(self, client, seconds):
        connection = self.lab.connect_tcp(client, port=5201)
        sent, end = 0, time.monotonic() + seconds
        with connection:
            while time.monotonic() < end:
                sent += connection.send(bytes(1 << 18))
        return sent

    def test_eight_streams_lose_nothing_in_the_devices(self):
        document = self.lab.document(timeout_s=60)
        for service in document["VirtualService"]:
            if service["name"].startswith("web"):
                service["services"] = [{"port": 5201}]
        for pool in document["Pool"]:
            if pool["name"].startswith("web"):
                pool["default_server_port"] = 5201
        self.engine.apply(document)
        sent = []
        threads = [threading.Thread(target=lambda c=client: sent.append(self.send(c, 5)))
                   for client in (self.lab.clients["v4"] + self.lab.clients["v6"])[::2]]
        self.assertEqual(len(threads), STREAMS)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(sent), STREAMS)
        self.assertGreater(sum(sent), 50 << 20)
        lost = {reason: n for of_port in drops(self.engine).values() for reason, n in of_port.items()
                if reason in LOSSES | {"steer_ring_full"}}
        received = sum(port["rx_packets"] for port in self.engine.api("GET", "/v1/status")["ports"])
        self.assertLessEqual(sum(lost.values()), received * self.lost_of, lost)


class BulkOverTap(Bulk):
    lab_options = {"device": "tap"}


class BulkOfTwoWorkers(Bulk):
    """Two workers on two processors that they share with all the rest: one may stand still for longer
    than the rings between them last."""
    engine_options = {"worker_cores": [0, 1]}
    lost_of = 0.001


class Losses(LabTest):
    """An engine that does not look at its devices for a while."""

    FRAMES = 20_000

    def test_every_frame_was_received_or_is_told_as_missed(self):
        self.apply(timeout_s=60)
        client = self.lab.clients["v4"][0]
        self.assertIsNotNone(self.lab.udp(client, tries=3))
        received = self.front()["rx_packets"]
        with self.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((client, 0))
            sender.connect((self.lab.vips["v4"], documents.ECHO_PORT))
            # The process that was started is `ip netns exec`, which became the engine.
            self.engine.process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(self.FRAMES):
                    sender.send(b"burst")
            finally:
                self.engine.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.accounted(received) >= self.FRAMES, 10, "an account of every frame")
        self.assertLess(self.accounted(received), self.FRAMES + 50)
        missed = self.front()["drops"]["device_missed"]
        self.assertGreater(missed, self.FRAMES // 10)
        self.assertEqual(drops(self.engine)["back"].get("device_missed", 0), 0)
        self.assertEqual(self.engine.metrics()['limpet_drops_total{reason="device_missed"}'], missed)
        wait_until(lambda: telemetry(self.engine, "/limpet/drops").get("device_missed") == missed, 5, "DPDK telemetry")

    def front(self):
        return self.engine.api("GET", "/v1/status")["ports"][0]

    def accounted(self, before):
        front = self.front()
        return front["rx_packets"] - before + front["drops"].get("device_missed", 0)


class LossesOverTap(Losses):
    lab_options = {"device": "tap"}


class LossesOverXdp(Losses):
    lab_options = {"device": "af_xdp"}


class Datagrams(LabTest):
    """Datagrams of many pieces, both ways."""

    SIZES = (1400, 1472, 1473, 2000, 3000, 4000, 9000, 11_800, 13_000, 20_000, 40_000, 60_000)

    def test_whole_datagrams_pass_both_ways(self):
        self.apply(timeout_s=60)
        wrong = []
        for client in (self.lab.clients["v4"][0], self.lab.clients["v6"][0]):
            for size in self.SIZES:
                payload = bytes(i * 7 % 251 for i in range(size))
                answer = self.lab.udp(client, payload=payload, tries=2, timeout_s=1)
                if answer is None or answer[2] != payload:
                    wrong.append((client, size, answer and len(answer[2])))
        self.assertEqual(wrong, [], drops(self.engine))

    def test_echo_requests_of_many_pieces_are_answered(self):
        self.apply(timeout_s=60)
        wrong = []
        for target in self.lab.vips.values():
            for size in self.SIZES:
                ping = self.lab.client.run("ping", "-c", "2", "-i", "0.01", "-W", "1", "-s", str(size), target,
                                           check=False)
                if ping.returncode != 0:
                    wrong.append((target, size))
        self.assertEqual(wrong, [], drops(self.engine))


class DatagramsOfTwoWorkers(Datagrams):
    engine_options = {"worker_cores": [0, 1]}


class DatagramsOfTwoQueues(Datagrams):
    lab_options = {"device_arguments": ",qpairs=2"}
    engine_options = {"worker_cores": [0, 1]}


class SmallRings(unittest.TestCase):
    def test_a_ring_too_short_for_a_burst_is_a_warning_at_the_start(self):
        with Lab() as lab:
            ports = lab.bootstrap()["ports"]
            ports[1]["device"] += ",framecnt=512"
            engine = lab.start_engine(ports=ports)
            self.assertIn("/ports/1/device: warning: framecnt=512", engine.log())
            self.assertNotIn("/ports/0/device: warning", engine.log())


if __name__ == "__main__":
    main()
