"""The two programs that are measured, on the same looped capture: limpet-se and dpdk-testpmd.

Both get one worker on the same core, the same device arguments, mbuf size and count. Without
hugepages DPDK gives testpmd's mbufs a page each, so it is given the memory for that.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import captures
import documents
from lab import UnixConnection, engine_binary, wait_until
from machine import undisturbed_on

PORT = "one"
DATA_ROOM_BYTES = 2048 + 128  # what the engine uses for an MTU of 1,500
START_TIMEOUT_S = 180
WORKER_THREADS = ("rte-worker-1", "lcore-worker-1")  # as DPDK names the thread of lcore 1


def testpmd_binary():
    return shutil.which("dpdk-testpmd")


class Telemetry:
    """A connection to a DPDK program's telemetry socket."""

    def __init__(self, runtime_folder):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.settimeout(10)
            self.socket.connect(os.path.join(runtime_folder, "dpdk_telemetry.v2"))
            self.socket.recv(65536)  # who it is
        except OSError:
            self.socket.close()
            raise

    def sent(self):
        """Packets that port 0 has sent; 0 while it is not there yet."""
        self.socket.send(b"/ethdev/stats,0")
        stats = json.loads(self.socket.recv(65536))["/ethdev/stats"]
        return stats["opackets"] if stats else 0

    def close(self):
        self.socket.close()


class Watch:
    """The time that a program's worker had from here to stop()."""

    def __init__(self, program):
        self.program = program
        self.begin = self._now()
        self.end = None

    def _now(self):
        return time.monotonic(), self.program.worker_seconds()

    def stop(self):
        self.end = self._now()

    def seconds(self):
        """Of the core's time, all of which is the worker's on an undisturbed machine."""
        if self.end is None:
            self.stop()
        return self.end[1] - self.begin[1]

    def share(self):
        return self.seconds() / (self.end[0] - self.begin[0])


class Program:
    """A child on the bench's cores, with a folder of its own; gone when the context is left."""

    def __init__(self, machine, name):
        self.machine = machine
        self.name = f"limpet-bench-{os.getpid()}-{name}"
        self.folder = tempfile.mkdtemp(prefix="limpet-bench-")
        self.log_path = os.path.join(self.folder, "output.log")
        self.process = self.telemetry = self.worker = None
        base = "/var/run" if os.geteuid() == 0 else self.folder
        self.runtime_folder = os.path.join(base, "dpdk", self.file_prefix())

    def file_prefix(self):
        return self.name

    def __enter__(self):
        try:
            self.start()
            self.telemetry = self.until(lambda: Telemetry(self.runtime_folder), "telemetry")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def spawn(self, command, **options):
        cores = {self.machine.control_core, self.machine.worker_core}

        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, preexec_fn=undisturbed_on(cores),
                env={**os.environ, "XDG_RUNTIME_DIR": self.folder}, **options)

    def worker_seconds(self):
        """CPU time of the worker. It polls all the time, so on a core of its own this is a clock;
        on a shared one it stands still while others run there."""
        if self.worker is None:
            tasks = f"/proc/{self.process.pid}/task"
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/comm", encoding="ascii") as file:
                    if file.read().strip() in WORKER_THREADS:
                        self.worker = f"{tasks}/{task}/schedstat"
        with open(self.worker, encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-4000:]

    def until(self, attempt, what, timeout_s=START_TIMEOUT_S, step_s=0.02):
        """Waits for attempt() to give something; an error when the program ends before."""
        def checked():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}:\n{self.log()}")
            try:
                return attempt()
            except (OSError, http.client.HTTPException):
                return None
        try:
            return wait_until(checked, timeout_s, f"{self.name}: {what}", step_s)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.log()}") from None

    def close(self):
        if self.telemetry is not None:
            self.telemetry.close()
        if self.process is not None and self.process.poll() is None:
            self.ask_to_stop()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.runtime_folder, ignore_errors=True)

    def ask_to_stop(self):
        self.process.terminate()


class Testpmd(Program):
    def __init__(self, machine, capture, hugepages):
        self.capture, self.hugepages = capture, hugepages
        super().__init__(machine, "testpmd")

    def start(self):
        cores, buffers = self.machine, self.capture.buffers
        memory = ["--in-memory"] if self.hugepages else ["--no-huge", "--no-shconf"]
        self.spawn([testpmd_binary(), "--lcores", f"0@{cores.control_core},1@{cores.worker_core}",
                    "--main-lcore=0", *memory, "-m",
                    str(self.capture.reference_mb(self.hugepages)), "--no-pci",
                    f"--file-prefix={self.file_prefix()}", "--log-level=error",
                    "--vdev", self.capture.device, "--",
                    "--forward-mode=5tswap", "--no-flush-rx", "--nb-cores=1", "--port-topology=loop",
                    f"--total-num-mbufs={buffers}", f"--mbuf-size={DATA_ROOM_BYTES}", "--mbcache=256",
                    "--no-mlockall"], stdin=subprocess.PIPE)

    def ask_to_stop(self):
        try:
            self.process.stdin.write(b"\n")  # it waits for "enter"
            self.process.stdin.flush()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.terminate()

    def packets_per_second(self, seconds):
        """(sent packets, share of the core), after every packet of the capture was seen once."""
        self.until(lambda: self.telemetry.sent() > self.capture.packets, "the first pass")
        begin, watch = self.telemetry.sent(), Watch(self)
        time.sleep(seconds)
        end = self.telemetry.sent()
        return (end - begin) / watch.seconds(), watch.share()


