"""Client-IP persistence on live traffic: who reaches whom, and what a server's state changes."""
import select
import signal
import socket
import time

from lab import http_get, wait_until
from runner import LabTest, main


class Sticking(LabTest):
    def test_every_client_stays_with_its_server_over_tcp_and_udp(self):
        self.apply(timeout_s=60)
        first = {c: (self.web(c), self.echo(c)) for c in self.all_clients}
        for _ in range(3):
            self.assertEqual({c: (self.web(c), self.echo(c)) for c in self.all_clients}, first)
        for family in ("v4", "v6"):
            for i in (0, 1):
                self.assertEqual({first[c][i] for c in self.lab.clients[family]}, set(self.lab.server_names))

    def test_the_table_lists_what_clients_saw(self):
        self.apply(timeout_s=60)
        seen = {c: self.web(c) for c in self.all_clients}
        rows = {r["key"]: r for r in self.engine.entries() if r["virtual_service"].startswith("web")}
        self.assertEqual({key: self.lab.name_of(row["server"]) for key, row in rows.items()}, seen)
        row = rows["10.1.0.2"]
        self.assertEqual((row["pool"], row["profile"], row["type"]),
                         ("web-pool-v4", "sticky", "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS"))

    def test_the_server_sees_an_address_of_the_engine(self):
        self.apply()
        self.assertEqual(self.lab.get("10.1.0.2")[1], "10.2.0.1")
        self.assertEqual(self.lab.get("fd00:1::2")[1], "fd00:2::1")

    def test_without_persistence_round_robin_spreads_one_client(self):
        self.apply(persistent=False)
        for client in self.two_clients:
            self.assertEqual({self.web(client) for _ in range(6)}, set(self.lab.server_names))

    def test_timeout_0_turns_persistence_off(self):
        self.apply(timeout_s=0)
        for client in self.two_clients:
            self.assertEqual({self.web(client) for _ in range(6)}, set(self.lab.server_names))
        self.assertEqual(self.engine.entries(), [])

    def test_ip_mask_keeps_a_network_together(self):
        self.apply(profile={"ip_persistence_profile": {"timeout_seconds": 60, "ip_mask": 29}})
        # 10.1.0.2 to 10.1.0.7 are in 10.1.0.0/29.
        reached = {self.web(c) for c in self.lab.clients["v4"][:6]}
        self.assertEqual(len(reached), 1)
        self.assertLess(reached, set(self.lab.server_names))
        keys = [r["key"] for r in self.engine.entries(virtual_service="web-v4")]
        self.assertEqual(keys, ["10.1.0.0/29"])

    def test_an_entry_expires_after_the_last_close(self):
        self.apply(timeout_s=2)
        for client in self.two_clients:
            with self.subTest(client):
                with self.lab.connect_tcp(client) as connection:
                    http_get(connection)
                    time.sleep(3.5)
                    rows = self.engine.entries(client=client)
                    self.assertEqual([r["life_time_s"] for r in rows], [None])
                self.assertEqual(len(self.engine.entries(client=client)), 1)
                wait_until(lambda: not self.engine.entries(client=client), 6, "expiry")

    def test_delete_forgets(self):
        self.apply(timeout_s=60)
        self.web("10.1.0.2")
        self.web("10.1.0.3")
        self.assertEqual(self.engine.api("DELETE", "/v1/persistence-tables?client=10.1.0.2"), {"removed": 1})
        self.assertEqual([r["key"] for r in self.engine.entries()], ["10.1.0.3"])


