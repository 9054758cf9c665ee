"""The demo's story as packet captures: limpet-se --replay plays it without root or devices.

What a server answers depends on where the engine sent the client and from which source port, so
the servers' capture cannot be written in advance. The story is therefore replayed until it is
settled: what the engine sent to the servers in one run makes the servers' answers of the next. A
replay is deterministic, so each run is right for longer than the one before, until nothing
changes; that last input is then played twice and must give the same files byte for byte.

Ports: front (clients) and back (servers), net_pcap. Clients and server addresses as in the lab.
"""
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile

import documents
import frames
from frames import ACK, FIN, PSH, SYN, TCP, UDP
from lab import engine_binary

CLIENTS = [f"10.1.0.{i}" for i in range(2, 10)] + [f"fd00:1::{i}" for i in range(2, 10)]
SERVERS = {"v4": ["10.2.0.2", "10.2.0.3", "10.2.0.4"], "v6": ["fd00:2::2", "fd00:2::3", "fd00:2::4"]}
VIPS = {"v4": "10.1.0.100", "v6": "fd00:1::100"}
FRONT_MAC, BACK_MAC = "02:00:00:00:01:01", "02:00:00:00:02:01"
TIMEOUT_S = 30
NOBODY = 65534
VICTIM = "server1"  # marked down, and taken back
# When every client visits, in seconds; what happens between the visits is in EVENTS.
VISITS_S = (0.0, 2.0, 6.0, 10.0, 60.0)
FIRST, AGAIN, DOWN, BACK, EXPIRED = range(5)
EVENTS_AT_S = {"down": 4.0, "up": 8.0, "end": 64.0}
ROUNDS_MAX = 12


def family_of(address):
    return "v6" if ":" in address else "v4"


def client_mac(client):
    return f"02:00:00:00:{'06' if ':' in client else '04'}:{CLIENTS.index(client):02x}"


def server_mac(server):
    family = family_of(server)
    return f"02:00:00:02:{'06' if family == 'v6' else '04'}:{SERVERS[family].index(server):02x}"


def server_name(server):
    return f"server{SERVERS[family_of(server)].index(server) + 1}"


def client_port(client, visit):
    return 20000 + 100 * visit + CLIENTS.index(client)


def request_of(client, visit):
    return f"GET /{CLIENTS.index(client)}/{visit} HTTP/1.0\r\n\r\n".encode()


def datagram_of(client, visit):
    return f"{CLIENTS.index(client)}/{visit}".encode()


def front_capture():
    """All that the clients send: on each visit a whole TCP connection and one datagram."""
    sent = []
    for visit, start in enumerate(VISITS_S):
        for i, client in enumerate(CLIENTS):
            vip, port, at = VIPS[family_of(client)], client_port(client, visit), start + 0.02 * i
            request = request_of(client, visit)
            ours, theirs = 1000 + port, 5000 + port  # sequence numbers of both sides

            def send(after_s, protocol, segment):
                sent.append((at + after_s, frames.packet(client_mac(client), FRONT_MAC, client, vip,
                                                         protocol, segment)))
            send(0, TCP, frames.tcp(port, 80, ours, 0, SYN))
            send(.002, TCP, frames.tcp(port, 80, ours + 1, theirs + 1, ACK))
            send(.003, TCP, frames.tcp(port, 80, ours + 1, theirs + 1, ACK | PSH, request))
            send(.005, TCP, frames.tcp(port, 80, ours + 1 + len(request), theirs + 1 + 8, ACK | FIN))
            send(.007, TCP, frames.tcp(port, 80, ours + 2 + len(request), theirs + 2 + 8, ACK))
            send(.010, UDP, frames.udp(port, 9053, datagram_of(client, visit)))
    return sent


