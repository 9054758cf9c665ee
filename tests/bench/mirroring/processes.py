"""Pairs of processes that mirror to one another: limpet-se and HAProxy, and what they are fed with.

Everything runs on the same two cores, before what others do there if it may (machine.py). A pair has
`first`, where entries are made, and `second`, which gets them.
"""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

import captures
import documents
from lab import UnixConnection, build_folder, engine_binary
from machine import undisturbed_on

START_TIMEOUT_S = 120
VIP, LOCAL_VIP, PORT_ADDRESS = "10.3.1.1", "10.3.1.2", "10.3.0.1/24"
PORT_MAC, SERVER_MAC = captures.PORT_MAC, captures.SERVER_MAC
SERVERS = [f"10.3.0.{10 + i}" for i in range(4)]
HUGEPAGE_MB = 2
CONVERSATION = 4  # packets of each flow in the capture
CLI_CONNECTIONS = 4  # more commands at once are dearer for HAProxy, fewer are slower
CLI_COMMANDS = 150   # in a line
CLI_AHEAD = 4000     # commands without an answer


def traffic_binary():
    return os.path.join(build_folder(), "tests/bench/bench_mirroring_traffic")


def channel_binary():
    return os.path.join(build_folder(), "tests/bench/bench_mirroring_channel")


def haproxy_binary():
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def until(attempt, what, timeout_s=START_TIMEOUT_S, step_s=0.01):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = attempt()
        if found:
            return found
        time.sleep(step_s)
    raise RuntimeError(f"{what} did not happen within {timeout_s} s")


def cpu_seconds(process):
    """Of all threads of a process, as the scheduler counts them: nanoseconds, not ticks."""
    tasks = f"/proc/{process.pid}/task"
    total = 0
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def bytes_between(port):
    """What the processes on both sides of a TCP port of this host have sent over it, the larger of
    both directions: with TLS records, without TCP's headers."""
    done = subprocess.run(["ss", "-tniH", f"( sport = :{port} or dport = :{port} )"], capture_output=True,
                          text=True, check=True)
    return max([int(n) for n in re.findall(r"bytes_sent:(\d+)", done.stdout)], default=0)


class Process:
    def __init__(self, command, log_path, cores, **options):
        self.log_path = log_path
        with open(log_path, "ab") as log:
            self.child = subprocess.Popen(command, stderr=log, preexec_fn=undisturbed_on(cores),
                                          **{"stdout": log, **options})

    @property
    def pid(self):
        return self.child.pid

    def check(self):
        if self.child.poll() is not None:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                raise RuntimeError(f"{self.child.args[0]} ended with status {self.child.returncode}:\n"
                                   f"{file.read()[-3000:]}")

    def listens_at(self, path):
        """Its first sign of life: a program answers there later, when it has other things to do."""
        self.check()
        with socket.socket(socket.AF_UNIX) as one:
            return one.connect_ex(path) == 0

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Pair:
    """A context; its folder and processes are gone when it is left."""

    def __init__(self, cores):
        self.cores = cores
        self.folder = tempfile.mkdtemp(prefix="limpet-bench-")
        self.processes = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for process in self.processes.values():
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def spawn(self, name, command, **options):
        self.processes[name] = Process(command, self.path(f"{name}.log"), set(self.cores), **options)
        return self.processes[name]

    def cpu_seconds(self):
        return sum(cpu_seconds(self.processes[name]) for name in ("first", "second"))

    def check(self):
        for process in self.processes.values():
            process.check()


# ── limpet-se ───────────────────────────────────────────────────────────────────────────────────


def services(names, servers, vip, **profile):
    """A document in which pools, services and their profile have names of their own."""
    made = documents.document({"v4": servers}, {"v4": vip}, timeout_s=3600, udp_idle_s=3600, tcp_idle_s=3600,
                              preserve_client_ip=True, profile=profile)
    return json.loads(json.dumps(made).replace("v4", names).replace("sticky", f"sticky-{names}"))


def engine_limits(which, entries, capture_flows):
    first, entries = which == "first", entries + capture_flows
    return {"persistence_entries": entries + 4096, "flows_per_worker": 1024 + (entries if first else 0),
            "packet_buffers": 32768 + CONVERSATION * capture_flows if first else 4096}


