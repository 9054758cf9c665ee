"""Two engines of one group, between the same clients and the same servers.

    client ── front switch ─┬─ front [se1] back ─┬─ back switch ─┬─ server1 … server3
                            └─ front [se2] back ─┘               (gateway: the group's 10.2.0.1)
                                 se1 ── mirror ── se2

Both paths between the engines can be cut, and only those: the switches keep their ports apart from
each other (data), their own link goes down (session).
"""
import os
import signal
import threading
import time

from lab import Lab, http_answer, http_ask, http_get, wait_until
from namespace import bridge, connect, run

MIRROR = ("192.0.2.1", "192.0.2.2")
GROUP = "lab-group"


class FailoverLab(Lab):
    def __init__(self, **options):
        self.running = [None, None]
        super().__init__(**options)

    def _build(self):
        self.client = self._namespace("client")
        self.switch = self._namespace("switch")
        self.sides = [self._namespace(f"se{i + 1}") for i in (0, 1)]
        self.engine_namespace = self.sides[0]
        self.server_namespaces = [self._namespace(name) for name in self.server_names]
        front, back = ["client"], list(self.server_names)
        connect(self.client, "eth0", self.switch, "client", self.mtu)
        for i, side in enumerate(self.sides):
            side.sysctl("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
            for link, members in (("front", front), ("back", back)):
                connect(side, link, self.switch, f"{link}{i + 1}", self.mtu)
                members.append(f"{link}{i + 1}")
        connect(self.sides[0], "mirror", self.sides[1], "mirror")
        for side, address in zip(self.sides, MIRROR):
            side.add_addresses("mirror", [f"{address}/30"])
        for name, namespace in zip(self.server_names, self.server_namespaces):
            connect(namespace, "eth0", self.switch, name, self.mtu)
        bridge(self.switch, "frontbr", front)
        bridge(self.switch, "backbr", back)
        self.client.add_addresses("eth0", [f"{a}/24" for a in self.clients["v4"]]
                                  + [f"{a}/64" for a in self.clients["v6"]])
        for i, namespace in enumerate(self.server_namespaces):
            self._start_server(i, namespace)
        with open(os.path.join(self.folder, "cluster.key"), "wb") as file:
            file.write(os.urandom(64))

    def engine_names(self):
        return [f"{self.name}-se{i + 1}" for i in (0, 1)]

    def document(self, preempt=True, **options):
        document = super().document(**options)
        document["ServiceEngineGroup"] = [{
            "name": GROUP, "engines": self.engine_names(), "preempt": preempt,
            "floating_intf_ip": [{"addr": "10.2.0.1", "type": "V4"}, {"addr": "fd00:2::1", "type": "V6"}]}]
        for service in document["VirtualService"]:
            service["se_group_ref"] = f"/api/serviceenginegroup/?name={GROUP}"
        return document

    def start(self, i, document):
        """document: with which it begins; None: with the one that it had last."""
        state = os.path.join(self.folder, f"state{i + 1}")
        os.makedirs(state, exist_ok=True)
        names = self.engine_names()
        ports = [{"name": link, "device": f"net_af_packet{p},iface={link}",
                  "addresses": [f"10.{p + 1}.0.{201 + i}/24", f"fd00:{p + 1}::{201 + i}/64"]}
                 for p, link in enumerate(("front", "back"))]
        self.running[i] = self.start_engine(
            name=names[i], namespace=self.sides[i], first_document=document, ports=ports,
            state_directory=state,
            mirroring={"listen": f"{MIRROR[i]}:9090",
                       "secret_file": os.path.join(self.folder, "cluster.key"),
                       "peers": [{"name": names[1 - i], "address": f"{MIRROR[1 - i]}:9090"}]})
        return self.running[i]

    def kill(self, i):
        """kill -9; when it was."""
        at = time.monotonic()
        self.running[i].stop(signal.SIGKILL)
        self.running[i] = None
        return at

    def group(self, i):
        """What engine i says: (owner as 0, 1 or None, its own state)."""
        row = self.running[i].api("GET", "/v1/status")["groups"][-1]
        names = self.engine_names()
        return (names.index(row["owner"]) if row["owner"] in names else None), row["state"]

    def wait_for_owner(self, owner, timeout_s=20):
        """Until every engine that runs says that it is this one and the owner itself serves."""
        def agreed():
            seen = [self.group(i) for i in (0, 1) if self.running[i]]
            return all(who == owner for who, _ in seen) and self.group(owner)[1] == "owner"
        wait_until(agreed, timeout_s, f"se{owner + 1} to be the owner")

    def wait_for_owner_0(self):
        self.wait_for_owner(0)

    def wait_until_synced(self):
        def synced():
            return all(e.api("GET", "/v1/status")["peers"][0]["synced"] for e in self.running if e)
        wait_until(synced, 20, "both engines to be synced")

    def wait_until_equal(self, timeout_s=10):
        def table(engine):
            return {(r["virtual_service"], r["key"]): r["server"] for r in engine.entries()}
        wait_until(lambda: table(self.running[0]) == table(self.running[1]), timeout_s, "equal tables")
        return table(self.running[0])

    def cut_data(self, cut=True):
        for link in ("front", "back"):
            for i in (1, 2):
                run("bridge", "-n", self.switch.name, "link", "set", "dev", f"{link}{i}", "isolated",
                    "on" if cut else "off")

    def cut_session(self, cut=True):
        self.sides[0].ip("link", "set", "mirror", "down" if cut else "up")
        if not cut:  # what the kernel forgets with the link
            self.sides[0].ip("addr", "replace", f"{MIRROR[0]}/30", "dev", "mirror")


class Visitors:
    """Clients that come again and again, each on a thread: who reached whom, and when nobody did."""

    TRY_S = 0.25

    def __init__(self, lab, clients, pause_s=0.01):
        self.lab, self.pause_s = lab, pause_s
        self.visits = {c: [] for c in clients}  # [(when it began, when it ended, server or None)]
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(c,)) for c in clients]
        for thread in self._threads:
            thread.start()

    def _visit(self, client):
        while not self._end.is_set():
            began = time.monotonic()
            try:
                server = self.lab.get(client, timeout_s=self.TRY_S)[0]
            except (OSError, IndexError, ValueError):
                server = None
            except Exception:  # an answer that broke off (http.client)
                server = None
            self.visits[client].append((began, time.monotonic(), server))
            time.sleep(self.pause_s)

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def recovered_ms(self, at):
        """From `at` until every client has been served again."""
        firsts = [next((end for began, end, server in visits if server and began > at), None)
                  for visits in self.visits.values()]
        if None in firsts:
            return None
        return (max(firsts) - at) * 1000

    def gap_ms(self, after):
        """The longest time without service of any client since `after`."""
        longest = 0.0
        for visits in self.visits.values():
            ends = [after] + [end for began, end, server in visits if server and began > after]
            longest = max([longest] + [b - a for a, b in zip(ends, ends[1:])])
        return longest * 1000

    def moved(self):
        """Clients that reached more than one server."""
        return sorted(c for c, visits in self.visits.items()
                      if len({server for _, _, server in visits if server}) > 1)


class Connections:
    """Open connections of clients; each asks when it is told to."""

    def __init__(self, lab, clients, timeout_s=3):
        self.sockets = {c: lab.connect_tcp(c, timeout_s=timeout_s) for c in clients}
        self.servers = {c: http_get(s)[0] for c, s in self.sockets.items()}

    def ask(self):
        """(clients whose connection goes on with its server, clients who lost it)"""
        return self._asked(http_get)

    # The same in two steps.
    def begin_to_ask(self):
        for connection in self.sockets.values():
            http_ask(connection)

    def finish_to_ask(self):
        return self._asked(http_answer)

    def _asked(self, answer_of):
        kept, lost = [], []
        for client, connection in self.sockets.items():
            try:
                same = answer_of(connection)[0] == self.servers[client]
            except Exception:  # reset, timed out, or broken off
                same = False
            (kept if same else lost).append(client)
        return kept, lost

    def close(self):
        for connection in self.sockets.values():
            connection.close()