def back_capture(to_servers):
    """What the servers answer to what the engine sent them in the run before."""
    sent = []
    for at_s, frame in to_servers:
        seen = frames.parse(frame, at_s)
        if seen is None or seen.destination not in SERVERS[family_of(seen.destination)]:
            continue

        def answer(protocol, segment):
            sent.append((at_s + .001, frames.packet(server_mac(seen.destination), BACK_MAC,
                                                    seen.destination, seen.source, protocol, segment)))
        if seen.protocol == UDP:
            answer(UDP, frames.udp(9053, seen.source_port, b"echo " + seen.payload))
            continue
        sequence, acknowledged = _tcp_numbers(frame)
        port = seen.source_port
        if seen.flags & SYN:
            theirs = 5000 + (sequence - 1000)  # what the client's side of the story counts on
            answer(TCP, frames.tcp(80, port, theirs, sequence + 1, SYN | ACK))
        elif seen.payload:
            answer(TCP, frames.tcp(80, port, acknowledged, sequence + len(seen.payload), ACK | PSH,
                                   b"answered"))
        elif seen.flags & FIN:
            answer(TCP, frames.tcp(80, port, acknowledged, sequence + 1, ACK | FIN))
    return sent


def _tcp_numbers(frame):
    start = 34 if frame[12:14] == b"\x08\x00" else 54
    return (int.from_bytes(frame[start + 4:start + 8], "big"),
            int.from_bytes(frame[start + 8:start + 12], "big"))


def bootstrap():
    neighbors = [{"address": server, "mac": server_mac(server)}
                 for family in SERVERS.values() for server in family]
    return {
        "name": "replay", "worker_cores": [0], "memory": {"hugepages": False, "size_mb": 384},
        "ports": [
            {"name": "front", "device": "net_pcap0,rx_pcap=front.pcap,tx_pcap=front-out.pcap",
             "addresses": ["10.1.0.1/24", "fd00:1::1/64"], "mac": FRONT_MAC},
            {"name": "back", "device": "net_pcap1,rx_pcap=back.pcap,tx_pcap=back-out.pcap",
             "addresses": ["10.2.0.1/24", "fd00:2::1/64"], "mac": BACK_MAC}],
        "neighbors": neighbors,
        "limits": {"persistence_entries": 16384, "flows_per_worker": 16384, "packet_buffers": 16384},
        "api": {"listen": "unix:api.sock"},
        "document": "document.json",
    }


def events():
    def marks(state):
        i = int(VICTIM[-1]) - 1
        return [{"pool": f"{service}-pool-{family}", "oper_status": state, "reason": "story",
                 "server": f"[{addresses[i]}]:{port}" if family == "v6" else f"{addresses[i]}:{port}"}
                for family, addresses in SERVERS.items() for service, port in (("web", 80), ("echo", 9053))]
    return [{"at_s": EVENTS_AT_S["down"], "health_marks": marks("OPER_DOWN")},
            {"at_s": EVENTS_AT_S["up"], "health_marks": marks(None)},
            {"at_s": EVENTS_AT_S["end"]}]


