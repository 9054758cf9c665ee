"""What scripts/bench l4 measures: one engine worker beside dpdk-testpmd's 5tswap.

Engine and testpmd run in turns (A B A B), and medians are compared: noise of the machine then hits
both. Rates are per second of the worker's CPU time, which is wall time unless others use its core;
caches and memory that others use slow it down all the same. Every engine run is checked: a packet
dropped, or a connection that is not what the capture says, is an error, not a number.
"""
import contextlib
import os
import statistics

import captures
import programs
from machine import Hugepages, available_mb
from programs import Engine, Listing, Testpmd

CAPTURE_NAME = "capture.pcap"
BUFFERS_BESIDE_CAPTURE = 8192  # in flight, in caches, and for what the engine says by itself
MBUF_BYTES = 128 + 128 + programs.DATA_ROOM_BYTES + 64  # head, the engine's own part, data, pool
TESTPMD_PAGE_BYTES = 4096
FLOW_TABLE_BYTES, ENTRY_TABLE_BYTES = 176, 288  # more than they are: for sizing memory
SAMPLE_S = 0.02
LOST_MAX = 0.001  # of the packets: what may be dropped or missing in a window
READING_S = 0.005  # between the readings of two figures of one metric page


class Capture:
    """A written capture and what programs need to loop it."""

    def __init__(self, folder, records):
        self.path = os.path.join(folder, CAPTURE_NAME)
        self.packets = captures.write(self.path, records)
        self.buffers = self.packets + BUFFERS_BESIDE_CAPTURE
        self.device = f"net_pcap0,rx_pcap={self.path},infinite_rx=1"

    def engine_mb(self, flows, entries):
        return (self.buffers * MBUF_BYTES + flows * FLOW_TABLE_BYTES
                + entries * ENTRY_TABLE_BYTES >> 20) * 11 // 10 + 128

    def reference_mb(self, hugepages):
        # The loop's ring of pointers is rounded up to a power of two.
        each = MBUF_BYTES if hugepages else TESTPMD_PAGE_BYTES
        return (self.buffers * (each + 32) >> 20) * 21 // 20 + 96


class Result:
    def __init__(self, name, unit, value, reference_value, notes=None, reference="dpdk-testpmd 5tswap"):
        self.name, self.unit = name, unit
        self.value, self.reference_value, self.reference = value, reference_value, reference
        self.notes = notes or {}

    def ratio(self):
        return self.value / self.reference_value

    def as_json(self):
        return {"name": self.name, "value": round(self.value), "unit": self.unit,
                "reference": self.reference, "reference_value": round(self.reference_value),
                "ratio": round(self.ratio(), 4), **self.notes}


