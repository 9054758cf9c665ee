"""How packets travel: client addresses kept, one link only, MTUs, fragments, every lab device."""
import errno
import socket
import struct

from frames import checksum
from lab import family_of
from runner import LabTest, main

IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO, IP_MTU = 10, 0, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
ETH_P_ALL = 3


def udp_socket(lab, client, discover):
    v6 = ":" in client
    result = lab.client.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    result.settimeout(3)
    result.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP,
                      IPV6_MTU_DISCOVER if v6 else IP_MTU_DISCOVER, discover)
    result.bind((client, 0))
    result.connect((lab.vips[family_of(client)], 9053))
    return result


def path_mtu(sock):
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    return sock.getsockopt(socket.IPPROTO_IP, IP_MTU)


class ClientAddressKept(LabTest):
    def test_the_server_sees_the_client(self):
        self.apply(timeout_s=60, preserve_client_ip=True)
        for client in self.all_clients:
            name, seen = self.lab.get(client)
            self.assertEqual(seen, client)
            echo = self.lab.udp(client, tries=3)
            self.assertEqual(echo[1], client)
            self.assertEqual(self.web(client), name)


class OneArmed(LabTest):
    lab_options = {"one_armed": True}

    def test_clients_and_servers_on_one_link(self):
        self.apply(timeout_s=60)
        first = {c: (self.web(c), self.echo(c)) for c in self.all_clients}
        self.assertEqual({c: (self.web(c), self.echo(c)) for c in self.all_clients}, first)
        for reached in zip(*first.values()):  # by TCP, by UDP
            self.assertEqual(set(reached), set(self.lab.server_names))


class NarrowServerSide(LabTest):
    """The engine's server side has an MTU of 1400."""

    @classmethod
    def setUpClass(cls):
        from lab import Lab
        cls.lab = Lab()
        cls.addClassCleanup(cls.lab.close)
        bootstrap = cls.lab.bootstrap()
        for port in bootstrap["ports"]:
            if port["name"] == "back":
                port["mtu"] = 1400
        cls.engine = cls.lab.start_engine(ports=bootstrap["ports"])

    def test_too_large_and_not_to_be_fragmented_is_answered(self):
        self.apply()
        for client in self.two_clients:
            with self.subTest(client), udp_socket(self.lab, client, IP_PMTUDISC_DO) as sock:
                sock.send(b"x" * 1440)
                with self.assertRaises(OSError) as refused:
                    sock.recv(2000)
                    sock.send(b"x" * 1440)
                self.assertEqual(refused.exception.errno, errno.EMSGSIZE)
                self.assertEqual(path_mtu(sock), 1400)
                sock.send(b"fits")
                self.assertTrue(sock.recv(2000).endswith(b" fits"))

    def test_ipv4_without_df_is_fragmented(self):
        self.apply()
        with udp_socket(self.lab, "10.1.0.3", IP_PMTUDISC_DONT) as sock:
            sock.send(b"y" * 1440)
            self.assertTrue(sock.recv(4000).endswith(b" " + b"y" * 1440))

    def test_tcp_fits_by_its_mss(self):
        self.apply()
        for client in self.two_clients:
            with self.lab.connect_tcp(client) as connection:
                connection.sendall(b"GET /files/data HTTP/1.1\r\nHost: lab\r\nX: " + b"z" * 4000
                                   + b"\r\nConnection: close\r\n\r\n")
                received = b""
                while chunk := connection.recv(65536):
                    received += chunk
            self.assertEqual(len(received.split(b"\r\n\r\n", 1)[1]), 512 * 1024)


class ErrorsComeBack(LabTest):
    def test_packet_too_big_behind_the_engine_reaches_the_client(self):
        """A router behind the engine complains; the engine turns its message back to the client."""
        self.apply(timeout_s=60)
        for client in self.two_clients:
            with self.subTest(client):
                self.complain(client, 1300)

    def complain(self, client, mtu):
        v6 = ":" in client
        name = self.echo(client)
        server = self.lab.server_namespaces[self.lab.server_names.index(name)]
        with server.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as sniffer, \
                server.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                              socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) as router, \
                udp_socket(self.lab, client, IP_PMTUDISC_DO) as sock:
            sniffer.settimeout(3)
            sock.send(b"q" * 1350)
            while True:
                packet, source = sniffer.recvfrom(2000)
                if source[2] == 0 and len(packet) > 1350 and packet[9 if not v6 else 6] == 17:
                    break
            if v6:
                target = socket.inet_ntop(socket.AF_INET6, packet[8:24])
                message = struct.pack("!BBHI", 2, 0, 0, mtu) + packet[:1200]
            else:
                target = socket.inet_ntoa(packet[12:16])
                message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:548]
                message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            router.sendto(message, (target, 0))
            with self.assertRaises(OSError) as refused:
                for _ in range(20):  # echoes and the complaint come in any order
                    sock.recv(2000)
                    sock.send(b"q" * 1350)
            self.assertEqual(refused.exception.errno, errno.EMSGSIZE)
            self.assertEqual(path_mtu(sock), mtu)


class TapDevice(LabTest):
    lab_options = {"device": "tap"}

    def test_persistence(self):
        self.apply(timeout_s=60)
        first = {c: (self.web(c), self.echo(c)) for c in self.two_clients}
        self.assertLessEqual({s for pair in first.values() for s in pair}, set(self.lab.server_names))
        self.assertEqual({c: (self.web(c), self.echo(c)) for c in self.two_clients}, first)

    def test_datagrams_of_8_kb_come_back_whole(self):
        self.apply(timeout_s=60)
        payload = bytes(range(256)) * 32
        for client in self.two_clients:
            with self.subTest(client):
                answer = self.lab.udp(client, payload=payload, tries=3)
                self.assertEqual(answer and answer[2], payload)


class XdpDevice(TapDevice):
    lab_options = {"device": "af_xdp"}


class Echo(LabTest):
    def test_own_addresses_and_vips_answer_ping(self):
        self.apply()
        for target in ("10.1.0.1", "10.1.0.100", "fd00:1::1", "fd00:1::100"):
            self.assertEqual(self.lab.client.run("ping", "-c1", "-W2", target, check=False).returncode, 0,
                             target)


if __name__ == "__main__":
    main()
