"""The lab: clients, an engine and real servers, each in a network namespace of its own.

    client ── front [engine] back ── switch ─┬─ server1   nginx :80, UDP echo :9053
    10.1.0.2…9        VIP 10.1.0.100         ├─ server2
    fd00:1::2…9       VIP fd00:1::100        └─ server3   10.2.0.2…4, fd00:2::2…4

One-armed: client, engine and servers are all on the switch, servers at 10.1.0.52…54. Every lab has
its own namespace names and folder, so several run side by side. Needs root; close() leaves nothing.
"""
import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time

import documents
from namespace import Namespace, bridge, connect, run, stop

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CLIENTS = 8
SERVERS = 3
VIPS = {"v4": "10.1.0.100", "v6": "fd00:1::100"}
NGINX = """\
# Made by the lab.
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format lab '$remote_addr $server_addr $request_uri $status $body_bytes_sent';
  access_log {folder}/access.log lab;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type text/plain;
  server {{
    {listen}
    location / {{ return 200 "{name} $remote_addr\\n"; }}
    location /files/ {{ alias {folder}/files/; }}
    location /slow/ {{ alias {folder}/files/; limit_rate 64k; }}
  }}
}}
"""


def build_folder():
    return os.environ.get("LIMPET_BUILD", os.path.join(ROOT, "build"))


def engine_binary():
    return os.path.join(build_folder(), "control/engine/limpet-se")


def client_binary():
    return os.path.join(build_folder(), "control/cli/limpetctl")


def family_of(text):
    return "v6" if ":" in text else "v4"


def bracketed(text):
    return f"[{text}]" if ":" in text else text


