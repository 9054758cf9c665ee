"""Two engines that tell each other about their bindings, each in a lab of its own, joined by a link;
and what an engine makes of somebody who is no engine."""
import os
import signal
import tempfile
import time
import unittest

import mirroring_client as client
from lab import ApiError, Lab, wait_until
from namespace import connect
from runner import LabTest, main

ADDRESSES = ("192.0.2.1", "192.0.2.2")
PORT = 9090
SECRET = bytes(range(64))


class Cluster:
    """Labs and engines "se1" and "se2": the same document, the same clients and servers."""

    def __init__(self, test):
        self.labs = [Lab(), Lab()]
        for lab in self.labs:
            test.addClassCleanup(lab.close)
        connect(self.labs[0].engine_namespace, "mirror", self.labs[1].engine_namespace, "mirror")
        for lab, address in zip(self.labs, ADDRESSES):
            lab.engine_namespace.add_addresses("mirror", [f"{address}/30"])
        # EAL's files are found by the engine's name, so names of test runs side by side must differ.
        self.names = [f"{self.labs[0].name}-se{i + 1}" for i in (0, 1)]
        self.engines = [None, None]

    def start(self, i, secret=SECRET, **more):
        lab = self.labs[i]
        path = os.path.join(lab.folder, f"cluster-{secret[0]}.key")
        with open(path, "wb") as file:
            file.write(secret)
        mirroring = {"listen": f"{ADDRESSES[i]}:{PORT}", "secret_file": path,
                     "peers": [{"name": self.names[1 - i], "address": f"{ADDRESSES[1 - i]}:{PORT}"}]}
        self.engines[i] = lab.start_engine(name=self.names[i], mirroring=mirroring, **more)
        return self.engines[i]

    def peer(self, i):
        """What engine i says of the other."""
        return self.engines[i].api("GET", "/v1/status")["peers"][0]

    def wait_until_synced(self):
        wait_until(lambda: all(self.peer(i)["synced"] for i in (0, 1)), 20, "both engines to be synced")

    def bindings(self, i, **filters):
        """{(virtual service, key): (server, epoch)}"""
        return {(r["virtual_service"], r["key"]): (r["server"], r["epoch"])
                for r in self.engines[i].entries(**filters)}

    def wait_until_equal(self, timeout_s=10, **filters):
        def equal():
            tables = [self.bindings(i, **filters) for i in (0, 1)]
            return tables[0] == tables[1]
        try:
            wait_until(equal, timeout_s, "equal tables")
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.bindings(0)} and {self.bindings(1)}") from None
        return self.bindings(0, **filters)