class Replay:
    """A folder with the story's files, and runs of limpet-se in it (as nobody when we are root)."""

    def __init__(self, folder):
        self.folder = folder
        self.binary = os.path.join(folder, "limpet-se")
        shutil.copy(engine_binary(), self.binary)  # the tree itself may be closed to nobody
        for name, content in (("engine.json", bootstrap()), ("events.json", events()),
                              ("document.json", documents.document(SERVERS, VIPS, timeout_s=TIMEOUT_S))):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
        frames.write_pcap(self.path("front.pcap"), front_capture())
        frames.write_pcap(self.path("back.pcap"), [])
        os.makedirs(self.path("run"), mode=0o700)
        if os.geteuid() == 0:
            for name in (".", *os.listdir(folder)):
                os.chown(os.path.join(folder, name), NOBODY, NOBODY)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self):
        """Plays the files once; RuntimeError unless the engine ends with status 0."""
        command = [self.binary, "--config", self.path("engine.json"), "--replay", self.path("events.json")]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                       "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.folder,
                              env={**os.environ, "XDG_RUNTIME_DIR": self.path("run"), "HOME": self.folder})
        if done.returncode != 0:
            raise RuntimeError(f"limpet-se --replay: status {done.returncode}:\n{done.stderr[-4000:]}")
        return done

    def settle(self):
        """Replays until the servers' answers fit what the engine sends; returns the number of runs."""
        for count in range(1, ROUNDS_MAX + 1):
            self.run()
            answers = self.path("answers.pcap")
            frames.write_pcap(answers, back_capture(frames.read_pcap(self.path("back-out.pcap"))))
            if filecmp.cmp(answers, self.path("back.pcap"), shallow=False):
                return count
            shutil.copyfile(answers, self.path("back.pcap"))
        raise RuntimeError(f"the story is not settled after {ROUNDS_MAX} replays")

    def outputs(self):
        return [open_and_read(self.path(name)) for name in ("front-out.pcap", "back-out.pcap")]

    def reached(self):
        """[{(service, client): server}] for each visit, from what the engine sent to the servers.

        A request names its client and visit in its payload.
        """
        visits = [{} for _ in VISITS_S]
        for at_s, frame in frames.read_pcap(self.path("back-out.pcap")):
            seen = frames.parse(frame, at_s)
            if seen is None or not seen.payload:
                continue
            if seen.protocol == TCP:
                _, number, visit = seen.payload.split()[1].decode().split("/")
            else:
                number, visit = seen.payload.decode().split("/")
            key = ("web" if seen.protocol == TCP else "echo", CLIENTS[int(number)])
            visits[int(visit)][key] = server_name(seen.destination)
        return visits

    def answered(self):
        """Number of answers (TCP data, UDP echoes) that came out to the clients."""
        parsed = (frames.parse(f, t) for t, f in frames.read_pcap(self.path("front-out.pcap")))
        return sum(1 for p in parsed if p and p.payload in (b"answered",) or p and p.payload.startswith(b"echo "))


def open_and_read(path):
    with open(path, "rb") as file:
        return file.read()


def story_checks(replay):
    """[(does it hold, what)] of the settled story."""
    visits = replay.reached()
    expected = {(service, client) for service in ("web", "echo") for client in CLIENTS}
    first, down = visits[FIRST], visits[DOWN]
    checks = [(all(set(visit) == expected for visit in visits),
               f"all {len(CLIENTS)} clients were served on all {len(VISITS_S)} visits, over TCP and UDP"),
              (replay.answered() == len(VISITS_S) * len(expected), "every answer came back to its client"),
              (set(first.values()) == {"server1", "server2", "server3"}, "three servers share the clients"),
              (visits[AGAIN] == first, "each client reached the same server again"),
              (VICTIM not in down.values(), f"while {VICTIM} was down nobody was sent there"),
              (all(down.get(k) == s for k, s in first.items() if s != VICTIM),
               "clients of the other servers stayed"),
              (visits[BACK] == down, f"when {VICTIM} was back nobody moved a second time"),
              (VICTIM in visits[EXPIRED].values(),
               f"after {TIMEOUT_S} s without connections entries expired: {VICTIM} has clients again")]
    return checks


def print_visits(replay):
    visits = replay.reached()
    titles = ("first", "again", f"{VICTIM} down", "back", "expired")
    print(f"  {'client':<10}{'service':<9}" + "".join(f"{title:<14}" for title in titles))
    for client in CLIENTS:
        for service in ("web", "echo"):
            row = [visit.get((service, client), "-") for visit in visits]
            print(f"  {client:<10}{service:<9}" + "".join(f"{server:<14}" for server in row).rstrip())


def main():
    with tempfile.TemporaryDirectory(prefix="limpet-replay-") as folder:
        replay = Replay(folder)
        count = replay.settle()
        print(f"\nThe story as captures, settled after {count} replays; who reached whom:")
        print_visits(replay)
        one = replay.outputs()
        replay.run()
        checks = story_checks(replay) + [(replay.outputs() == one, "two runs gave identical files, "
                                          f"{sum(map(len, one))} bytes")]
    failed = 0
    for holds, text in checks:
        failed += not holds
        print(f"  {'ok    ' if holds else 'FAILED'} {text}")
    print(f"\ndemo: {failed} of {len(checks)} checks FAILED" if failed
          else f"\ndemo: all {len(checks)} checks held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
