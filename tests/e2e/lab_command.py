"""scripts/lab: a lab that stays up until it is taken down."""
import argparse
import json
import os
import shutil
import signal
import sys
import time

from lab import Lab, client_binary
from namespace import Namespace

NAME = "limpet-lab"
STATE = "/run/limpet-lab.json"


def start_time(pid):
    """Tells a process from a later one with the same id; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def state():
    try:
        with open(STATE, encoding="utf-8") as file:
            return json.load(file)
    except OSError:
        return None


def up(options):
    if state():
        sys.exit("lab: it is up already; scripts/lab down")
    lab = Lab(name=NAME, detached=True, device=options.device, one_armed=options.one_armed)
    try:
        cores = list(range(options.workers)) if options.workers > 1 else [0]
        engine = lab.start_engine(lab.document(timeout_s=60), worker_cores=cores)
    except BaseException:
        lab.close()
        raise
    processes = [*lab.processes, engine.process]
    with open(STATE, "w", encoding="utf-8") as file:
        json.dump({"folder": lab.folder, "namespaces": [n.name for n in lab.namespaces],
                   "socket": engine.socket_path, "config": engine.config, "log": engine.log_path,
                   "processes": {p.pid: start_time(p.pid) for p in processes}}, file)
    status()
    return 0


def status():
    found = state()
    if not found:
        print("lab: it is not up; scripts/lab up")
        return 1
    ctl = f"{os.path.relpath(client_binary())} --engine unix:{found['socket']}"
    print(f"""
The lab is up. Clients 10.1.0.2 … 10.1.0.9 and fd00:1::2 … fd00:1::9, VIPs 10.1.0.100 and fd00:1::100.

  scripts/lab shell client
      curl http://10.1.0.100/                            which server am I with?
      curl --interface 10.1.0.5 http://10.1.0.100/       and as another client?
      curl --interface fd00:1::5 'http://[fd00:1::100]/'
      echo hello | socat -t1 - UDP:10.1.0.100:9053,bind=10.1.0.5
  {ctl} get persistence-tables
  {ctl} mark web-pool-v4 10.2.0.2:80 down
  {ctl} events

  engine log     {found['log']}
  bootstrap      {found['config']}
  take it down   scripts/lab down
""")
    return 0


def shell(where):
    found = state()
    if not found:
        sys.exit("lab: it is not up; scripts/lab up")
    os.environ["LIMPET_ENGINE"] = f"unix:{found['socket']}"
    os.environ["PATH"] += f":{os.path.dirname(client_binary())}"
    os.environ["PS1"] = f"[lab {where}] \\w# "
    command = Namespace.existing(f"{NAME}-{where}").command("bash", "--norc")
    os.execvp(command[0], command)


def down():
    found = state()
    if not found:
        print("lab: it is not up")
        return 0
    for how in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + 10
        for pid, started in found["processes"].items():
            if start_time(pid) == started:
                os.kill(int(pid), how)
        while time.monotonic() < end and any(start_time(p) == s for p, s in found["processes"].items()):
            time.sleep(0.05)
    for name in found["namespaces"]:
        Namespace.existing(name).delete()
    shutil.rmtree(found["folder"], ignore_errors=True)
    os.remove(STATE)
    print("lab: it is down, nothing is left")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="scripts/lab")
    commands = parser.add_subparsers(dest="command", required=True)
    starter = commands.add_parser("up")
    starter.add_argument("--device", choices=("af_packet", "af_xdp", "tap"), default="af_packet")
    starter.add_argument("--one-armed", action="store_true")
    starter.add_argument("--workers", type=int, default=1)
    commands.add_parser("status")
    commands.add_parser("down")
    commands.add_parser("shell").add_argument(
        "where", nargs="?", default="client",
        choices=("client", "engine", "switch", "server1", "server2", "server3"))
    options = parser.parse_args()
    return {"up": lambda: up(options), "status": status, "down": down,
            "shell": lambda: shell(options.where)}[options.command]()


if __name__ == "__main__":
    sys.exit(main())
