"""What scripts/bench mirroring measures, of limpet-se and of HAProxy, in turns.

CPU per entry is a difference: two processes that mirror, less the same two, fed in the same way, that
do not. So what the packets (or HAProxy's commands) cost, and what idle processes cost, is in neither
figure. An engine's workers poll and rest in between; what they do for mirroring shows as they rest
less, and is in the figure.
"""
import json
import os
import re
import statistics
import subprocess
import threading
import time

import captures
from machine import Hugepages, undisturbed_on
from processes import (Cli, Engines, LOCAL_VIP, VIP, channel_binary, engine_limits, free_ports, memory_mb,
                       set_command, table_key, until)

SAMPLE_EVERY_S = 0.005
CAPTURE_FLOWS = 65536
SETTLE_S = 0.1


class Feeding:
    """What came of new entries at one rate."""

    def __init__(self, count, seconds, cpu_s):
        self.count, self.seconds, self.cpu_s = count, seconds, cpu_s
        self.lag_p50_s = self.lag_p99_s = None

    @property
    def rate(self):
        return self.count / self.seconds


def quantile(buckets, q):
    """Of a cumulative histogram, linear within a bucket, as Prometheus does it."""
    total = buckets[-1][1]
    below, low = 0, 0.0
    for bound, count in buckets:
        if count >= q * total:
            return bound if bound == float("inf") else low + (bound - low) * (q * total - below) / max(count - below, 1)
        below, low = count, bound
    return low


def feed(pair, count, rate):
    begin = pair.cpu_seconds()
    seconds, _ = pair.make(count, rate)
    if pair.mirroring:
        pair.all_mirrored()
    time.sleep(SETTLE_S)
    return Feeding(count, seconds, pair.cpu_seconds() - begin)


class LagSampler:
    """Sets keys of its own in the first HAProxy and asks the second until it has them."""

    def __init__(self, pair):
        self.pair, self.lags, self.error = pair, [], None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        self.thread.join()
        if self.error is not None and kind is None:
            raise RuntimeError(f"lag: {self.error}")

    def run(self):
        try:
            to, at = Cli(self.pair.path("first.sock")), Cli(self.pair.path("second.sock"))
            while not self.stop.wait(SAMPLE_EVERY_S):
                client = 0xff0000 + self.pair.samples  # 10.255.0.0: nobody else's
                self.pair.samples += 1
                to.ask(set_command(client))
                begin = time.monotonic()
                question = f"show table clients key {table_key(client)}"
                while "key=" not in at.ask(question):
                    if time.monotonic() - begin > 30:
                        raise RuntimeError("an entry was not mirrored")
                self.lags.append(time.monotonic() - begin)
            self.pair.clients += len(self.lags)
        except (OSError, RuntimeError) as error:
            self.error = error


def new_entries(kind, cores, sizes, say):
    """{rate: (Feeding that is mirrored, Feeding that is not)}"""
    found = {}
    for mirroring in (True, False):
        total = sum(count for _, count in sizes.rates)
        with kind(cores, entries=2 * total, mirroring=mirroring) as pair:
            for rate, count in sizes.rates:
                say(f"{kind.__name__}: {count:,} new entries at {rate:,}/s, " + ("mirrored" if mirroring else "alone"))
                before = pair.lags() if mirroring and kind is Engines else None
                feeding = feed(pair, count, rate)
                if before is not None:
                    buckets = [(bound, now - then) for (bound, now), (_, then) in zip(pair.lags(), before)]
                    feeding.lag_p50_s, feeding.lag_p99_s = quantile(buckets, 0.5), quantile(buckets, 0.99)
                elif mirroring:
                    lag_of_haproxy(pair, feeding, count, rate)
                found.setdefault(rate, []).append(feeding)
    return found


