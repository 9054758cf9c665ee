"""Captures that net_pcap loops: 60-byte frames (without the check sequence), checksums correct.

Every flow has a client address of its own. The rounds of a capture go over the flows in different
random orders, so that neither the flow table nor its index is walked in the order it was filled.
"""
import ipaddress
import random
import struct

import documents
import frames
from frames import ACK, FIN, RST, SYN, TCP, UDP

FRAME_BYTES = 60
PORT_MAC, CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
VIP = "10.0.1.1"
PORT_ADDRESS = "10.0.0.1/24"
SERVERS = [f"10.0.0.{10 + i}" for i in range(32)]
# 64,512 source ports for each of these towards each server: more than a million flows need 17.
SNAT = "10.0.0.200-10.0.0.203"
FIRST_CLIENT = int(ipaddress.ip_address("100.64.0.0"))
CLIENT_PORT = 40000


class _Kind:
    """Frames that differ in addresses and ports only: the rest is made once."""

    def __init__(self, protocol, segment, source_mac):
        frame = frames.packet(source_mac, PORT_MAC, "0.0.0.0", "0.0.0.0", protocol, segment)
        frame += bytes(FRAME_BYTES - len(frame))
        # The sums of all that stays the same; checksums are ones' complement, so ~sum is it.
        self.checksum_at = 50 if protocol == TCP else 40
        self.ip_sum = ~struct.unpack_from("!H", frame, 24)[0] & 0xFFFF
        self.l4_sum = ~struct.unpack_from("!H", frame, self.checksum_at)[0] & 0xFFFF
        self.frame = struct.pack("<IIII", 0, 0, FRAME_BYTES, FRAME_BYTES) + frame

    def record(self, source, destination, source_port, destination_port):
        """A pcap record; addresses as numbers."""
        addresses = (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
        ip = self.ip_sum + addresses
        ip = (ip & 0xFFFF) + (ip >> 16)
        l4 = self.l4_sum + addresses + source_port + destination_port
        l4 = (l4 & 0xFFFF) + (l4 >> 16)
        record = bytearray(self.frame)
        struct.pack_into("!HIIHH", record, 16 + 24, ~(ip + (ip >> 16)) & 0xFFFF, source, destination,
                         source_port, destination_port)
        # A UDP checksum of 0 would mean "none".
        struct.pack_into("!H", record, 16 + self.checksum_at, ~(l4 + (l4 >> 16)) & 0xFFFF or 0xFFFF)
        return record


_DATAGRAM = _Kind(UDP, frames.udp(0, 0, bytes(18)), CLIENT_MAC)
_SYN = _Kind(TCP, frames.tcp(0, 0, 1000, 0, SYN), CLIENT_MAC)
_ACK = _Kind(TCP, frames.tcp(0, 0, 1001, 5001, ACK), CLIENT_MAC)
_RST = _Kind(TCP, frames.tcp(0, 0, 1001, 0, RST), CLIENT_MAC)
_SERVER_SYN = _Kind(TCP, frames.tcp(0, 0, 5000, 1001, SYN | ACK), SERVER_MAC)
_FIN = _Kind(TCP, frames.tcp(0, 0, 1001, 5001, FIN | ACK), CLIENT_MAC)
_LAST_ACK = _Kind(TCP, frames.tcp(0, 0, 1002, 5002, ACK), CLIENT_MAC)
_SERVER_FIN = _Kind(TCP, frames.tcp(0, 0, 5001, 1002, FIN | ACK), SERVER_MAC)
_SERVER_ACK = _Kind(TCP, frames.tcp(0, 0, 5001, 1001, ACK), SERVER_MAC)


def _shuffled(count, seed):
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def datagrams(flows, rounds):
    """Records of one datagram a flow and round."""
    vip = int(ipaddress.ip_address(VIP))
    for seed in range(rounds):
        for i in _shuffled(flows, seed):
            yield _DATAGRAM.record(FIRST_CLIENT + i, vip, CLIENT_PORT, documents.ECHO_PORT)


def openings(clients):
    """Records of (SYN, RST) pairs: each pass opens a connection of every client and ends it."""
    vip = int(ipaddress.ip_address(VIP))
    for i in _shuffled(clients, 0):
        yield _SYN.record(FIRST_CLIENT + i, vip, CLIENT_PORT, documents.WEB_PORT)
        yield _RST.record(FIRST_CLIENT + i, vip, CLIENT_PORT, documents.WEB_PORT)


# Of each connection.
VISIT = ((_SYN, True), (_SERVER_SYN, False), (_ACK, True), (_FIN, True), (_SERVER_FIN, False),
         (_LAST_ACK, True))


def visits(clients):
    """Records of whole connections that end by FIN, one after the other, client addresses preserved,
    all with the first server."""
    vip = int(ipaddress.ip_address(VIP))
    server = int(ipaddress.ip_address(SERVERS[0]))
    for i in _shuffled(clients, 0):
        for kind, from_client in VISIT:
            if from_client:
                yield kind.record(FIRST_CLIENT + i, vip, CLIENT_PORT, documents.WEB_PORT)
            else:
                yield kind.record(server, FIRST_CLIENT + i, documents.WEB_PORT, CLIENT_PORT)


def conversations(flows):
    """Records of handshakes and acknowledgments in both directions, client addresses preserved.

    All with the first server: which one of several a client is given could not be known here. A
    SYN of a connection that is established is only forwarded, so those of the first pass stay.
    """
    vip = int(ipaddress.ip_address(VIP))
    server = int(ipaddress.ip_address(SERVERS[0]))
    for seed, (kind, from_client) in enumerate(((_SYN, True), (_SERVER_SYN, False), (_ACK, True),
                                                (_SERVER_ACK, False))):
        for i in _shuffled(flows, seed):
            if from_client:
                yield kind.record(FIRST_CLIENT + i, vip, CLIENT_PORT, documents.WEB_PORT)
            else:
                yield kind.record(server, FIRST_CLIENT + i, documents.WEB_PORT, CLIENT_PORT)


def write(path, records):
    """Writes a pcap file; returns the number of packets."""
    count, pending = 0, []
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for record in records:
            pending.append(record)
            count += 1
            if len(pending) == 4096:
                file.write(b"".join(pending))
                pending.clear()
        file.write(b"".join(pending))
    return count
