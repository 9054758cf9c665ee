"""What an engine with a state_directory brings back: the document and the marks."""
import json
import os
import signal
import tempfile
import unittest

from lab import Lab, wait_until
from runner import main


class Restart(unittest.TestCase):
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
        self.assertNotEqual(self.lab.get("10.1.0.2")[0], "server1")

    def test_a_mark_that_was_taken_back_does_not_return(self):
        engine = self.start()
        engine.apply(self.lab.document())
        engine.mark("10.2.0.2:80", "OPER_DOWN")
        engine.mark("10.2.0.2:80", None)
        engine = self.kill_and_start(engine)
        self.assertEqual(set(self.web_status(engine).values()), {"OPER_UP"})

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


if __name__ == "__main__":
    main()