def lag_of_haproxy(pair, feeding, count, rate):
    """In a run of its own: sampling costs both processes time."""
    with LagSampler(pair) as sampler:
        pair.make(count, rate)
        while not sampler.lags:
            time.sleep(SAMPLE_EVERY_S)
    pair.all_mirrored()
    lags = sorted(sampler.lags)
    feeding.lag_p50_s = lags[len(lags) // 2]
    feeding.lag_p99_s = lags[min(len(lags) - 1, int(len(lags) * 0.99))]


def resync(kind, cores, sizes, say):
    """[(seconds until it listens, seconds of the resync, bytes)]"""
    with kind(cores, entries=sizes.resync_entries) as pair:
        say(f"{kind.__name__}: {sizes.resync_entries:,} entries")
        pair.make(sizes.resync_entries - pair.clients, sizes.fill_rate)
        pair.all_mirrored()
        rounds = []
        for turn in range(sizes.repeat):
            rounds.append(pair.restart_second())
            say(f"{kind.__name__}: resync {turn + 1} of {sizes.repeat}: {rounds[-1][1]:.3f} s")
            time.sleep(0.5)
        return rounds


def channel(cores, folder, sizes):
    """Seconds of a resync between two processes that have nothing but lists and sockets."""
    secret = os.path.join(folder, "cluster.key")
    with open(secret, "wb") as file:
        file.write(os.urandom(64))
    done = subprocess.run([channel_binary(), "--entries", str(sizes.resync_entries), "--rounds", str(sizes.repeat),
                           "--secret", secret, "--port", str(free_ports(1)[0])], stdout=subprocess.PIPE, text=True,
                          check=False, preexec_fn=undisturbed_on(set(cores)))
    if done.returncode != 0:
        raise RuntimeError(f"channel ended with status {done.returncode}")
    return json.loads(done.stdout)["seconds"]


def established(pair, sizes, vip):
    """(packets of established flows per second of the worker's CPU time, new clients per second beside)"""
    count = int(sizes.busy_rate * sizes.busy_s)
    before, began = pair.metrics("first"), worker_seconds(pair)
    seconds, _ = pair.make(count, sizes.busy_rate, vip)
    after, ended = pair.metrics("first"), worker_seconds(pair)
    name = 'limpet_packets_total{port="capture",direction="tx"}'
    return (after[name] - before[name]) / (ended - began), count / seconds


def worker_seconds(pair):
    tasks = f"/proc/{pair.processes['first'].pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/comm", encoding="ascii") as file:
            if re.fullmatch(r"(rte-worker|lcore-worker)-\d+\n", file.read()):
                with open(f"{tasks}/{task}/schedstat", encoding="ascii") as times:
                    return int(times.read().split()[0]) / 1e9
    raise RuntimeError("the engine has no worker")


def throughput(cores, folder, sizes, reserve_hugepages, say):
    """([(packets/s, packets/s)] of turns: beside new clients of a service whose bindings are mirrored,
    and of one whose are not; new clients/s).

    In the same processes, in turns that are short: what else goes on on the machine, and where
    memory is, makes a larger difference than mirroring does.
    """
    flows = min(CAPTURE_FLOWS, sizes.capture_flows)
    path = os.path.join(folder, "capture.pcap")
    captures.write(path, captures.conversations(flows))
    entries = 2 * int(sizes.busy_rate * sizes.busy_s * sizes.busy_turns) + 1024
    needed_mb = sum(memory_mb(engine_limits(which, entries, flows)) for which in ("first", "second"))
    turns, rates = [], []
    with Hugepages(needed_mb, reserve_hugepages) as hugepages:
        say("throughput: " + ("hugepages" if hugepages else "no hugepages: small pages"))
        with Engines(cores, entries=entries, hugepages=hugepages, capture_flows=flows,
                     capture=f"net_pcap0,rx_pcap={path},infinite_rx=1") as pair:
            time.sleep(1)  # every conversation has begun
            for turn in range(sizes.busy_turns):
                values = [0.0, 0.0]
                # Each is first in every other turn.
                for i in (0, 1) if turn % 2 == 0 else (1, 0):
                    time.sleep(SETTLE_S)
                    values[i], rate = established(pair, sizes, (VIP, LOCAL_VIP)[i])
                    rates.append(rate)
                turns.append(values)
                say(f"established flows, turn {turn + 1} of {sizes.busy_turns}: {values[0]:,.0f} packets/s beside "
                    f"mirrored clients, {values[1]:,.0f} beside others, {values[0] / values[1]:.3f}")
            mirrored = flows + sizes.busy_turns * int(sizes.busy_rate * sizes.busy_s)
            until(lambda: pair.held("second") == mirrored, "mirroring of one service's clients and not the other's")
    return turns, statistics.median(rates)