def wait_until(condition, timeout_s=10.0, what="condition", step_s=0.02):
    """Waits for condition() to be true and returns its value; an error when it does not come."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(step_s)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class ApiError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {json.dumps(body)[:2000]}")
        self.status, self.body = status, body


class Engine:
    """One running limpet-se."""

    def __init__(self, lab, bootstrap, folder, expect_start=True, namespace=None):
        self.lab, self.folder, self.name = lab, folder, bootstrap["name"]
        self.config = os.path.join(folder, "engine.json")
        self.log_path = os.path.join(folder, "engine.log")
        self.socket_path = os.path.join(folder, "api.sock")
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(bootstrap, file, indent=2)
        with open(self.log_path, "ab") as log:
            self.process = (namespace or lab.engine_namespace).start(
                engine_binary(), "--config", self.config, stdout=log, stderr=log, detached=lab.detached)
        if expect_start:
            self._wait_for_api()

    def _wait_for_api(self):
        def answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"limpet-se ended with status {self.process.returncode}:\n{self.log()}")
            try:
                self.api("GET", "/v1/status")
                return True
            except (OSError, http.client.HTTPException):
                return False
        try:
            wait_until(answers, 60, "the engine's API")
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n{self.log()}") from None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-8000:]

    def request(self, method, path, body=None, timeout_s=30):
        """(status, headers, body as bytes)"""
        connection = UnixConnection(self.socket_path, timeout_s)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def api(self, method, path, body=None):
        """The JSON answer; ApiError when the engine refuses."""
        status, _, text = self.request(method, path, body)
        try:
            answer = json.loads(text) if text else None
        except ValueError:
            answer = text.decode(errors="replace")
        if status >= 300:
            raise ApiError(status, answer)
        return answer

    def apply(self, document):
        return self.api("PUT", "/v1/config", document)

    def mark(self, server, state, pool=None):
        """Marks "10.2.0.2:80" OPER_UP or OPER_DOWN, or takes its mark back (None)."""
        if pool is None:
            service = "web" if server.endswith(":80") else "echo"
            pool = f"{service}-pool-{'v6' if server.startswith('[') else 'v4'}"
        return self.api("POST", "/v1/health-marks",
                        [{"pool": pool, "server": server, "oper_status": state, "reason": "lab"}])

    def entries(self, **filters):
        query = "&".join(f"{key}={value}" for key, value in {"limit": 1000, **filters}.items())
        return self.api("GET", f"/v1/persistence-tables?{query}")["results"]

    def events(self, after=0):
        return self.api("GET", f"/v1/events?after={after}")["events"]

    def metrics(self):
        """{"name{labels}": value}"""
        found = {}
        for line in self.request("GET", "/metrics")[2].decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def limpetctl(self, *arguments, check=True):
        return run(client_binary(), "--engine", f"unix:{self.socket_path}", *arguments, check=check)

    def stop(self, how=signal.SIGTERM):
        """Exit status of the engine."""
        return stop(self.process, 20, how)


class Lab:
    """Builds the lab; as a context manager it is gone afterwards.

    device: af_packet, af_xdp or tap: what the engine's ports are; device_arguments: more of DPDK's.
    """

    def __init__(self, *, one_armed=False, device="af_packet", device_arguments="", name=None, detached=False,
                 mtu=1500):
        if os.geteuid() != 0:
            raise PermissionError("the lab makes network namespaces: it needs root")
        self.name = name or f"limpet-{os.getpid()}-{os.urandom(2).hex()}"
        self.one_armed, self.device, self.detached, self.mtu = one_armed, device, detached, mtu
        self.device_arguments = device_arguments
        self.namespaces, self.processes, self.engines = [], [], []
        self.folder = tempfile.mkdtemp(prefix=self.name + "-")
        os.chmod(self.folder, 0o755)
        self.vips = dict(VIPS)
        self.clients = {"v4": [f"10.1.0.{i}" for i in range(2, 2 + CLIENTS)],
                        "v6": [f"fd00:1::{i:x}" for i in range(2, 2 + CLIENTS)]}
        base4, base6 = ("10.1.0.", "fd00:1::") if one_armed else ("10.2.0.", "fd00:2::")
        first = 52 if one_armed else 2
        self.servers = {"v4": [f"{base4}{first + i}" for i in range(SERVERS)],
                        "v6": [f"{base6}{first + i}" for i in range(SERVERS)]}
        self.server_names = [f"server{i + 1}" for i in range(SERVERS)]
        if not detached:
            atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ── Building ────────────────────────────────────────────────────────────────────────────────

    def _namespace(self, role):
        namespace = Namespace(f"{self.name}-{role}")
        self.namespaces.append(namespace)
        return namespace

    def _build(self):
        self.client = self._namespace("client")
        self.engine_namespace = self._namespace("engine")
        self.switch = self._namespace("switch")
        self.server_namespaces = [self._namespace(name) for name in self.server_names]
        # The engine alone speaks on its links: the kernel there has no address and no IPv6.
        self.engine_namespace.sysctl("net.ipv6.conf.all.disable_ipv6=1",
                                     "net.ipv6.conf.default.disable_ipv6=1")
        members = []
        if self.one_armed:
            connect(self.client, "eth0", self.switch, "client", self.mtu)
            connect(self.engine_namespace, "front", self.switch, "engine", self.mtu)
            members += ["client", "engine"]
        else:
            connect(self.client, "eth0", self.engine_namespace, "front", self.mtu)
            connect(self.engine_namespace, "back", self.switch, "engine", self.mtu)
            members += ["engine"]
        for name, namespace in zip(self.server_names, self.server_namespaces):
            connect(namespace, "eth0", self.switch, name, self.mtu)
            members.append(name)
        bridge(self.switch, "switch", members)
        self.client.add_addresses("eth0", [f"{a}/24" for a in self.clients["v4"]]
                                  + [f"{a}/64" for a in self.clients["v6"]])
        for i, namespace in enumerate(self.server_namespaces):
            self._start_server(i, namespace)
        if self.device == "tap":
            self._make_taps()

    def _start_server(self, i, namespace):
        v4, v6 = self.servers["v4"][i], self.servers["v6"][i]
        name = self.server_names[i]
        namespace.add_addresses("eth0", [f"{v4}/24", f"{v6}/64"])
        if not self.one_armed:
            # Used when the engine keeps the client's address; it is then the servers' gateway.
            namespace.ip("route", "add", "default", "via", "10.2.0.1")
            namespace.ip("-6", "route", "add", "default", "via", "fd00:2::1")
        folder = os.path.join(self.folder, name)
        os.makedirs(os.path.join(folder, "files"))
        with open(os.path.join(folder, "files", "data"), "wb") as file:
            file.write(bytes(range(256)) * 2048)  # 512 KiB
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(NGINX.format(folder=folder, name=name,
                                    listen=f"listen {v4}:80; listen [{v6}]:80;"))
        log = open(os.path.join(folder, "output.log"), "wb")
        with log:
            self.processes.append(namespace.start("nginx", "-c", config, "-p", folder, "-e",
                                                  f"{folder}/error.log", stdout=log, stderr=log,
                                                  detached=self.detached))
            self.processes.append(namespace.start(
                sys.executable, os.path.join(HERE, "udp_echo.py"), name, str(documents.ECHO_PORT), v4, v6,
                stdout=log, stderr=log, detached=self.detached))
        for address in (v4, v6):
            self._wait_for_server(namespace, address, folder)

    def _wait_for_server(self, namespace, address, folder):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def listens():
            with namespace.socket(family, socket.SOCK_STREAM) as probe, \
                    namespace.socket(family, socket.SOCK_DGRAM) as echo:
                echo.settimeout(0.2)
                try:
                    probe.connect((address, documents.WEB_PORT))
                    echo.sendto(b"?", (address, documents.ECHO_PORT))
                    return echo.recv(100)
                except OSError:
                    return None
        try:
            wait_until(listens, 10, f"the servers at {address}")
        except TimeoutError as error:
            with open(os.path.join(folder, "output.log"), encoding="utf-8") as log:
                raise RuntimeError(f"{error}: {log.read()}") from None

    def engine_links(self):
        return ["front"] if self.one_armed else ["front", "back"]

    def _make_taps(self):
        """A tap for each port, bridged to the port's link. DPDK attaches to it by name."""
        namespace = self.engine_namespace
        for i, link in enumerate(self.engine_links()):
            namespace.ip("tuntap", "add", "dev", f"lt{i}", "mode", "tap", "multi_queue")
            namespace.ip("link", "set", f"lt{i}", "mtu", str(self.mtu))
            bridge(namespace, f"br{i}", [link, f"lt{i}"])
            namespace.ip("link", "set", f"lt{i}", "up")

    def _settle_taps(self):
        # DPDK gives the kernel's side of the tap its own address. A bridge takes frames to the
        # address of a member for itself, so the kernel's side needs another.
        for i, _ in enumerate(self.engine_links()):
            self.engine_namespace.ip("link", "set", f"lt{i}", "address", f"02:00:00:00:fe:{i:02x}")

    def ports(self, workers=1):
        """Ports of the bootstrap: {name: (device, [addresses])}."""
        addresses = {"front": ["10.1.0.1/24", "fd00:1::1/64"], "back": ["10.2.0.1/24", "fd00:2::1/64"]}
        found = {}
        for i, link in enumerate(self.engine_links()):
            device = {"af_packet": f"net_af_packet{i},iface={link}",
                      "af_xdp": f"net_af_xdp{i},iface={link}",
                      "tap": f"net_tap{i},iface=lt{i}"}[self.device]
            found[link] = (device + self.device_arguments, addresses[link])
        return found

    # ── The engine ──────────────────────────────────────────────────────────────────────────────

    def engine_name(self):
        return f"{self.name}-{len(self.engines) + 1}"

    def bootstrap(self, **more):
        name, ports = more.pop("name", self.engine_name()), more.pop("ports", None)
        bootstrap = documents.bootstrap(name, self.ports(), **more)
        if ports is not None:
            bootstrap["ports"] = ports
        return bootstrap

    def document(self, **options):
        return documents.document(self.servers, self.vips, **options)

    def start_engine(self, document=None, expect_start=True, first_document=None, namespace=None,
                     **more):
        """Starts limpet-se and applies the document, if any. first_document: the one that its
        bootstrap names; more: fields of the bootstrap."""
        folder = os.path.join(self.folder, f"engine{len(self.engines) + 1}")
        os.makedirs(folder)
        bootstrap = self.bootstrap(**more)
        if first_document is not None:
            bootstrap["document"] = "first.json"
            with open(os.path.join(folder, "first.json"), "w", encoding="utf-8") as file:
                json.dump(first_document, file)
        engine = Engine(self, bootstrap, folder, expect_start, namespace)
        self.engines.append(engine)
        if self.device == "tap" and expect_start:
            self._settle_taps()
        if document is not None:
            engine.apply(document)
        return engine

    # ── What clients do ─────────────────────────────────────────────────────────────────────────

    def name_of(self, server):
        """"server2" for "10.2.0.3", "10.2.0.3:80" or "[fd00:2::3]:80"."""
        for addresses in self.servers.values():
            for i, address in enumerate(addresses):
                if server in (address, f"{bracketed(address)}:80", f"{bracketed(address)}:9053"):
                    return self.server_names[i]
        return server

    def curl(self, client, target=None, path="/", timeout_s=5, arguments=()):
        """Real curl from a client address. Returns (server's name, client as it saw it) or None."""
        target = target or self.vips[family_of(client)]
        done = self.client.run("curl", "-sS", "--fail", "--noproxy", "*", "--max-time", str(timeout_s),
                               "--interface", client, *arguments, f"http://{bracketed(target)}{path}",
                               check=False)
        if done.returncode != 0:
            return None
        return tuple(done.stdout.split()[:2])

    def connect_tcp(self, client, target=None, port=documents.WEB_PORT, timeout_s=5):
        """A connected TCP socket from a client address; OSError when refused."""
        target = target or self.vips[family_of(client)]
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        connection = self.client.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.bind((client, 0))
            connection.connect((target, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def get(self, client, target=None, timeout_s=5):
        """One HTTP request on its own connection, without curl: (server's name, client it saw)."""
        with self.connect_tcp(client, target, timeout_s=timeout_s) as connection:
            return http_get(connection, close=True)

    def udp(self, client, target=None, payload=b"hello", timeout_s=2, tries=1, port=documents.ECHO_PORT):
        """(server's name, client it saw, payload) or None; OSError when refused (port unreachable)."""
        target = target or self.vips[family_of(client)]
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        with self.client.socket(family, socket.SOCK_DGRAM) as connection:
            connection.settimeout(timeout_s)
            connection.bind((client, 0))
            connection.connect((target, port))
            for _ in range(tries):
                connection.send(payload)
                try:
                    answer = connection.recv(65535)
                except TimeoutError:
                    continue
                name, seen, echoed = answer.split(b" ", 2)
                return name.decode(), seen.decode(), echoed
        return None

    def access_log(self, server):
        with open(os.path.join(self.folder, server, "access.log"), encoding="utf-8") as file:
            return file.read().splitlines()

    # ── Leaving ─────────────────────────────────────────────────────────────────────────────────

    def close(self):
        """Ends its programs, removes its namespaces and its folder. May be called again."""
        for engine in self.engines:
            engine.stop()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            stop(process)
        for namespace in reversed(self.namespaces):
            namespace.delete()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.processes, self.namespaces = [], []
        atexit.unregister(self.close)


def http_ask(connection, path="/", close=False):
    """A request on an open connection."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: lab\r\n"
                       f"{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode())


def http_answer(connection):
    """(server's name, client as it saw it)"""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return tuple(answer.read().decode().split()[:2])


def http_get(connection, path="/", close=False):
    """A request on an open connection, answered: (server's name, client as it saw it)."""
    http_ask(connection, path, close)
    return http_answer(connection)


def end_on_signals():
    """SIGTERM and SIGHUP end the program as Ctrl-C does, so that labs are removed."""
    def interrupt(number, _):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
