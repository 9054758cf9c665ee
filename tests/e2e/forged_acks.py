#!/usr/bin/env python3
"""ACKs of connections that nobody has, from addresses that are nobody's, until it is ended.

usage: forged_acks.py PACKETS-PER-SECOND PORT VIP...
"""
import ipaddress
import random
import socket
import sys
import time

import frames

ETHERNET_BYTES = 14
KEPT = 4096  # ready made for each VIP
TURN_S = 0.005
NO_MAC = "00:00:00:00:00:00"  # the kernel finds the way


def packets(vip, port):
    v6 = ":" in vip
    first = int(ipaddress.ip_address("fd00:9::" if v6 else "100.64.0.0"))
    made = []
    for i in range(KEPT):
        source = (ipaddress.IPv6Address if v6 else ipaddress.IPv4Address)(first + 1 + i)
        segment = frames.tcp(random.randint(1024, 65535), port, random.getrandbits(32),
                             random.getrandbits(32), frames.ACK)
        made.append(frames.packet(NO_MAC, NO_MAC, str(source), vip, frames.TCP, segment)[ETHERNET_BYTES:])
    return made


def main():
    rate, port, vips = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ways = []
    for vip in vips:
        family = socket.AF_INET6 if ":" in vip else socket.AF_INET
        ways.append((socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW), (vip, 0), packets(vip, port)))
    began, sent = time.monotonic(), 0
    while True:
        while sent < rate * (time.monotonic() - began):
            way, target, made = ways[sent % len(ways)]
            try:
                way.sendto(made[sent // len(ways) % KEPT], target)
            except OSError:  # no room, or nobody answers for the VIP just now
                pass
            sent += 1
        time.sleep(TURN_S)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
