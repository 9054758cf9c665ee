"""What an engine with a state_directory brings back: the document, the marks and the table."""
import hashlib
import json
import os
import signal
import tempfile
import time
import unittest

from lab import Lab, wait_until
from runner import main


class StateTest(unittest.TestCase):
    def setUp(self):
        self.state = tempfile.TemporaryDirectory(prefix="limpet-state-")
        self.addCleanup(self.state.cleanup)
        self.lab = Lab()
        self.addCleanup(self.lab.close)

    def start(self, first_document=None):
        return self.lab.start_engine(first_document=first_document, state_directory=self.state.name)

    def kill_and_start(self, engine, first_document=None):
        engine.stop(signal.SIGKILL)
        engine = self.start(first_document)
        wait_until(lambda: any(e["name"] == "CONFIG_APPLIED" for e in engine.events()), 10, "the document")
        return engine


class Restart(StateTest):
    def web_status(self, engine):
        services = {vs["name"]: vs for vs in engine.api("GET", "/v1/status")["virtual_services"]}
        return {s["server"]: s["oper_status"] for s in services["web-v4"]["servers"]}

    def test_document_and_marks_survive_a_kill(self):
        engine = self.start()
        engine.apply(self.lab.document(timeout_s=60))
        engine.apply(self.lab.document(timeout_s=61))
        engine.mark("10.2.0.2:80", "OPER_DOWN")
        before = engine.api("GET", "/v1/config")
        engine = self.kill_and_start(engine)
        self.assertEqual(engine.api("GET", "/v1/config"), before)
        self.assertEqual(before["generation"], 2)
        wait_until(lambda: self.web_status(engine)["10.2.0.2:80"] == "OPER_DOWN", 10, "the mark")
        self.assertEqual({self.lab.get(c)[0] for c in self.lab.clients["v4"]}, {"server2", "server3"})

    def test_a_mark_that_was_taken_back_does_not_return(self):
        engine = self.start()
        engine.apply(self.lab.document())
        engine.mark("10.2.0.2:80", "OPER_DOWN")
        engine.mark("10.2.0.3:80", "OPER_DOWN")
        engine.mark("10.2.0.2:80", None)
        engine = self.kill_and_start(engine)
        wait_until(lambda: self.web_status(engine)["10.2.0.3:80"] == "OPER_DOWN", 10, "the marks")
        self.assertEqual(self.web_status(engine)["10.2.0.2:80"], "OPER_UP")

    def test_the_stored_document_wins_unless_the_bootstraps_is_newer(self):
        engine = self.start()
        engine.apply({**self.lab.document(timeout_s=60), "generation": 5})
        engine = self.kill_and_start(engine, {**self.lab.document(timeout_s=70), "generation": 5})
        stored = engine.api("GET", "/v1/config")
        self.assertEqual(stored["generation"], 5)
        self.assertIn("60", json.dumps(stored["ApplicationPersistenceProfile"]))
        engine = self.kill_and_start(engine, {**self.lab.document(timeout_s=70), "generation": 6})
        newer = engine.api("GET", "/v1/config")
        self.assertEqual(newer["generation"], 6)
        self.assertIn("70", json.dumps(newer["ApplicationPersistenceProfile"]))

    def store(self, name, content):
        """Writes a file of the state directory as an engine would."""
        with open(os.path.join(self.state.name, name), "wb") as file:
            file.write(f"limpet-state 1 {hashlib.sha256(content).hexdigest()}\n".encode() + content)

    def test_a_stored_document_that_is_refused_gives_way_to_the_bootstraps(self):
        refused = b'{"generation": 9, "Pool": [{"servers": []}]}'  # as of a later version
        self.store("document", refused)
        self.store("health-marks", json.dumps([{"pool": "web-pool-v4", "server": "10.2.0.2:80",
                                                "oper_status": "OPER_DOWN"}]).encode())
        engine = self.start(self.lab.document(timeout_s=60))
        wait_until(lambda: any(e["name"] == "CONFIG_APPLIED" for e in engine.events()), 10, "the document")
        events = [e["message"] for e in engine.events() if e["name"] == "CONFIG_REFUSED"]
        self.assertRegex("\n".join(events), "/Pool/0/name: is required")
        wait_until(lambda: self.web_status(engine)["10.2.0.2:80"] == "OPER_DOWN", 10, "the mark")
        self.assertIsNotNone(self.lab.curl("10.1.0.2"))
        # Whoever goes back to the version that wrote it may want it.
        with open(os.path.join(self.state.name, "document.refused"), "rb") as file:
            self.assertEqual(file.read().split(b"\n", 1)[1], refused)
        # What runs is stored in its place.
        engine = self.kill_and_start(engine)
        self.assertIsNotNone(self.lab.curl("10.1.0.2"))

    def test_a_torn_document_is_refused_with_a_message_and_the_engine_starts_without_it(self):
        engine = self.start()
        engine.apply(self.lab.document())
        engine.stop(signal.SIGKILL)
        path = os.path.join(self.state.name, "document")
        os.truncate(path, os.path.getsize(path) // 2)
        engine = self.start()
        self.assertEqual(engine.api("GET", "/v1/config"), {"generation": 0})
        refused = [e["message"] for e in engine.events() if e["name"] == "CONFIG_REFUSED"]
        self.assertTrue(any("torn" in message for message in refused), refused)


class Table(StateTest):
    CLIENTS = 4

    def fill(self, engine, **options):
        engine.apply(self.lab.document(timeout_s=60, **options))
        clients = self.lab.clients["v4"][:self.CLIENTS] + self.lab.clients["v6"][:self.CLIENTS]
        return {c: self.lab.get(c)[0] for c in clients}

    def rows(self, engine):
        return {r["key"]: (r["server"], r["created"], r["epoch"]) for r in engine.entries()}

    def wait_until_saved(self, engine):
        wait_until(lambda: engine.metrics()["limpet_table_saved"] == 1, 10, "the table to be on disk")

    def wait_for_rows(self, engine, rows):
        wait_until(lambda: len(self.rows(engine)) == len(rows), 10, "the table")
        self.assertEqual(self.rows(engine), rows)

    def test_a_clean_stop_keeps_every_entry(self):
        engine = self.start()
        clients = self.fill(engine)
        before = self.rows(engine)
        self.assertEqual(len(before), len(clients))
        self.assertEqual(engine.stop(), 0)
        engine = self.start()
        self.wait_for_rows(engine, before)
        self.assertEqual({c: self.lab.get(c)[0] for c in clients}, clients)

    def test_a_kill_loses_no_entry_that_is_five_seconds_old(self):
        engine = self.start()
        clients = self.fill(engine)
        before = self.rows(engine)
        time.sleep(5)
        engine = self.kill_and_start(engine)
        self.wait_for_rows(engine, before)
        self.assertEqual({c: self.lab.get(c)[0] for c in clients}, clients)

    def test_a_clean_stop_keeps_the_last_close(self):
        engine = self.start()
        engine.apply(self.lab.document(timeout_s=30))
        self.lab.get("10.1.0.2")
        time.sleep(0.1)  # its FINs; too short for the close to be told without the stop
        engine.stop()
        engine = self.start()
        wait_until(lambda: len(self.rows(engine)) == 1, 10, "the entry")
        self.assertLessEqual(engine.entries()[0]["life_time_s"], 30)

    def test_an_entry_goes_on_expiring_while_the_engine_is_away(self):
        engine = self.start()
        engine.apply(self.lab.document(timeout_s=10))
        self.lab.get("10.1.0.2")
        engine.stop()
        time.sleep(2)
        engine = self.start()
        self.lab.get("10.1.0.3")
        wait_until(lambda: len(self.rows(engine)) == 2, 10, "the entry")
        lives = {r["key"]: r["life_time_s"] for r in engine.entries()}
        self.assertLess(lives["10.1.0.2"], lives["10.1.0.3"])
        engine.stop()
        time.sleep(16)  # and the half that a crash would have added
        engine = self.start()
        wait_until(lambda: engine.metrics()['limpet_table_restored_total{result="expired"}'] == 2, 10,
                   "both to be found expired")
        self.assertEqual(self.rows(engine), {})

    def test_what_was_deleted_does_not_come_back(self):
        engine = self.start()
        self.fill(engine)
        self.wait_until_saved(engine)
        engine.api("DELETE", "/v1/persistence-tables?client=10.1.0.2")
        before = self.rows(engine)
        wait_until(lambda: engine.metrics()["limpet_table_saved"] == 1, 1, "the deletion to be on disk")
        engine = self.kill_and_start(engine)
        self.wait_for_rows(engine, before)

    def test_entries_that_are_not_mirrored_are_kept_too(self):
        engine = self.start()
        self.fill(engine, profile={"ha_persistence_mirroring_enabled": False})
        before = self.rows(engine)
        engine.stop()
        self.wait_for_rows(self.start(), before)

    def test_entries_wait_for_the_document_that_names_their_scope(self):
        engine = self.start()
        self.fill(engine)
        before = self.rows(engine)
        engine.stop()
        os.remove(os.path.join(self.state.name, "document"))
        engine = self.start()
        self.assertEqual(self.rows(engine), {})
        engine.apply(self.lab.document(timeout_s=60))
        self.wait_for_rows(engine, before)

    def test_a_torn_or_foreign_table_is_refused_with_a_message(self):
        engine = self.start()
        self.fill(engine)
        engine.stop()
        path = os.path.join(self.state.name, "persistence")
        with open(path, "rb") as file:
            whole = file.read()
        for content, message in ((whole[:-50], "torn"), (b"PK\x03\x04", "torn"),
                                 (whole.replace(b"limpet-state 1", b"limpet-state 2"), "torn")):
            with self.subTest(content[:16]):
                with open(path, "wb") as file:
                    file.write(content)
                engine = self.start()
                refused = [e["message"] for e in engine.events() if e["name"] == "CONFIG_REFUSED"]
                self.assertTrue(any(message in text and "persistence" in text for text in refused), refused)
                self.assertEqual(self.rows(engine), {})
                self.assertEqual(self.lab.get("10.1.0.2")[1], "10.2.0.1")
                engine.stop()


if __name__ == "__main__":
    main()