class ServerStates(LabTest):
    def go_down(self, **profile):
        """Marks down the server of both clients, whichever it is; {client: old server}."""
        self.apply(timeout_s=60, profile=profile)
        old = self.reached(self.two_clients)
        for name in set(old.values()):
            self.mark(name, "OPER_DOWN")
        if len(set(old.values())) == len(self.lab.server_names):
            self.fail("no server is left")
        return old

    def test_pick_new_server_moves_the_entry_for_good(self):
        old = self.go_down()
        moved = {c: self.web(c) for c in old}
        for client, server in moved.items():
            self.assertIn(server, set(self.lab.server_names) - {old[client]})
        for name in set(old.values()):
            self.mark(name, None)
        self.assertEqual({c: self.web(c) for c in old}, moved)

    def test_continue_stays_with_the_server_that_is_down(self):
        old = self.go_down(server_hm_down_recovery="HM_DOWN_CONTINUE_PERSISTENT_SERVER")
        self.assertEqual({c: self.web(c) for c in old}, old)

    def test_abort_refuses_and_keeps_the_entry(self):
        old = self.go_down(server_hm_down_recovery="HM_DOWN_ABORT_CONNECTION")
        for client in old:
            self.assertEqual(self.web(client), "refused")
        for name in set(old.values()):
            self.mark(name, None)
        self.assertEqual({c: self.web(c) for c in old}, old)

    def test_abort_answers_udp_with_port_unreachable(self):
        self.apply(timeout_s=60, profile={"server_hm_down_recovery": "HM_DOWN_ABORT_CONNECTION"})
        for client in self.two_clients:
            self.mark(self.echo(client), "OPER_DOWN")
            self.assertEqual(self.echo(client), "refused")
            self.apply(timeout_s=60, profile={"server_hm_down_recovery": "HM_DOWN_ABORT_CONNECTION"})

    def test_return_home_takes_clients_back(self):
        old = self.go_down(server_recovery={"return_home": True})
        moved = {c: self.web(c) for c in old}
        for client in old:
            self.assertIn(moved[client], set(self.lab.server_names) - {old[client]})
        for name in set(old.values()):
            self.mark(name, None)
        self.assertEqual({c: self.web(c) for c in old}, old)

    def test_an_open_connection_survives_its_server_being_marked_down(self):
        self.apply(timeout_s=60)
        for client in self.two_clients:
            with self.lab.connect_tcp(client) as connection:
                server = http_get(connection)[0]
                self.mark(server, "OPER_DOWN")
                self.assert_served_elsewhere(client, server)
                self.assertEqual(http_get(connection)[0], server)
                self.mark(server, None)

    def test_all_servers_down_refuses(self):
        self.apply()
        for name in self.lab.server_names:
            self.mark(name, "OPER_DOWN")
        for client in self.two_clients:
            self.assertEqual(self.web(client), "refused")
            self.assertEqual(self.echo(client), "refused")

    def test_a_disabled_server_moves_its_clients(self):
        self.apply(timeout_s=60)
        old = self.reached(self.two_clients)
        off = {self.lab.servers[f][self.lab.server_names.index(old[c])]: {"enabled": False}
               for f, c in zip(("v4", "v6"), self.two_clients)}
        self.engine.apply(self.lab.document(timeout_s=60, server_options=off))
        for client in old:
            self.assert_served_elsewhere(client, old[client])

    def test_a_disabled_server_may_keep_its_persistent_clients(self):
        self.apply(timeout_s=60)
        old = self.reached(self.two_clients)
        off = {self.lab.servers[f][self.lab.server_names.index(old[c])]: {"enabled": False}
               for f, c in zip(("v4", "v6"), self.two_clients)}
        self.engine.apply(self.lab.document(timeout_s=60, server_options=off, pool={
            "server_disable_type": "ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT"}))
        self.assertEqual({c: self.web(c) for c in old}, old)
        others = {self.web(c) for c in self.lab.clients["v4"][1:]}
        self.assertEqual(others, set(self.lab.server_names) - {old["10.1.0.2"]})

    def test_reordering_servers_moves_nobody(self):
        self.apply(timeout_s=60)
        old = self.reached(self.all_clients)
        document = self.lab.document(timeout_s=60)
        for pool in document["Pool"]:
            pool["servers"].reverse()
        self.engine.apply(document)
        self.assertEqual({c: self.web(c) for c in self.all_clients}, old)


TWO_WORKERS = {"worker_cores": [1, 0], "control_core": 0}


class TwoWorkers(Sticking):
    """The same with two workers; the control thread shares the second one's core."""
    engine_options = TWO_WORKERS

    def test_connections_of_one_client_run_on_both_workers(self):
        self.apply(timeout_s=60)
        before = self.engine.metrics()
        reached = {self.web("10.1.0.2") for _ in range(16)}
        self.assertEqual(len(reached), 1)
        self.assertLess(reached, set(self.lab.server_names))

        def hits(core):
            name = f'limpet_worker_persistence_lookups_total{{core="{core}",result="hit"}}'
            return self.engine.metrics()[name] - before[name]
        wait_until(lambda: hits(0) > 0 and hits(1) > 0, 3, "both workers to have found the entry")

    def started(self, client):
        """A socket whose SYN is under way."""
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        connection = self.lab.client.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.bind((client, 0))
        connection.connect_ex((self.lab.vips["v6" if ":" in client else "v4"], 80))
        return connection

    def test_first_connections_of_one_client_at_once_wait_for_its_home(self):
        self.apply(timeout_s=60)
        for known in (self.lab.clients["v4"][-1], self.lab.clients["v6"][-1]):
            self.web(known)  # the client's host knows the way
        clients = self.lab.clients["v4"][:6] + self.lab.clients["v6"][:6]
        dropped = 'limpet_drops_total{reason="pen_full"}'
        before = self.engine.metrics()[dropped]
        connections = []
        try:
            self.engine.process.send_signal(signal.SIGSTOP)  # so that they come at once
            try:
                connections += [self.started(client) for client in clients for _ in range(50)]
            finally:
                self.engine.process.send_signal(signal.SIGCONT)
            for connection in connections:
                _, writable, _ = select.select([], [connection], [], 10)
                self.assertTrue(writable, "not connected")
                self.assertEqual(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
        finally:
            for connection in connections:
                connection.close()
        self.assertEqual(self.engine.metrics()[dropped], before)

    def test_explain_names_the_home_and_what_each_worker_has(self):
        self.apply(timeout_s=60)
        for _ in range(16):  # so that both workers have seen the client
            self.web("10.1.0.2")
        answer = self.engine.api("GET", "/v1/explain?virtual_service=web-v4&client=10.1.0.2")
        home = answer["home_core"]
        steps = "\n".join(answer["steps"])
        self.assertIn(f"the home of key 10.1.0.2 is the worker on core {home}", steps)
        self.assertIn(f"core {home} has its record", steps)
        self.assertIn(f"core {1 - home} has a copy", steps)


class TwoWorkersServerStates(ServerStates):
    engine_options = TWO_WORKERS


if __name__ == "__main__":
    main()