def memory_mb(limits):
    """In whole hugepages."""
    needed = 160 + (limits["persistence_entries"] * 850 + limits["flows_per_worker"] * 200
                    + limits["packet_buffers"] * 2600 >> 20)
    return -(-needed // HUGEPAGE_MB) * HUGEPAGE_MB


class Engines(Pair):
    """Two engines and a traffic program at the first one's device.

    mirroring: whether they know of one another. capture: a device that the first one's worker, which
    then never rests, receives from as well; then there is a service, at LOCAL_VIP, whose bindings are
    not mirrored. hugepages: there are memory_mb() of them for each.
    """

    # "b" has the clients: the engine that is restarted connects, and does so at once.
    NAMES = {"first": "b", "second": "a"}

    def __init__(self, cores, *, entries, mirroring=True, capture=None, capture_flows=0, hugepages=False):
        super().__init__(cores)
        self.entries, self.mirroring, self.hugepages = entries, mirroring, hugepages
        self.capture, self.capture_flows = capture, capture_flows
        self.port = dict(zip(("first", "second"), free_ports(2)))
        self.connections = {}
        self.clients = 0

    def name(self, which):
        return f"bench-{os.getpid()}-{self.NAMES[which]}"

    def bootstrap(self, which):
        first = which == "first"
        limits = engine_limits(which, self.entries, self.capture_flows)
        busy = self.capture is not None
        memif = f"net_memif0,role=client,rsize=13,socket-abstract=no,socket={self.path('memif.sock')}"
        ports = {"clients": (memif if first else "net_null0,no-rx=1", [PORT_ADDRESS])}
        if first and busy:
            ports["capture"] = (self.capture, [captures.PORT_ADDRESS])
        # A busy worker has a core of its own; the others share what is left.
        control, worker = self.cores if first else reversed(self.cores)
        if busy and not first:
            worker = control = self.cores[0]
        made = documents.bootstrap(
            self.name(which), ports, control_core=control, worker_cores=(worker,),
            idle_sleep_us=0 if first and busy else 20, document="document.json",
            memory={"hugepages": self.hugepages, "size_mb": memory_mb(limits)},
            neighbors=[{"address": a, "mac": SERVER_MAC, "port": port} for port, addresses in
                       (("clients", SERVERS), ("capture", captures.SERVERS[:1])) if port in ports for a in addresses],
            limits=limits,
            api={"listen": f"unix:{self.path(which + '.sock')}"})
        for port in made["ports"]:
            port["mac"] = PORT_MAC
        if self.mirroring:
            other = "second" if first else "first"
            made["mirroring"] = {
                "listen": f"127.0.0.1:{self.port[which]}", "secret_file": "cluster.key",
                "peers": [{"name": self.name(other), "address": f"127.0.0.1:{self.port[other]}"}]}
        return made

    def start(self):
        with open(self.path("cluster.key"), "wb") as file:
            file.write(os.urandom(64))
        document = services("clients", SERVERS, VIP)
        if self.capture is not None:
            for more in (services("captured", captures.SERVERS[:1], captures.VIP),
                         services("local", SERVERS, LOCAL_VIP, ha_persistence_mirroring_enabled=False)):
                for kind in ("ApplicationPersistenceProfile", "Pool", "VsVip", "VirtualService"):
                    document[kind] += more[kind]
        with open(self.path("document.json"), "w", encoding="utf-8") as file:
            json.dump(document, file)
        traffic = self.spawn("traffic", [traffic_binary(), self.path("memif.sock"),
                                         str(documents.ECHO_PORT), PORT_MAC],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if traffic.child.stdout.readline() != "listening\n":
            traffic.child.wait()
            traffic.check()
        for which in ("first", "second"):
            self.start_engine(which)
        if self.mirroring:
            until(self.synced, "a session")
            time.sleep(0.2)

    def start_engine(self, which):
        config = self.path(f"{which}.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(self.bootstrap(which), file)
        self.connections[which] = UnixConnection(self.path(f"{which}.sock"), 30)
        process = self.spawn(which, [engine_binary(), "--config", config])
        until(lambda: process.listens_at(self.path(f"{which}.sock")), "the API")
        up = time.monotonic()
        until(lambda: self.metrics(which), "the API")
        return up

    def close(self):
        for connection in self.connections.values():
            connection.close()
        super().close()

    def ask(self, which, path):
        connection = self.connections[which]
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next attempt begins anew
            self.processes[which].check()
            return None

    def metrics(self, which):
        """{"name{labels}": value}; nothing while the API is not there."""
        text = self.ask(which, "/metrics")
        return text and {name: float(value) for name, value in
                         (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")}

    def synced(self):
        return all(json.loads(self.ask(which, "/v1/status"))["peers"][0]["synced"]
                   for which in ("first", "second"))

    def held(self, which):
        """Bindings in the tables of the homes."""
        metrics = self.metrics(which) or {}
        return sum(v for name, v in metrics.items() if name.startswith("limpet_persistence_records{"))

    def make(self, count, rate, vip=VIP):
        """New clients; (seconds until all were answered, datagrams that had to be sent again)"""
        child = self.processes["traffic"].child
        child.stdin.write(f"{self.clients + 1_000_000} {count} {rate} {vip}\n")
        child.stdin.flush()
        self.clients += count
        answer = child.stdout.readline().split()
        if not answer:
            child.wait()
            self.check()
        return float(answer[0]), int(answer[1])

    def all_mirrored(self):
        until(lambda: self.held("second") >= self.clients, "mirroring", step_s=0.02)

    def lags(self):
        """[(upper bound in seconds, how many up to it)] of what the second has merged so far."""
        pattern = re.compile(r'limpet_peer_apply_lag_seconds_bucket\{.*le="([^"]+)"\}')
        found = []
        for name, value in self.metrics("second").items():
            match = pattern.match(name)
            if match:
                found.append((float(match.group(1)), value))
        return found

    def restart_second(self):
        """(seconds until it listens, from then until it has everything, bytes)"""
        self.processes["second"].stop()
        self.connections["second"].close()
        before = time.monotonic()
        up = self.start_engine("second")
        self.all_mirrored()
        done = time.monotonic()
        return up - before, done - up, bytes_between(self.port["first"])


# ── HAProxy ─────────────────────────────────────────────────────────────────────────────────────


class Cli:
    """A connection to a HAProxy's stats socket."""

    PROMPT = b"\n> "

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.pending = b""
        self.answered = 0
        self.ask("prompt")

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(self.PROMPT):
            some = self.socket.recv(1 << 16)
            if not some:
                raise RuntimeError("HAProxy has closed its socket")
            answer += some
        return answer.decode()

    def write(self, commands):
        for i in range(0, len(commands), CLI_COMMANDS):
            self.pending += (";".join(commands[i:i + CLI_COMMANDS]) + "\n").encode()

    def move(self):
        """Sends and takes what can be now; how many commands were answered."""
        self.socket.setblocking(False)
        try:
            if self.pending:
                self.pending = self.pending[self.socket.send(self.pending):]
        except BlockingIOError:
            pass
        try:
            return self.socket.recv(1 << 18).count(b">")
        except BlockingIOError:
            return 0
        finally:
            self.socket.settimeout(30)


def table_key(client):
    return f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"


def set_command(client):
    return f"set table clients key {table_key(client)} data.server_id 1"


class Haproxies(Pair):
    """Two HAProxies whose stick table is filled through the first one's stats socket."""

    def __init__(self, cores, *, entries, mirroring=True):
        super().__init__(cores)
        self.entries, self.mirroring = entries, mirroring
        self.port = dict(zip(("first", "second"), free_ports(2)))
        self.clis, self.fillers = {}, []
        self.clients = self.samples = 0

    def configuration(self, which):
        peers = "".join(f"    peer {name} 127.0.0.1:{port}\n" for name, port in self.port.items())
        table = f"stick-table type ip size {max(self.entries * 11 // 10, 1 << 20)} expire 1h store server_id"
        return (f"global\n    stats socket {self.path(which + '.sock')} level admin\n    stats timeout 1h\n"
                f"    nbthread 1\n    localpeer {which}\n    tune.bufsize 262144\n"
                "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
                + (f"peers cluster\n{peers}" if self.mirroring else "")
                + f"backend clients\n    {table}{' peers cluster' if self.mirroring else ''}\n"
                "    stick on src\n    server one 127.0.0.1:9 id 1\n")

    def start(self):
        for which in ("first", "second"):
            self.start_one(which)
        self.fillers = [Cli(self.path("first.sock")) for _ in range(CLI_CONNECTIONS)]
        if self.mirroring:
            until(lambda: "last_status=ESTA" in self.clis["second"].ask("show peers"), "a session")
            # It begins with a resync from whoever is there, for which it waits some seconds.
            self.clis["first"].ask(set_command(0))
            self.clients = 1
            self.all_mirrored()

    def start_one(self, which):
        config = self.path(f"{which}.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(self.configuration(which))
        if os.path.exists(self.path(f"{which}.sock")):
            os.unlink(self.path(f"{which}.sock"))
        process = self.spawn(which, [haproxy_binary(), "-f", config, "-db"])
        path = self.path(f"{which}.sock")
        until(lambda: process.listens_at(path), "the stats socket", step_s=0.002)
        up = time.monotonic()
        self.clis[which] = Cli(path)
        return up

    def held(self, which):
        return int(re.search(r"used:(\d+)", self.clis[which].ask("show table")).group(1))

    def make(self, count, rate):
        """New entries; (seconds until all were answered, 0)"""
        commands = [set_command(i) for i in range(self.clients, self.clients + count)]
        begin, sent, answered = time.monotonic(), 0, 0
        while answered < count:
            due = min(count, int((time.monotonic() - begin) * rate), answered + CLI_AHEAD)
            if due > sent:
                share = -(-(due - sent) // len(self.fillers))
                for i, cli in enumerate(self.fillers):
                    cli.write(commands[sent + i * share:min(due, sent + (i + 1) * share)])
                sent = due
            answered += sum(cli.move() for cli in self.fillers)
            self.processes["first"].check()
            time.sleep(0.0003)
        self.clients += count
        return time.monotonic() - begin, 0

    def all_mirrored(self):
        until(lambda: self.held("second") >= self.clients, "mirroring", step_s=0.005)

    def restart_second(self):
        """(seconds until it listens, from then until it has everything, bytes)"""
        self.processes["second"].stop()
        before = time.monotonic()
        up = self.start_one("second")
        self.all_mirrored()
        done = time.monotonic()
        return up - before, done - up, max(bytes_between(port) for port in self.port.values())