class Bench:
    """machine: control_core and worker_core; folder: for captures; say(text): progress."""

    def __init__(self, machine, folder, *, seconds, repeat, reserve_hugepages, say):
        self.machine, self.folder = machine, folder
        self.seconds, self.repeat, self.say = seconds, repeat, say
        self.reserve_hugepages = reserve_hugepages
        self.record_sizes = {}
        self.least_share = 1.0

    def established(self, name, flows, rounds):
        capture = self.capture(captures.datagrams(flows, rounds))
        engine = dict(flows=flows + flows // 16, entries=flows + flows // 16, servers=captures.SERVERS)
        return self.packet_rate(name, capture, flows, engine)

    def tcp_preserve(self, name, flows):
        capture = self.capture(captures.conversations(flows))
        engine = dict(flows=flows + flows // 16, entries=flows + flows // 16,
                      servers=captures.SERVERS[:1], preserve_client_ip=True)
        return self.packet_rate(name, capture, flows, engine)

    def packet_rate(self, name, capture, flows, engine):
        def established(program):
            program.warm_up(lambda m: programs.flows(m) == flows, 2)
            before, after, watch = program.window(self.seconds)
            self.check_all_forwarded(name, before, after)
            if programs.connections(after) != programs.connections(before):
                raise RuntimeError(f"{name}: connections were opened while established ones were measured")
            return (programs.sent(after) - programs.sent(before)) / watch.seconds(), watch.share()
        values, reference = self.in_turns(name, capture, {name: engine}, established)
        return [Result(name, "packets/s", values[name], reference)]

    def connections_per_second(self, clients):
        """(SYN, RST) pairs: with persistence every SYN finds its client's entry."""
        capture = self.capture(captures.openings(clients))
        engine = dict(flows=clients, entries=clients + clients // 16, servers=captures.SERVERS)

        def opening(program):
            seen = programs.created if program.persistent else programs.connections
            program.warm_up(lambda m: seen(m) >= clients, 2)
            before, after, watch = program.window(self.seconds)
            name = "connections per second"
            self.check_all_forwarded(name, before, after)
            self.check_connections(name, before, after)
            if programs.created(after) != programs.created(before):
                raise RuntimeError(f"{name}: clients were taken for new ones")
            opened = programs.connections(after) - programs.connections(before)
            return opened / watch.seconds(), watch.share()
        on, off = "cps_persistence_on", "cps_persistence_off"
        values, reference = self.in_turns("connections per second", capture,
                                          {on: dict(engine, persistent=True),
                                           off: dict(engine, persistent=False)}, opening)
        ratio = {"on_over_off": round(values[on] / values[off], 4)}
        return [Result(on, "connections/s", values[on], reference / 2, ratio),
                Result(off, "connections/s", values[off], reference / 2)]

    def new_clients(self, name, clients):
        """Connections of clients without an entry, from 10 % to 90 % of the first pass.

        Counted by the device's statistics: every connection is two packets sent. /metrics would
        have the worker walk its entries while it is measured.
        """
        capture = self.capture(captures.openings(clients))
        engine = dict(flows=clients // 16 + 1024, entries=clients + clients // 16,
                      servers=captures.SERVERS)

        def new(program):
            found = self.first_pass(program, clients)
            program.warm_up(lambda m: programs.created(m) >= clients, 0)
            if programs.created(program.metrics()) != clients:
                raise RuntimeError(f"{name}: clients were taken for new ones twice")
            return found
        values, reference = self.in_turns(name, capture, {name: engine}, new)
        return [Result(name, "connections/s", values[name], reference / 2)]

    def while_listing(self, name, clients):
        """Connections of known clients while the whole table is listed, page by page, over and over;
        beside the same engine's when nobody asks. In turns."""
        capture = self.capture(captures.openings(clients))
        options = dict(flows=clients // 16 + 1024, entries=clients + clients // 16,
                       servers=captures.SERVERS)
        quiet, listed, pages = [], [], 0
        with self.hugepages_for(name, capture.engine_mb(options["flows"], options["entries"])) as hugepages:
            with Engine(self.machine, capture, hugepages, **options) as program:
                program.warm_up(lambda m: programs.created(m) >= clients, 1)
                program.until(lambda: program.listed() == clients, "all to be listed", step_s=0.2)
                for turn in range(self.repeat):
                    self.say(f"{name}: quiet, run {turn + 1} of {self.repeat}")
                    quiet.append(self.noted(*self.opened(name, program)))
                    self.say(f"{name}: listing, run {turn + 1} of {self.repeat}")
                    with Listing(program) as listing:
                        listed.append(self.noted(*self.opened(name, program)))
                    pages += listing.pages
                    if listing.count != clients or listing.pages == 0:
                        raise RuntimeError(f"{name}: {listing.count} of {clients} entries were listed, "
                                           f"on {listing.pages} pages")
        self.say(f"{name}: {pages} pages were listed")
        return [Result(name, "connections/s", statistics.median(listed), statistics.median(quiet),
                       {"entries": clients}, "the same without a listing")]

    @staticmethod
    def first_pass(program, clients, packets_each=2):
        """(connections a second, share of the core), each of so many packets, all of them sent on."""
        samples = []

        def sample():
            samples.append((programs.Watch(program), program.telemetry.sent() / packets_each))
            return samples[-1][1] >= clients
        program.until(sample, "the first pass", step_s=SAMPLE_S)
        return slope(samples, clients)

    def time_wait_full(self, name, clients):
        """Connections that end by FIN while the flow table is full of others in TIME_WAIT, so that one
        has to give way to each; beside the first pass over a table with room for all. In turns."""
        capture = self.capture(captures.visits(clients))
        options = dict(entries=1024, servers=captures.SERVERS[:1], preserve_client_ip=True, persistent=False)
        roomy, small = clients + clients // 16, clients - clients // 16
        full, empty = [], []
        with self.hugepages_for(name, capture.engine_mb(roomy, 1024)) as hugepages:
            for turn in range(self.repeat):
                self.say(f"{name}: room for all, run {turn + 1} of {self.repeat}")
                with Engine(self.machine, capture, hugepages, flows=roomy, **options) as program:
                    empty.append(self.noted(*self.first_pass(program, clients, len(captures.VISIT))))
                    program.warm_up(lambda m: programs.flows(m) == clients, 0)
                self.say(f"{name}: full, run {turn + 1} of {self.repeat}")
                with Engine(self.machine, capture, hugepages, flows=small, **options) as program:
                    program.warm_up(lambda m: programs.flows(m) >= small - 1, 1)
                    full.append(self.noted(*self.opened(name, program, len(captures.VISIT))))
                    if programs.flows(program.metrics()) < small - 1:
                        raise RuntimeError(f"{name}: the flow table did not stay full")
        return [Result(name, "connections/s", statistics.median(full), statistics.median(empty),
                       {"flows": small}, "the same with an empty table")]

    def opened(self, name, program, packets_each=2):
        """(connections a second, share of the core)"""
        before, after, watch = program.window(self.seconds)
        self.check_connections(name, before, after, packets_each)
        return ((programs.connections(after) - programs.connections(before)) / watch.seconds(),
                watch.share())

    # ── Runs ────────────────────────────────────────────────────────────────────────────────────

    def capture(self, records):
        self.say("writing the capture")
        return Capture(self.folder, records)

    def in_turns(self, name, capture, engines, measure):
        """({engine: median}, median of testpmd); engines: {name: options of Engine}."""
        needed_mb = max([capture.reference_mb(True)] + [
            capture.engine_mb(options["flows"], options["entries"]) for options in engines.values()])
        with self.hugepages_for(name, needed_mb, capture.reference_mb(False)) as hugepages:
            return self.turns(name, capture, hugepages, engines, measure)

    @contextlib.contextmanager
    def hugepages_for(self, name, needed_mb, needed_in_small_pages_mb=0):
        """Whether the programs get hugepages."""
        needed_mb += 64
        with Hugepages(needed_mb, self.reserve_hugepages) as hugepages:
            needed_mb = max(needed_mb, 0 if hugepages else needed_in_small_pages_mb)
            if not hugepages and available_mb() < needed_mb:
                raise RuntimeError(f"{name}: {needed_mb} MB of memory are needed, "
                                   f"{available_mb()} MB are there")
            self.say(f"{name}: " + ("hugepages" if hugepages else "no hugepages: small pages for all"))
            yield hugepages

    def turns(self, name, capture, hugepages, engines, measure):
        values, reference = {one: [] for one in engines}, []
        for turn in range(self.repeat):
            for one, options in engines.items():
                self.say(f"{one}: engine, run {turn + 1} of {self.repeat}")
                with Engine(self.machine, capture, hugepages, **options) as program:
                    values[one].append(self.noted(*measure(program)))
                    self.note_record_sizes(program)
            self.say(f"{name}: testpmd, run {turn + 1} of {self.repeat}")
            with Testpmd(self.machine, capture, hugepages) as program:
                reference.append(self.noted(*program.packets_per_second(self.seconds)))
        return {one: statistics.median(v) for one, v in values.items()}, statistics.median(reference)

    def noted(self, rate, share):
        self.least_share = min(self.least_share, share)
        self.say(f"  {rate:,.0f}/s, with {share:.0%} of the core")
        return rate

    def note_record_sizes(self, program):
        if not self.record_sizes:
            metrics = program.metrics()
            self.record_sizes = {"flow": metrics["limpet_flow_bytes"],
                                 "entry": metrics["limpet_persistence_entry_bytes"],
                                 "index": metrics["limpet_flow_index_bytes"]}

    def leeway(self, arrived):
        """Packets that may seem lost: few, and what comes between the readings of two figures."""
        return LOST_MAX * arrived + READING_S * arrived / self.seconds + 64

    def check_all_forwarded(self, name, before, after):
        arrived = programs.received(after) - programs.received(before)
        left = programs.sent(after) - programs.sent(before)
        lost = programs.drops(before, after)
        most = self.leeway(arrived)
        if arrived == 0 or abs(arrived - left) > most or sum(lost.values()) > most:
            raise RuntimeError(f"{name}: {arrived:.0f} packets arrived, {left:.0f} left, dropped: {lost}")

    def check_connections(self, name, before, after, packets_each=2):
        arrived = programs.received(after) - programs.received(before)
        opened = programs.connections(after) - programs.connections(before)
        if abs(arrived / packets_each - opened) > self.leeway(arrived):
            raise RuntimeError(f"{name}: {arrived:.0f} packets opened {opened:.0f} connections")


def slope(samples, total):
    """(a second, share of the core) from 10 % to 90 % of the total; samples: [(Watch, count)]."""
    begin = max((i for i, (_, n) in enumerate(samples) if n < 0.1 * total), default=0)
    end = next(i for i, (_, n) in enumerate(samples) if n >= min(0.9 * total, samples[-1][1]))
    if begin == end:
        raise RuntimeError("the first pass was over before the first sample")
    (watch, first), (then, last) = samples[begin], samples[end]
    watch.end = then.begin
    return (min(last, total) - first) / watch.seconds(), watch.share()
