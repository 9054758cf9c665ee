"""New documents while traffic flows: established connections must not notice."""
import hashlib
import http.client
import json
import os
import signal
import threading
import time

from lab import ApiError, http_get, wait_until
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

    def port_document(self, server):
        """Port 81 of web-v4 goes to a pool of its own with one server, which listens on 80."""
        document = self.lab.document(timeout_s=60)
        web = next(v for v in document["VirtualService"] if v["name"] == "web-v4")
        web["services"] = [{"port": 80, "port_range_end": 82}]
        web["service_pool_select"] = [{"service_port": 81, "service_pool_ref": "/api/pool/?name=own"}]
        document["Pool"].append({
            "name": "own", "default_server_port": 80,
            "application_persistence_profile_ref": "/api/applicationpersistenceprofile/?name=sticky",
            "servers": [{"ip": {"addr": server, "type": "V4"}}]})
        return document

    def test_hup_reads_the_bootstraps_document_again(self):
        engine = self.lab.start_engine(first_document=self.lab.document(timeout_s=60), name=f"{self.engine.name}-hup",
                                       ports=[{"name": "front", "device": "net_null0,no-rx=1",
                                               "addresses": ["10.1.0.1/24", "10.2.0.1/24"]}])
        path = os.path.join(engine.folder, "first.json")

        def timeout():
            profile = engine.api("GET", "/v1/config")["ApplicationPersistenceProfile"][0]
            return profile["ip_persistence_profile"]["timeout_seconds"]

        def hup(text, event):
            known = engine.events()[-1]["seq"]
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            engine.process.send_signal(signal.SIGHUP)
            wait_until(lambda: any(e["name"] == event and e["seq"] > known for e in engine.events()), 10, event)
            return engine.events()[-1]
        wait_until(lambda: engine.events(), 10, "the document")
        self.assertEqual(timeout(), 60)
        hup(json.dumps(self.lab.document(timeout_s=61)), "CONFIG_APPLIED")
        self.assertEqual(timeout(), 61)
        self.assertRegex(hup("{", "CONFIG_REFUSED")["message"], "errors; the first: .*parse error")
        self.assertEqual(timeout(), 61)
        for spoil in (os.unlink, os.mkdir):  # it is not there; it is no file
            spoil(path)
            time.sleep(1.1)  # at most one event of a name and object in a second
            known = engine.events()[-1]["seq"]
            engine.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=known: engine.events()[-1]["seq"] > before, 10, "an event")
            self.assertRegex(engine.events()[-1]["message"], "SIGHUP: .*first.json cannot be read")
            self.assertEqual(timeout(), 61)
        self.assertEqual(engine.stop(), 0, engine.log())

    def test_a_service_port_has_a_pool_of_its_own(self):
        def server_at(client, port):
            with self.lab.connect_tcp(client, port=port) as connection:
                return http_get(connection, close=True)[0]

        servers = self.lab.servers["v4"]
        clients = self.lab.clients["v4"][:6]
        for server in servers[1], servers[2]:
            self.engine.apply(self.port_document(server))
            seen = {port: {c: server_at(c, port) for c in clients} for port in (80, 81, 82)}
            self.assertEqual(set(seen[81].values()), {self.lab.name_of(server)})
            # The rest of the range shares one pool, and so its bindings.
            self.assertEqual(seen[80], seen[82])
            self.assertEqual(set(seen[80].values()), set(self.lab.server_names))
        rows = self.engine.api("GET", "/v1/persistence-tables?pool=own")["results"]
        self.assertEqual({row["key"] for row in rows}, set(clients))
        self.assertEqual({row["virtual_service"] for row in rows}, {"web-v4"})

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
