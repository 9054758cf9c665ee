"""scripts/demo failover: two engines, one group; the owner is killed, returns, and is given back what
was its own. Told step by step and checked at every step."""
import argparse
import sys
import time

from failover_lab import Connections, FailoverLab, Visitors
from lab import end_on_signals
from namespace import run

RECOVER_MS_MAX = 1000
GIVE_BACK_MS_MAX = 1000
TIMEOUT_S = 60


class Story:
    """Prints what happens and remembers whether everything that must hold did."""

    def __init__(self, lab):
        self.lab = lab
        self.clients = lab.clients["v4"] + lab.clients["v6"]
        self.checks = self.failures = self.chapter_number = 0

    def chapter(self, text):
        self.chapter_number += 1
        print(f"\n{self.chapter_number}. {text}", flush=True)

    def say(self, text):
        print(f"   {text}", flush=True)

    def hold(self, condition, text):
        self.checks += 1
        self.failures += not condition
        self.say(f"{'ok    ' if condition else 'FAILED'} {text}")

    def waits(self, wait, text):
        """Holds if wait() comes to an end."""
        try:
            wait()
            self.hold(True, text)
        except TimeoutError as error:
            self.hold(False, f"{text} ({error})")

    def peers(self):
        for i, engine in enumerate(self.lab.running):
            if engine is None:
                continue
            print(f"   $ limpetctl peers        # se{i + 1}")
            prefix = self.lab.name + "-"
            heading, *rows = engine.limpetctl("peers").stdout.rstrip("\n").split("\n")
            for line in (heading.replace(" " * len(prefix), "", 1), *rows):
                print("     " + line.replace(prefix, ""))


def begin(story, document):
    lab = story.lab
    story.chapter("Two engines start with one document, whose group lists se1, se2")
    for i in (0, 1):
        lab.start(i, document)
    story.waits(lab.wait_until_synced, "both are synced")
    story.waits(lab.wait_for_owner_0, "se1 owns the group, se2 stands by")
    story.peers()


def owner_dies(story, kept):
    """kept: what must become of open connections."""
    lab = story.lab
    visited = story.clients[:4] + story.clients[8:12]
    connections = Connections(lab, story.clients[4:8] + story.clients[12:])
    visitors = Visitors(lab, visited)
    try:
        time.sleep(1)
        story.say(f"{len(visited)} clients come again and again, {len(connections.sockets)} keep a "
                  "connection open; all are bound")
        story.waits(lab.wait_until_equal, "se2 has every binding of se1")
        at = lab.kill(0)
        story.say("$ kill -9 se1")
        story.waits(lambda: lab.wait_for_owner(1), "se2 has taken the group over")
        time.sleep(1)
        recovered = visitors.recovered_ms(at)
        story.say(f"time to recover: {'never' if recovered is None else f'{recovered:.0f} ms'} "
                  "(until the last client was served again)")
        story.hold(recovered is not None and recovered <= RECOVER_MS_MAX,
                   f"at most {RECOVER_MS_MAX} ms")
        alive, lost = connections.ask()
        story.say(f"connections kept: {len(alive)}, lost: {len(lost)}")
        if kept:
            story.hold(not lost, "the clients' addresses were preserved: every connection goes on")
        else:
            story.hold(not alive, "with source NAT they are lost, and their clients know it")
            back = {c: server for c, server in connections.servers.items()
                    if (lab.get(c) or (None,))[0] != server}
            story.hold(not back, "they connect again, to the server they had")
        give_back(story, visitors, connections if kept else None)
    finally:
        visitors.stop()
        connections.close()
    moved = visitors.moved()
    story.say(f"clients moved: {len(moved)}")
    story.hold(not moved, "no client ever met another server than its own")


def give_back(story, visitors, connections):
    lab = story.lab
    story.chapter("se1 returns: it is told everything, and the group is given back (preempt)")
    began = time.monotonic()
    lab.start(0, None)
    story.waits(lab.wait_until_synced, "both are synced again")
    story.waits(lab.wait_until_equal, "se1 has every binding again")
    story.waits(lab.wait_for_owner_0, "se2 has given the group back to se1")
    time.sleep(1)
    gap = visitors.gap_ms(began)
    story.say(f"longest time without service while it was given back: {gap:.0f} ms")
    story.hold(gap <= GIVE_BACK_MS_MAX, f"at most {GIVE_BACK_MS_MAX} ms")
    if connections:
        _, lost = connections.ask()
        story.hold(not lost, "open connections went on once more")
    story.peers()


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo failover")
    parser.parse_args()
    end_on_signals()
    print("""
            ┌─ front [se1] back ─┐
  clients ──┤       mirror       ├── servers   VIP 10.1.0.100, gateway of the servers 10.2.0.1
            └─ front [se2] back ─┘             both belong to the group's owner""")
    with FailoverLab() as lab:
        story = Story(lab)
        try:
            begin(story, lab.document(timeout_s=TIMEOUT_S))
            story.chapter("The owner is killed; connections are translated (source NAT)")
            owner_dies(story, kept=False)
            for engine in lab.running:
                engine.apply(lab.document(timeout_s=TIMEOUT_S, preserve_client_ip=True))
            story.chapter("The same with preserve_client_ip")
            owner_dies(story, kept=True)
        except (OSError, RuntimeError, TypeError) as error:
            story.hold(False, f"the story broke off: {error}")
            for engine in lab.engines:
                print(engine.log()[-2000:])
        name = lab.name
    story.hold(name not in run("ip", "netns", "list").stdout, "no namespace is left")
    print()
    if story.failures:
        print(f"demo: {story.failures} of {story.checks} checks FAILED")
        return 1
    print(f"demo: all {story.checks} checks held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