class Engine(Program):
    """options: of documents.document()."""

    def __init__(self, machine, capture, hugepages, *, flows, entries, servers, **options):
        self.capture, self.hugepages = capture, hugepages
        self.flows, self.entries = flows, entries
        self.persistent = options.get("persistent", True)
        self.document = documents.document({"v4": servers}, {"v4": captures.VIP}, timeout_s=600,
                                           udp_idle_s=3600, tcp_idle_s=3600, **options)
        self.connection = self.socket_path = None
        super().__init__(machine, "se")

    def file_prefix(self):
        return "limpet-" + self.name

    def bootstrap(self):
        made = documents.bootstrap(
            self.name, {PORT: (self.capture.device, [captures.PORT_ADDRESS])},
            worker_cores=(self.machine.worker_core,), control_core=self.machine.control_core,
            idle_sleep_us=0, snat=[captures.SNAT], document="document.json",
            memory={"hugepages": self.hugepages,
                    "size_mb": self.capture.engine_mb(self.flows, self.entries)},
            neighbors=[{"address": a, "mac": captures.SERVER_MAC} for a in captures.SERVERS],
            limits={"persistence_entries": self.entries, "flows_per_worker": self.flows,
                    "packet_buffers": self.capture.buffers})
        made["ports"][0]["mac"] = captures.PORT_MAC
        return made

    def start(self):
        config = os.path.join(self.folder, "engine.json")
        for path, content in ((config, self.bootstrap()),
                              (os.path.join(self.folder, "document.json"), self.document)):
            with open(path, "w", encoding="utf-8") as file:
                json.dump(content, file)
        self.socket_path = os.path.join(self.folder, "api.sock")
        self.connection = UnixConnection(self.socket_path, 30)
        self.spawn([engine_binary(), "--config", config])

    def close(self):
        if self.connection is not None:
            self.connection.close()
        super().close()

    def metrics(self):
        """{"name{labels}": value}"""
        try:
            self.connection.request("GET", "/metrics")
            text = self.connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            self.connection.close()  # the next attempt begins anew
            raise
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))}

    def window(self, seconds):
        """(metrics before, after, the Watch that ran in between)"""
        before, watch = self.metrics(), Watch(self)
        time.sleep(seconds)
        after = self.metrics()
        watch.stop()
        return before, after, watch

    def warm_up(self, is_warm, passes):
        """Until is_warm(metrics), and then so many passes over the capture."""
        self.until(lambda: is_warm(self.metrics()), "warming up", step_s=0.2)
        seen = received(self.metrics())
        self.until(lambda: received(self.metrics()) - seen > passes * self.capture.packets, "a pass",
                   step_s=0.2)

    def listed(self):
        """How many entries a listing has now: the control thread may be some seconds behind the worker."""
        connection = UnixConnection(self.socket_path, 30)
        try:
            connection.request("GET", "/v1/persistence-tables?limit=1")
            return json.loads(connection.getresponse().read())["count"]
        finally:
            connection.close()


class Listing:
    """Lists an engine's persist table over and over, in pages of 1,000, while the context lasts.

    count: what the last finished listing had; pages: how many pages in all.
    """

    def __init__(self, engine):
        self.engine, self.count, self.pages, self.error = engine, None, 0, None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        self.thread.join()
        if self.error is not None and kind is None:
            raise RuntimeError(f"listing: {self.error}")

    def run(self):
        connection = UnixConnection(self.engine.socket_path, 30)
        try:
            cursor = ""
            while not self.stop.is_set():
                connection.request("GET", f"/v1/persistence-tables?limit=1000{cursor}")
                page = json.loads(connection.getresponse().read())
                self.pages += 1
                self.count = page["count"]
                cursor = f"&cursor={page['next']}" if page["next"] else ""
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            self.error = error
        finally:
            connection.close()


def received(metrics):
    return metrics[f'limpet_packets_total{{port="{PORT}",direction="rx"}}']


def sent(metrics):
    return metrics[f'limpet_packets_total{{port="{PORT}",direction="tx"}}']


def connections(metrics):
    """Accepted, by all virtual services."""
    return sum(value for name, value in metrics.items() if name.startswith("limpet_connections_total"))


def flows(metrics):
    return sum(value for name, value in metrics.items() if name.startswith("limpet_worker_flows{"))


def created(metrics):
    return metrics['limpet_persistence_lookups_total{result="new"}']


def drops(before, after):
    """{reason: packets} of what was dropped in between."""
    return {name.split('"')[1]: int(after[name] - before[name]) for name in after
            if name.startswith("limpet_drops_total{") and after[name] != before[name]}