class ClusterTest(unittest.TestCase):
    """Tests that share a cluster. Each begins with its own document and an empty table."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls)
        for i in (0, 1):
            cls.cluster.start(i)

    @classmethod
    def tearDownClass(cls):
        for engine in cls.cluster.engines:
            if engine.stop() != 0:
                raise AssertionError(f"limpet-se did not end well:\n{engine.log()}")

    def apply(self, **options):
        for lab, engine in zip(self.cluster.labs, self.cluster.engines):
            engine.apply(lab.document(**options))
        self.cluster.wait_until_synced()
        for engine in self.cluster.engines:
            engine.api("DELETE", "/v1/persistence-tables")
        self.assertEqual(self.cluster.wait_until_equal(), {})

    def engine(self, i):
        return self.cluster.engines[i]

    def get(self, i, address):
        return self.cluster.labs[i].get(address)[0]

    def clients(self):
        lab = self.cluster.labs[0]
        return lab.clients["v4"] + lab.clients["v6"]


class Mirroring(ClusterTest):
    def test_a_client_of_one_engine_reaches_the_same_server_through_the_other(self):
        self.apply(timeout_s=60)
        before = {c: self.get(0, c) for c in self.clients()}
        self.assertEqual(set(before.values()), set(self.cluster.labs[0].server_names))
        self.assertEqual(len(self.cluster.wait_until_equal()), len(before))
        self.assertEqual({c: self.get(1, c) for c in self.clients()}, before)

    def test_the_listing_says_which_engine_made_an_entry_and_when(self):
        self.apply(timeout_s=60)
        began = time.time()
        self.get(1, "10.1.0.2")
        self.cluster.wait_until_equal()
        rows = [self.engine(i).entries(client="10.1.0.2", virtual_service="web-v4")[0] for i in (0, 1)]
        self.assertEqual([row["origin"] for row in rows], [self.cluster.names[1]] * 2)
        self.assertEqual(rows[0]["created"], rows[1]["created"])
        made = time.mktime(time.strptime(rows[0]["created"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        self.assertLess(abs(made - began), 5)

    def test_a_moved_entry_moves_on_both(self):
        self.apply(timeout_s=60)
        old = self.get(0, "10.1.0.2")
        self.cluster.wait_until_equal()
        index = self.cluster.labs[0].server_names.index(old)
        server = f"{self.cluster.labs[0].servers['v4'][index]}:80"
        self.engine(0).mark(server, "OPER_DOWN")
        self.addCleanup(self.engine(0).mark, server, None)
        new = self.get(0, "10.1.0.2")
        self.assertNotEqual(new, old)
        table = self.cluster.wait_until_equal()
        self.assertEqual(table[("web-v4", "10.1.0.2")][1], 1)
        # The other engine's server is up, but the entry has moved.
        self.assertEqual(self.get(1, "10.1.0.2"), new)

    def test_deleting_one_client_deletes_it_on_both(self):
        self.apply(timeout_s=60)
        for address in ("10.1.0.2", "10.1.0.3"):
            self.get(0, address)
        self.cluster.wait_until_equal()
        self.assertEqual(self.engine(1).api("DELETE", "/v1/persistence-tables?client=10.1.0.2"),
                         {"removed": 1})
        self.assertEqual(list(self.cluster.wait_until_equal()), [("web-v4", "10.1.0.3")])

    def test_deleting_a_virtual_service_deletes_it_on_both_and_new_entries_live(self):
        self.apply(timeout_s=60)
        for address in self.clients():
            self.get(0, address)
        self.cluster.wait_until_equal()
        self.assertEqual(self.engine(0).api("DELETE", "/v1/persistence-tables?virtual_service=web-v4"),
                         {"removed": len(self.cluster.labs[0].clients["v4"])})
        table = self.cluster.wait_until_equal()
        self.assertEqual({service for service, _ in table}, {"web-v6"})
        self.get(1, "10.1.0.2")
        self.assertIn(("web-v4", "10.1.0.2"), self.cluster.wait_until_equal())

    def test_an_entry_lives_on_both_while_its_connection_is_open_on_one(self):
        self.apply(timeout_s=2)
        with self.cluster.labs[0].connect_tcp("10.1.0.2") as connection:
            client.http_get(connection)
            self.cluster.wait_until_equal()
            end = time.monotonic() + 7
            while time.monotonic() < end:
                self.assertEqual(len(self.cluster.bindings(1)), 1)
                time.sleep(0.2)
        wait_until(lambda: not self.cluster.bindings(0) and not self.cluster.bindings(1), 10, "expiry")

    def test_both_list_a_binding_by_its_last_close_within_a_second(self):
        self.apply(timeout_s=30)
        self.get(0, "10.1.0.2")
        wait_until(lambda: [r["connections"] for r in self.engine(0).entries()] == [0], 10, "the close")
        closed = time.monotonic()
        self.assertLessEqual(self.engine(0).entries()[0]["life_time_s"], 30)
        wait_until(lambda: [r["life_time_s"] <= 30 for r in self.engine(1).entries()] == [True], 10, "the release")
        self.assertLess(time.monotonic() - closed, 2, "half of that is the listings'")

    def test_a_profile_that_is_not_mirrored_stays_at_home(self):
        self.apply(timeout_s=60, profile={"ha_persistence_mirroring_enabled": False})
        self.get(0, "10.1.0.2")
        time.sleep(0.5)
        self.assertEqual(len(self.cluster.bindings(0)), 1)
        self.assertEqual(self.cluster.bindings(1), {})

    def test_entries_of_a_scope_wait_for_the_document_that_names_it(self):
        self.apply(timeout_s=60)
        self.engine(1).apply({})
        before = {c: self.get(0, c) for c in self.clients()}
        wait_until(lambda: self.engine(1).metrics()["limpet_mirroring_unnamed"] == len(before), 10,
                   "the entries to wait")
        self.assertEqual(self.cluster.bindings(1), {})
        self.engine(1).apply(self.cluster.labs[1].document(timeout_s=60))
        self.assertEqual(len(self.cluster.wait_until_equal()), len(before))
        self.assertEqual({c: self.get(1, c) for c in self.clients()}, before)

    def test_an_engine_whose_document_lost_a_scope_for_a_while_has_its_entries_again(self):
        self.apply(timeout_s=60)
        before = {c: self.get(1, c) for c in self.clients()}
        self.cluster.wait_until_equal()
        self.engine(0).api("DELETE", "/v1/persistence-tables?client=10.1.0.2")
        self.cluster.wait_until_equal()
        self.engine(1).apply({})
        wait_until(lambda: self.engine(1).entries() == [], 10, "the entries to go")
        self.engine(1).apply(self.cluster.labs[1].document(timeout_s=60))
        self.assertEqual(len(self.cluster.wait_until_equal()), len(before) - 1)
        self.cluster.wait_until_synced()

    def test_status_metrics_and_limpetctl_tell_of_the_peer(self):
        self.apply(timeout_s=60)
        self.get(0, "10.1.0.2")
        self.cluster.wait_until_equal()
        peer = self.cluster.peer(0)
        self.assertEqual((peer["name"], peer["state"], peer["synced"]), (self.cluster.names[1], "synced", True))
        self.assertGreater(peer["bytes_sent"], 0)
        self.assertGreater(peer["bytes_received"], 0)
        self.assertGreaterEqual(peer["resyncs"]["full"], 1)
        metrics = self.engine(0).metrics()
        name = f'peer="{self.cluster.names[1]}"'
        self.assertEqual(metrics[f'limpet_peer_state{{{name},state="synced"}}'], 1)
        self.assertLess(metrics[f"limpet_peer_lag_seconds{{{name}}}"], 1, "it would be lagging")
        self.assertGreater(metrics[f'limpet_peer_updates_total{{{name},direction="out"}}'], 0)
        shown = self.engine(0).limpetctl("peers").stdout.splitlines()
        self.assertEqual(shown[0].split()[:3], ["PEER", "STATE", "SYNCED"])
        self.assertEqual(shown[1].split()[:3], [self.cluster.names[1], "synced", "yes"])


class PeersComeAndGo(ClusterTest):
    def kill(self, i):
        self.engine(i).stop(signal.SIGKILL)

    def test_an_engine_that_was_killed_learns_all_again(self):
        self.apply(timeout_s=60)
        before = {c: self.get(0, c) for c in self.clients()[:6]}
        before.update({c: self.get(1, c) for c in self.clients()[6:]})
        self.cluster.wait_until_equal()
        time.sleep(1.1)  # of the same events there is one a second
        self.kill(1)
        wait_until(lambda: self.cluster.peer(0)["state"] == "connecting", 10, "the peer to be missed")
        moved = self.clients()[0]
        self.engine(0).api("DELETE", f"/v1/persistence-tables?client={moved}")
        self.cluster.start(1, first_document=self.cluster.labs[1].document(timeout_s=60))
        self.cluster.wait_until_synced()
        self.assertEqual(len(self.cluster.wait_until_equal()), len(before) - 1)
        for address in self.clients()[1:]:
            self.assertEqual(self.get(1, address), before[address])
        names = [e["name"] for e in self.engine(0).events() if e["name"].startswith("PEER")]
        self.assertEqual(names[-3:], ["PEER_DOWN", "PEER_UP", "PEER_SYNCED"])

    def test_an_engine_that_stops_tells_the_last_closes(self):
        self.apply(timeout_s=60)
        for client_address in self.clients():
            self.get(1, client_address)
        # The last connection's FINs; that is too short for all closes to have been told.
        wait_until(lambda: not any(r["connections"] for r in self.engine(1).entries()), 10,
                   "the connections to close", step_s=0.02)
        self.assertEqual(self.engine(1).stop(), 0)
        wait_until(lambda: self.cluster.peer(0)["state"] == "connecting", 10, "the peer to be missed")
        lives = [r["life_time_s"] for r in self.engine(0).entries()]
        self.assertEqual(len(lives), len(self.clients()))
        self.assertLessEqual(max(lives), 60, lives)
        self.cluster.start(1, first_document=self.cluster.labs[1].document(timeout_s=60))
        self.cluster.wait_until_synced()

    def test_engines_with_disks_that_were_all_stopped_bring_back_what_was_not_deleted(self):
        self.apply(timeout_s=60)
        states = [tempfile.TemporaryDirectory(prefix="limpet-state-") for _ in (0, 1)]
        for i in (0, 1):
            self.addClassCleanup(states[i].cleanup)
            self.engine(i).stop()
            self.cluster.start(i, state_directory=states[i].name,
                               first_document=self.cluster.labs[i].document(timeout_s=60))
        self.cluster.wait_until_synced()
        for address in self.clients():
            self.get(0, address)
        before = self.cluster.wait_until_equal()
        # The second engine is gone when they are deleted, and comes back when the first has gone.
        self.engine(1).stop()
        self.engine(0).api("DELETE", "/v1/persistence-tables?virtual_service=web-v6")
        self.engine(0).api("DELETE", "/v1/persistence-tables?client=10.1.0.4")
        self.engine(0).stop()
        self.cluster.start(1, state_directory=states[1].name)
        wait_until(lambda: len(self.cluster.bindings(1)) == len(before), 10, "the old table")
        self.cluster.start(0, state_directory=states[0].name)
        self.cluster.wait_until_synced()
        after = self.cluster.wait_until_equal()
        self.assertEqual(after, {place: row for place, row in before.items()
                                 if place[0] == "web-v4" and place[1] != "10.1.0.4"})

    def test_what_was_deleted_while_the_other_was_cut_off_stays_deleted(self):
        self.apply(timeout_s=60)
        for address in self.clients():
            self.get(0, address)
        self.cluster.wait_until_equal()
        link = self.cluster.labs[0].engine_namespace
        link.ip("link", "set", "mirror", "down")
        wait_until(lambda: not self.cluster.peer(0)["synced"], 10, "the cut to be noticed")
        self.engine(0).api("DELETE", "/v1/persistence-tables?virtual_service=web-v6")
        self.engine(0).api("DELETE", "/v1/persistence-tables?client=10.1.0.4")
        self.assertEqual(len(self.cluster.bindings(1)), len(self.clients()))
        link.ip("link", "set", "mirror", "up")
        self.cluster.wait_until_synced()
        self.assertEqual(len(self.cluster.wait_until_equal()), len(self.cluster.labs[0].clients["v4"]) - 1)

    def test_deletions_that_a_missing_peer_has_no_room_for_are_refused_with_its_name(self):
        self.apply(timeout_s=60)
        self.kill(1)
        self.engine(0).stop()
        self.addCleanup(self.cluster.wait_until_synced)
        for i in (0, 1):
            self.addCleanup(self.cluster.start, i)
        self.addCleanup(lambda: self.engine(0).stop())
        # Room for 64 tombstones, which is the least there is.
        limits = {"persistence_entries": 100, "flows_per_worker": 16384, "packet_buffers": 16384}
        self.cluster.start(0, limits=limits, first_document=self.cluster.labs[0].document(timeout_s=60))
        wait_until(lambda: any(e["name"] == "CONFIG_APPLIED" for e in self.engine(0).events()), 10,
                   "the document")
        removed = 0
        with self.assertRaises(ApiError) as refused:
            for n in range(70):
                lab = self.cluster.labs[0]
                lab.client.ip("addr", "add", f"10.1.0.{100 + n + 1}/24", "dev", "eth0")
                self.get(0, f"10.1.0.{100 + n + 1}")
                removed += self.engine(0).api(
                    "DELETE", f"/v1/persistence-tables?client=10.1.0.{100 + n + 1}")["removed"]
        self.assertEqual(refused.exception.status, 503)
        self.assertIn(self.cluster.names[1], str(refused.exception))
        self.assertEqual(removed, 64)

    def test_an_engine_with_another_secret_is_refused_and_counted(self):
        self.apply(timeout_s=60)
        self.get(0, "10.1.0.2")
        self.cluster.wait_until_equal()
        self.kill(1)
        self.addCleanup(self.cluster.wait_until_synced)
        self.addCleanup(self.cluster.start, 1)
        self.addCleanup(lambda: self.engine(1).stop())
        self.cluster.start(1, secret=SECRET[::-1],
                           first_document=self.cluster.labs[1].document(timeout_s=60))
        wait_until(lambda: self.cluster.peer(0)["rejected"] > 0, 20, "the refusal to be counted")
        wait_until(lambda: self.engine(1).api("GET", "/v1/status")["strangers_rejected"].get("tls"), 20,
                   "the other side to count it")
        self.assertFalse(self.cluster.peer(0)["synced"])
        self.assertEqual(self.cluster.bindings(1), {})
        self.assertGreater(self.engine(0).metrics()[
            f'limpet_peer_rejected_total{{peer="{self.cluster.names[1]}",reason="tls"}}'], 0)


class Strangers(LabTest):
    """One engine, and who speaks to its port. "aa" is a configured peer that connects, "zz" one that
    should not."""

    @classmethod
    def setUpClass(cls):
        cls.secret = tempfile.NamedTemporaryFile(prefix="limpet-secret-")
        cls.addClassCleanup(cls.secret.close)
        cls.secret.write(SECRET)
        cls.secret.flush()
        peers = [{"name": "aa", "address": "127.0.0.1:9091"}, {"name": "zz", "address": "127.0.0.1:9092"}]
        cls.engine_options = {"mirroring": {"listen": f"127.0.0.1:{PORT}", "secret_file": cls.secret.name,
                                            "peers": peers, "heartbeat_ms": 1000}}
        super().setUpClass()
        cls.key = client.channel_key(SECRET)

    def setUp(self):
        self.apply(timeout_s=600)
        self.reached(self.all_clients)
        self.table = self.rows()
        self.assertEqual(len(self.table), len(self.all_clients))

    def rows(self):
        return sorted((r["virtual_service"], r["key"], r["server"], r["epoch"]) for r in self.engine.entries())

    def rejected(self, peer, reason):
        return self.engine.metrics()[f'limpet_peer_rejected_total{{peer="{peer}",reason="{reason}"}}']

    def tls(self, **options):
        return client.TlsClient(self.lab.engine_namespace, **{"port": PORT, "key": self.key, **options})

    def assert_refused(self, talk, peer, reason):
        """talk() is refused for this reason, and changes nothing."""
        before = self.rejected(peer, reason)
        talk()
        wait_until(lambda: self.rejected(peer, reason) > before, 15, f"{reason} to be counted")
        self.assertEqual(self.rows(), self.table)

    def say(self, *frames, **options):
        """A TLS client with the right key that says this and waits for the end."""
        def talk():
            with self.tls(**options) as connection:
                connection.send(b"".join(frames))
                self.assertTrue(connection.is_closed_by_engine(10), "the session goes on")
        return talk

    def test_plaintext_is_refused(self):
        for data in (b"GET / HTTP/1.1\r\n\r\n", client.hello("aa"), os.urandom(4000), b"\x16\x03\x01\x00\x05abcde"):
            with self.subTest(data[:8]):
                self.assert_refused(lambda: client.send_plain(self.lab.engine_namespace, PORT, data), "", "tls")

    def test_another_key_another_identity_and_older_tls_are_refused(self):
        for options in ({"key": client.channel_key(b"x" * 32)}, {"identity": "somebody"}, {"version": "-tls1_2"},
                        {"key": None}):
            with self.subTest(options):
                self.assert_refused(self.say(client.hello("aa"), **options), "", "tls")

    def test_silence_is_ended_after_five_seconds(self):
        def talk():
            with client.plain(self.lab.engine_namespace, PORT) as connection:
                connection.settimeout(10)
                self.assertEqual(connection.recv(1), b"")
        self.assert_refused(talk, "", "handshake_timeout")

    def test_strangers_do_not_keep_a_peer_out(self):
        crowded = self.rejected("", "crowded")
        with client.plain(self.lab.engine_namespace, PORT) as slow:  # from the address of "aa" and "zz"
            strangers = [client.plain(self.lab.engine_namespace, PORT, "127.0.0.9") for _ in range(40)]
            for stranger in strangers:
                self.addCleanup(stranger.close)
            wait_until(lambda: self.rejected("", "crowded") == crowded + 24, 3, "all but 16 to be ended")
            slow.settimeout(0.2)
            with self.assertRaises(TimeoutError, msg="the connection from a peer's address was ended"):
                slow.recv(1)
            with self.tls() as connection:
                connection.send(client.hello("aa"))
                wait_until(lambda: self.engine.api("GET", "/v1/status")["peers"][0]["state"] != "connecting", 3,
                           "the peer to come in")

    def test_a_recorded_session_has_no_effect(self):
        # The recording is of a session that has an effect: a binding that the engine takes.
        binding = client.binding(1, stamp=client.stamp_now())
        recorder = client.Recorder(self.lab.engine_namespace, PORT)
        self.addCleanup(recorder.close)
        updates = f'limpet_peer_updates_total{{peer="aa",direction="in"}}'
        before = self.engine.metrics()[updates]
        with self.tls(port=recorder.port) as connection:
            connection.send(client.hello("aa") + client.snapshot_begin(1) + binding + client.snapshot_end(1))
            wait_until(lambda: self.engine.metrics()[updates] > before, 10, "the binding to be taken")
        recorded = recorder.recorded()
        self.assertGreater(len(recorded), 1000)
        after = self.engine.metrics()[updates]
        self.assert_refused(lambda: client.send_plain(self.lab.engine_namespace, PORT, recorded), "", "tls")
        self.assertEqual(self.engine.metrics()[updates], after)

    def test_strangers_with_the_key_are_refused(self):
        own = self.engine.name
        for reason, frames in {
                "bad_magic": [client.hello("aa", magic=b"LIMPETX\0")],
                "version": [client.hello("aa", versions=(2, 9))],
                "unknown_peer": [client.hello("nobody")],
                "own_name": [client.hello(own)],
                "wrong_name": [client.hello("zz")],
                "bad_value": [client.hello("aa", boot=bytes(16))],
                "unexpected": [client.heartbeat()],
                "bad_length": [b"\x07\0\0\0\x01\x01\0\0"]}.items():
            with self.subTest(reason):
                self.assert_refused(self.say(*frames), "", reason)

    def test_each_malformed_frame_ends_the_session_of_a_peer(self):
        hello, begin = client.hello("aa"), client.snapshot_begin(9)
        stamp = client.stamp_now()
        good = client.binding(3, stamp=stamp, scope=1)  # of a scope that no document names
        for reason, what, frames in (
                ("unexpected", "a second HELLO", [hello]),
                ("unexpected", "a binding before the snapshot", [good]),
                ("unexpected", "a snapshot's end before its beginning", [client.snapshot_end(1)]),
                ("unexpected", "a second snapshot", [begin, begin]),
                ("unexpected", "resuming what never was", [client.snapshot_begin(9, kind=0)]),
                ("bad_length", "a frame of 7 bytes", [b"\x07\0\0\0\x05\x01\0\0"]),
                ("bad_length", "a frame of 4,097 bytes", [b"\x01\x10\0\0\x05\x01\0\0"]),
                ("bad_length", "a frame of 4 GiB", [b"\xff\xff\xff\xff\x05\x01\0\0"]),
                ("bad_length", "a short binding", [begin, client.frame(2, bytes(95))]),
                ("bad_length", "a short binding in short", [begin, client.frame(10, bytes(59))]),
                ("bad_length", "a key without its beginning", [begin, client.frame(10, bytes(71))]),
                ("bad_value", "a short binding of nothing", [begin, client.frame(10, bytes(72))]),
                ("bad_length", "a short tombstone", [begin, client.frame(3, bytes(23))]),
                ("bad_length", "a short acknowledgement", [client.frame(4, bytes(7))]),
                ("bad_length", "a short heartbeat", [client.frame(5, bytes(31))]),
                ("bad_length", "a short beginning", [client.frame(6, bytes(15))]),
                ("bad_length", "a short end", [client.frame(7, bytes(7))]),
                ("bad_length", "a short BYE", [client.frame(8, bytes(3))]),
                ("bad_value", "a binding of nothing", [begin, client.binding(1, stamp=0)]),
                ("bad_value", "a binding that its tombstone kills",
                 [begin, client.binding(1, stamp=stamp, deleted=stamp)]),
                ("bad_value", "a stamp of the year 2090", [begin, client.binding(1, stamp=0xf << 60)]),
                ("bad_value", "a moment out of range", [begin, client.binding(1, stamp=stamp, act_at=1 << 62)]),
                ("bad_value", "sequence 0", [begin, client.binding(0, stamp=stamp)]),
                ("bad_value", "a tombstone without a stamp", [begin, client.scope_tombstone(1, deleted=0)]),
                ("bad_sequence", "a sequence that does not rise", [begin, good, good]),
                ("bad_sequence", "a sequence beyond the snapshot", [begin, client.binding(10, stamp=stamp, scope=1)]),
                ("bad_sequence", "another end than was said", [begin, client.snapshot_end(8)]),
                ("bad_ack", "an acknowledgement of what was never sent", [client.ack(1 << 62)])):
            with self.subTest(what):
                self.assert_refused(self.say(hello, *frames), "aa", reason)

    def test_garbage_after_the_handshake_ends_the_session(self):
        for seed in range(5):
            noise = bytes((seed * 37 + i * 101) % 256 for i in range(3000))
            before = self.engine.api("GET", "/v1/status")["peers"][0]["rejected"]
            self.say(client.hello("aa"), noise)()
            wait_until(lambda: self.engine.api("GET", "/v1/status")["peers"][0]["rejected"] > before, 10,
                       "the refusal to be counted")
            self.assertEqual(self.rows(), self.table)

    def test_limpetctl_shows_how_many_were_refused(self):
        self.say(client.hello("nobody"))()
        self.assertIn("unknown_peer", self.engine.limpetctl("peers").stdout)


if __name__ == "__main__":
    main()
