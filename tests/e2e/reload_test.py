"""New documents while traffic flows: established connections must not notice."""
import hashlib
import http.client
import threading
import time

from lab import ApiError
from runner import LabTest, main


class Reload(LabTest):
    engine_options = {"worker_cores": [0, 1], "control_core": 0}

    def download(self, client, results):
        """512 KiB at 64 KiB/s: about 8 s, across many documents."""
        try:
            with self.lab.connect_tcp(client, timeout_s=30) as connection:
                connection.sendall(b"GET /slow/data HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                results[client] = hashlib.sha256(answer.read()).hexdigest()
        except Exception as error:  # reported by the test below
            results[client] = repr(error)

    def test_downloads_survive_documents(self):
        self.apply(timeout_s=60)
        expected = hashlib.sha256(bytes(range(256)) * 2048).hexdigest()
        clients = self.lab.clients["v4"][:3] + self.lab.clients["v6"][:3]
        servers = self.reached(clients)
        results = {}
        threads = [threading.Thread(target=self.download, args=(c, results)) for c in clients]
        for thread in threads:
            thread.start()
        documents = 0
        while any(t.is_alive() for t in threads):
            # Each changes something that touches no flow: ratios, timeouts, more clients' rules.
            self.engine.apply(self.lab.document(
                timeout_s=60 + documents % 3,
                server_options={a: {"ratio": 1 + documents % 5} for a in self.lab.servers["v4"]}))
            documents += 1
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        self.assertEqual(results, {c: expected for c in clients})
        self.assertGreater(documents, 20)
        self.assertEqual({c: self.web(c) for c in clients}, servers)

    def test_a_refused_document_changes_nothing(self):
        self.apply(timeout_s=60)
        before = self.engine.api("GET", "/v1/config")
        server = self.reached(["10.1.0.2"])
        document = self.lab.document(timeout_s=60)
        document["Pool"][0]["servers"][1]["ip"]["addr"] = "10.2.0.300"
        document["Pool"][1]["lb_algorithm"] = "LB_ALGORITHM_BY_MOOD"
        with self.assertRaises(ApiError) as refused:
            self.engine.apply(document)
        self.assertEqual(refused.exception.status, 400)
        paths = {error["path"] for error in refused.exception.body["errors"]}
        self.assertEqual(paths, {"/Pool/0/servers/1/ip/addr", "/Pool/1/lb_algorithm"})
        self.assertEqual(self.engine.api("GET", "/v1/config"), before)
        self.assertEqual(self.reached(["10.1.0.2"]), server)

    def test_an_older_generation_is_refused(self):
        self.apply()
        running = self.engine.api("GET", "/v1/config")["generation"]
        with self.assertRaises(ApiError) as refused:
            self.engine.apply(self.lab.document(generation=running - 1))
        self.assertEqual(refused.exception.status, 409)

    def test_connections_end_with_their_virtual_service(self):
        self.apply(timeout_s=60)
        with self.lab.connect_tcp("10.1.0.2") as connection:
            document = self.lab.document(timeout_s=60)
            document["VirtualService"] = [v for v in document["VirtualService"] if v["name"] != "web-v4"]
            self.engine.apply(document)
            connection.settimeout(5)
            with self.assertRaises(ConnectionError):
                for _ in range(20):
                    connection.sendall(b"G")
                    time.sleep(0.1)


if __name__ == "__main__":
    main()
