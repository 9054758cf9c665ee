"""What the test programs of the lab share: one lab and engine for a class, and the exit status."""
import os
import sys
import unittest

SKIPPED = 77  # Meson's "skipped"


class LabTest(unittest.TestCase):
    """Tests that share one lab and one engine. Each test starts with its own document, no marks and
    an empty persist table."""

    lab_options = {}
    engine_options = {}

    @classmethod
    def setUpClass(cls):
        from lab import Lab
        cls.lab = Lab(**cls.lab_options)
        cls.addClassCleanup(cls.lab.close)
        try:
            cls.engine = cls.lab.start_engine(**cls.engine_options)
        except RuntimeError as error:
            raise AssertionError(f"the engine does not start: {error}") from None

    @classmethod
    def tearDownClass(cls):
        status = cls.engine.stop()
        if status != 0:
            raise AssertionError(f"limpet-se ended with status {status}:\n{cls.engine.log()}")

    def apply(self, **options):
        """A document of its own for this test; see documents.document()."""
        self.engine.apply(self.lab.document(**options))
        marks = [{"pool": f"{service}-pool-{family}", "oper_status": None, "reason": "",
                  "server": f"[{a}]:{port}" if family == "v6" else f"{a}:{port}"}
                 for family in ("v4", "v6") for a in self.lab.servers[family]
                 for service, port in (("web", 80), ("echo", 9053))]
        self.engine.api("POST", "/v1/health-marks", marks)
        self.engine.api("DELETE", "/v1/persistence-tables")

    def web(self, client):
        """Name of the server a client reaches by TCP; "refused" when the connection is reset."""
        try:
            return self.lab.get(client)[0]
        except (ConnectionError, TimeoutError) as error:
            return "refused" if isinstance(error, ConnectionError) else "silence"

    def echo(self, client):
        """The same by UDP."""
        try:
            answer = self.lab.udp(client, tries=3, timeout_s=1)
            return answer[0] if answer else "silence"
        except ConnectionError:
            return "refused"

    def reached(self, clients):
        """{client: name of its server} by TCP; all are served."""
        servers = {client: self.web(client) for client in clients}
        self.assertLessEqual(set(servers.values()), set(self.lab.server_names))
        return servers

    def is_served(self, client):
        """By TCP, by one of the servers: neither refused nor left without an answer."""
        return self.web(client) in self.lab.server_names

    def assert_served_elsewhere(self, client, server):
        self.assertIn(self.web(client), set(self.lab.server_names) - {server})

    def servers(self, name, service="web"):
        """["10.2.0.2:80", "[fd00:2::2]:80"] for "server1"."""
        port = 80 if service == "web" else 9053
        i = self.lab.server_names.index(name)
        return [f"{self.lab.servers['v4'][i]}:{port}", f"[{self.lab.servers['v6'][i]}]:{port}"]

    def mark(self, name, state):
        for service in ("web", "echo"):
            for server in self.servers(name, service):
                self.engine.mark(server, state)

    @property
    def all_clients(self):
        return self.lab.clients["v4"] + self.lab.clients["v6"]

    @property
    def two_clients(self):
        """One of each family."""
        return [self.lab.clients["v4"][0], self.lab.clients["v6"][0]]


def main(needs_root=True):
    why = None
    if needs_root and os.environ.get("LIMPET_WITHOUT_LAB"):
        why = "--without-lab was asked for"
    elif needs_root and os.geteuid() != 0:
        why = "network namespaces need root"
    if why:
        print(f"skipped: {why}", file=sys.stderr)
        sys.exit(SKIPPED)
    from lab import end_on_signals
    end_on_signals()
    unittest.main(module="__main__", verbosity=2)
