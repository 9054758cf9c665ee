"""Ethernet frames and capture files (microsecond pcap), built and read without any library."""
import ipaddress
import struct

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def packet(source_mac, destination_mac, source, destination, protocol, segment):
    """An Ethernet frame around a TCP or UDP segment whose checksum is filled in here."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    offset = 16 if protocol == TCP else 6
    if source.version == 4:
        pseudo = source.packed + destination.packed + struct.pack("!BBH", 0, protocol, len(segment))
    else:
        pseudo = source.packed + destination.packed + struct.pack("!I3xB", len(segment), protocol)
    value = checksum(pseudo + segment)
    if protocol == UDP and value == 0:
        value = 0xFFFF
    segment = segment[:offset] + struct.pack("!H", value) + segment[offset + 2:]
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, protocol, 0)
        header += source.packed + destination.packed
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64)
        header += source.packed + destination.packed
    kind = 0x0800 if source.version == 4 else 0x86DD
    return mac(destination_mac) + mac(source_mac) + struct.pack("!H", kind) + header + segment


def tcp(source_port, destination_port, sequence, acknowledged, flags, payload=b""):
    options = b"\x02\x04\x05\xb4" if flags & SYN else b""
    return struct.pack("!HHIIBBHHH", source_port, destination_port, sequence & 0xFFFFFFFF,
                       acknowledged & 0xFFFFFFFF, (5 + len(options) // 4) << 4, flags, 65535, 0,
                       0) + options + payload


def udp(source_port, destination_port, payload):
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


class Parsed:
    """What a frame with TCP or UDP says; None from parse() for anything else."""

    def __init__(self, frame, at_s):
        self.at_s = at_s
        kind = struct.unpack("!H", frame[12:14])[0]
        if kind == 0x0800:
            length = (frame[14] & 15) * 4
            self.protocol = frame[23]
            self.source = str(ipaddress.ip_address(frame[26:30]))
            self.destination = str(ipaddress.ip_address(frame[30:34]))
        else:
            length = 40
            self.protocol = frame[20]
            self.source = str(ipaddress.ip_address(frame[22:38]))
            self.destination = str(ipaddress.ip_address(frame[38:54]))
        transport = frame[14 + length:]
        self.source_port, self.destination_port = struct.unpack("!HH", transport[:4])
        self.flags = transport[13] if self.protocol == TCP else 0
        self.payload = transport[(transport[12] >> 4) * 4 if self.protocol == TCP else 8:]


def parse(frame, at_s):
    kind = frame[12:14]
    if (kind == b"\x08\x00" and frame[23] in (TCP, UDP)) or (kind == b"\x86\xdd" and frame[20] in (TCP, UDP)):
        return Parsed(frame, at_s)
    return None


def write_pcap(path, frames, base_s=1_700_000_000):
    """frames: [(seconds, frame)] in any order; equal times keep their order."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for at_s, frame in sorted(frames, key=lambda pair: pair[0]):
            microseconds = round(at_s * 1_000_000)
            file.write(struct.pack("<IIII", base_s + microseconds // 1_000_000,
                                   microseconds % 1_000_000, len(frame), len(frame)) + frame)


def read_pcap(path, base_s=1_700_000_000):
    """[(seconds, frame)]"""
    frames = []
    with open(path, "rb") as file:
        head = file.read(24)
        if len(head) < 24 or struct.unpack("<I", head[:4])[0] != 0xA1B2C3D4:
            raise ValueError(f"{path}: not a microsecond pcap file")
        while True:
            record = file.read(16)
            if len(record) < 16:
                return frames
            seconds, microseconds, captured, _ = struct.unpack("<IIII", record)
            frames.append((seconds - base_s + microseconds / 1e6, file.read(captured)))
