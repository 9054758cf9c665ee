#!/usr/bin/env python3
"""A UDP server of the lab. usage: udp_echo.py NAME PORT ADDRESS...

Answers "NAME CLIENT-ADDRESS PAYLOAD" from the address that was asked.
"""
import select
import socket
import sys


def main():
    name, port, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    sockets = []
    for address in addresses:
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, port))
        sockets.append(server)
    while True:
        for server in select.select(sockets, [], [])[0]:
            try:
                payload, client = server.recvfrom(65535)
                server.sendto(f"{name} {client[0]} ".encode() + payload, client)
            except OSError as error:  # an ICMP error that an earlier answer drew
                print(error, file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
