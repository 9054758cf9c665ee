"""scripts/demo: persistence on live traffic, told step by step and checked at every step."""
import argparse
import json
import os
import signal
import sys
import time

from lab import Lab, bracketed, end_on_signals, family_of, http_get, wait_until
from namespace import run

TIMEOUT_S = 30       # while the story runs
SHORT_TIMEOUT_S = 3  # for the chapter on expiry
UDP_IDLE_S = 2
SERVICES = ("web", "echo")


class Story:
    """Prints what happens and remembers whether everything that must hold did."""

    def __init__(self, lab, engine):
        self.lab, self.engine = lab, engine
        self.clients = lab.clients["v4"] + lab.clients["v6"]
        self.checks = self.failures = self.chapter_number = 0

    def chapter(self, text):
        self.chapter_number += 1
        print(f"\n{self.chapter_number}. {text}")

    def hold(self, condition, text):
        self.checks += 1
        self.failures += not condition
        print(f"   {'ok    ' if condition else 'FAILED'} {text}", flush=True)

    def limpetctl(self, *arguments, show=True):
        print("   $ limpetctl " + " ".join(arguments))
        text = self.engine.limpetctl(*arguments).stdout
        if show:
            for line in text.rstrip("\n").split("\n"):
                print("     " + line)
        return text

    def apply(self, **options):
        """Gives the engine a changed document, as an operator would: limpetctl apply FILE."""
        path = os.path.join(self.lab.folder, "document.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.lab.document(udp_idle_s=UDP_IDLE_S, **options), file, indent=1)
        self.limpetctl("apply", path, show=False)

    def round(self):
        """Every client asks once by curl and once by UDP: {(service, client): server}."""
        reached = {}
        for client in self.clients:
            web = self.lab.curl(client)
            reached["web", client] = web[0] if web else None
            try:
                echo = self.lab.udp(client, tries=3)
            except OSError:
                echo = None
            reached["echo", client] = echo[0] if echo else None
        return reached

    def show(self, *rounds, titles):
        print(f"     {'client':<12}" + "".join(
            f"{title + ' ' + service:<16}" for title in titles for service in SERVICES).rstrip())
        for client in self.clients:
            cells, before = "", {}
            for reached in rounds:
                for service in SERVICES:
                    server = reached[service, client]
                    moved = service in before and before[service] != server
                    cells += f"{str(server or 'refused') + (' *' if moved else ''):<16}"
                    before[service] = server
            print(f"     {client:<12}{cells}".rstrip())
        if len(rounds) > 1:
            print("     (* moved)")

    def table_agrees(self, reached):
        """Every entry of the engine's table names the server that client really reached."""
        rows = {}
        for row in self.engine.entries():
            service = row["virtual_service"].split("-")[0]
            rows[service, row["key"]] = self.lab.name_of(row["server"])
        return rows == reached

    def mark(self, server, state):
        for family in ("v4", "v6"):
            address = self.lab.servers[family][self.lab.server_names.index(server)]
            for service, port in (("web", 80), ("echo", 9053)):
                self.limpetctl("mark", f"{service}-pool-{family}", f"{bracketed(address)}:{port}", state,
                               show=False)


def first_visits(story):
    story.chapter("Sixteen clients (8 IPv4, 8 IPv6) come by curl and by UDP, three times each")
    rounds = [story.round() for _ in range(3)]
    story.show(rounds[0], titles=["reached"])
    story.hold(None not in rounds[0].values(), "every client was served, over TCP and UDP")
    story.hold(rounds[0] == rounds[1] == rounds[2], "each client reached the same server all three times")
    for service in SERVICES:
        for family in ("v4", "v6"):
            used = {s for (k, c), s in rounds[0].items() if k == service and family_of(c) == family}
            story.hold(len(used) == 3, f"all three servers share the {service} clients of {family}")
    story.chapter("The engine's persist table")
    story.limpetctl("get", "persistence-tables")
    story.hold(story.table_agrees(rounds[0]), "32 entries, each naming the server that client reached")
    return rounds[0]


def server_goes_down(story, before):
    victim = before["web", story.clients[0]]
    story.chapter(f"{victim} is marked down; an open connection to it must go on")
    with story.lab.connect_tcp(story.clients[0]) as connection:
        http_get(connection)
        story.mark(victim, "down")
        story.hold(http_get(connection)[0] == victim, f"the open connection still talks to {victim}")
    after = story.round()
    story.show(before, after, titles=["before", "after"])
    story.hold(None not in after.values() and victim not in after.values(),
               f"every client was served, nobody by {victim}")
    story.hold(all(after[k] == before[k] for k in before if before[k] != victim),
               "clients of the other servers stayed where they were")
    story.hold(story.round() == after, "the clients that moved stay with their new server")
    story.hold(story.table_agrees(after), "the table says the same")

    story.chapter(f"{victim} is back; without return_home nobody moves a second time")
    story.mark(victim, "clear")
    back = story.round()
    story.show(after, back, titles=["down", "back"])
    story.hold(back == after, "everybody stayed")


def clients_go_home(story):
    story.chapter("The same with return_home: the profile is changed, the table cleared")
    story.apply(timeout_s=TIMEOUT_S, profile={"server_recovery": {"return_home": True}})
    story.limpetctl("clear", "persistence-tables")
    story.hold(story.engine.entries() == [], "the table is empty")
    home = story.round()
    victim = home["web", story.clients[0]]
    story.mark(victim, "down")
    away = story.round()
    story.mark(victim, "clear")
    back = story.round()
    story.show(home, away, back, titles=["home", "down", "back"])
    story.hold(victim not in away.values() and None not in away.values(), f"{victim}'s clients moved away")
    story.hold(back == home, f"and went home when {victim} was back")


def entries_expire(story):
    story.chapter(f"Entries expire {SHORT_TIMEOUT_S} s after a client's last connection has closed")
    story.limpetctl("clear", "persistence-tables", show=False)
    story.apply(timeout_s=SHORT_TIMEOUT_S)
    client = story.clients[0]
    server = story.lab.curl(client)[0]
    closed = time.monotonic()
    story.hold(len(story.engine.entries(client=client)) == 1, f"{client} has an entry")
    with story.lab.connect_tcp(client) as connection:
        stayed = http_get(connection)[0] == server
        time.sleep(SHORT_TIMEOUT_S + 1.5)
        rows = story.engine.entries(client=client)
        story.hold(stayed and len(rows) == 1 and rows[0]["life_time_s"] is None,
                   "while a connection is open, however long, the entry lives and has no timer")
    closed = time.monotonic()
    time.sleep(SHORT_TIMEOUT_S / 2)
    story.hold(len(story.engine.entries(client=client)) == 1, "half the timeout after the close it lives")
    try:
        wait_until(lambda: not story.engine.entries(client=client), SHORT_TIMEOUT_S + 5, "expiry")
        took = time.monotonic() - closed
        story.hold(SHORT_TIMEOUT_S - 0.5 <= took <= SHORT_TIMEOUT_S + 2,
                   f"it was gone {took:.1f} s after the close")
    except TimeoutError:
        story.hold(False, "it was gone after its timeout")
    story.lab.udp(client)
    story.hold(len(story.engine.entries(client=client)) == 1, "a UDP client has an entry as well")
    try:
        wait_until(lambda: not story.engine.entries(), SHORT_TIMEOUT_S + UDP_IDLE_S + 5, "expiry")
        story.hold(True, "and that expired too: the table is empty")
    except TimeoutError:
        story.hold(False, "and that expired too")


def nothing_left(story, folder, name, engine_status):
    story.chapter("Everything is taken down")
    story.hold(engine_status == 0, "limpet-se ended with status 0")
    story.hold(name not in run("ip", "netns", "list").stdout, "no namespace is left")
    runtime = "/var/run/dpdk"
    left = [n for n in os.listdir(runtime) if name in n] if os.path.isdir(runtime) else []
    story.hold(not left, "no file of the engine is left in /var/run/dpdk")
    story.hold(not os.path.exists(folder), "no temporary file is left")


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("--device", choices=("af_packet", "af_xdp", "tap"), default="af_packet")
    options = parser.parse_args()
    end_on_signals()
    print(f"""
  clients ──── front [ limpet-se ] back ──── switch ─┬─ server1   real nginx and UDP echo,
  10.1.0.2-9      VIP 10.1.0.100                     ├─ server2   in namespaces of their own
  fd00:1::2-9     VIP fd00:1::100                    └─ server3   ports: {options.device}""")
    with Lab(device=options.device) as lab:
        engine = lab.start_engine()
        story = Story(lab, engine)
        story.apply(timeout_s=TIMEOUT_S)
        try:
            before = first_visits(story)
            server_goes_down(story, before)
            clients_go_home(story)
            entries_expire(story)
        except (OSError, RuntimeError, TypeError) as error:
            story.hold(False, f"the story broke off: {error}")
            print(engine.log())
        folder, name, status = lab.folder, lab.name, engine.stop(signal.SIGTERM)
    nothing_left(story, folder, name, status)
    print()
    if story.failures:
        print(f"demo: {story.failures} of {story.checks} checks FAILED")
        return 1
    print(f"demo: all {story.checks} checks held")
    print("next: scripts/lab up leaves this network open to play in; scripts/demo failover kills an engine; README.md, "
          "Configuration")
    return 0


if __name__ == "__main__":
    sys.exit(main())
