"""A controller that holds a copy of the bindings gives them back to an engine that has lost everything."""
import json
import os
import signal
import unittest

from lab import Lab, build_folder, wait_until
from namespace import stop
from runner import main

ENGINE = "127.0.0.1:9090"
CONTROLLER = "127.0.0.1:9092"


class Observer(unittest.TestCase):
    def setUp(self):
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.secret = os.path.join(self.lab.folder, "cluster.key")
        with open(self.secret, "wb") as file:
            file.write(bytes(range(40)))
        self.name = f"{self.lab.name}-se1"
        self.output = os.path.join(self.lab.folder, "observer.json")

    def start_engine(self):
        engine = self.lab.start_engine(name=self.name, mirroring={
            "listen": ENGINE, "secret_file": self.secret,
            "peers": [{"name": "controller", "address": CONTROLLER}]})
        engine.apply(self.lab.document(timeout_s=120))
        return engine

    def start_observer(self):
        with open(self.output, "wb") as output:
            process = self.lab.engine_namespace.start(
                os.path.join(build_folder(), "tests/support/observer"), "controller", CONTROLLER,
                self.secret, self.name, ENGINE, "120", stdout=output)
        self.addCleanup(stop, process)

    def observed(self):
        with open(self.output, encoding="utf-8") as file:
            lines = [line for line in file.read().split("\n")[:-1] if line]
        return json.loads(lines[-1]) if lines else {}

    def wait_until_observed(self, state, bindings):
        wait_until(lambda: self.observed() == {"state": state, "bindings": bindings}, 20,
                   f"{state} with {bindings} bindings, not {self.observed()}")

    def test_an_engine_that_lost_everything_is_given_it_back(self):
        engine = self.start_engine()
        self.start_observer()
        clients = self.lab.clients["v4"] + self.lab.clients["v6"]
        before = {c: self.lab.get(c)[0] for c in clients}
        self.wait_until_observed("synced", len(clients))
        rows = {r["key"]: (r["server"], r["created"], r["origin"]) for r in engine.entries()}
        engine.stop(signal.SIGKILL)
        self.wait_until_observed("connecting", len(clients))

        engine = self.start_engine()
        wait_until(lambda: len(engine.entries()) == len(rows), 20, "the entries")
        self.assertEqual({r["key"]: (r["server"], r["created"], r["origin"])
                          for r in engine.entries()}, rows)
        self.assertEqual({c: self.lab.get(c)[0] for c in clients}, before)

    def test_what_an_administrator_deletes_is_not_given_back(self):
        engine = self.start_engine()
        self.start_observer()
        for client in self.lab.clients["v4"][:2]:
            self.lab.get(client)
        self.wait_until_observed("synced", 2)
        gone, kept = self.lab.clients["v4"][:2]
        engine.api("DELETE", f"/v1/persistence-tables?client={gone}")
        self.wait_until_observed("synced", 1)
        engine.stop(signal.SIGKILL)
        engine = self.start_engine()
        wait_until(lambda: [r["key"] for r in engine.entries()] == [kept], 20, "the other entry")
        self.wait_until_observed("synced", 1)  # all has been said
        self.assertEqual([r["key"] for r in engine.entries()], [kept])


if __name__ == "__main__":
    main()
