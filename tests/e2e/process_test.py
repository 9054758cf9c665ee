"""limpet-se and limpetctl as processes: what they print, their exit status, what they leave."""
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from documents import bootstrap, document
from failover_lab import Visitors
from lab import Lab, client_binary, engine_binary
from runner import LabTest, main

SERVERS = {"v4": ["10.2.0.2", "10.2.0.3"], "v6": ["fd00:2::2"]}
VIPS = {"v4": "10.1.0.100", "v6": "fd00:1::100"}
TOO_LARGE = {"memory": {"hugepages": False, "size_mb": 64},
             "limits": {"persistence_entries": 16777216, "flows_per_worker": 1048576, "packet_buffers": 65536}}
STOP_S_MAX = 3


def limpet_se(*arguments, **options):
    return subprocess.run([engine_binary(), *arguments], capture_output=True, text=True, timeout=60, **options)


class Check(unittest.TestCase):
    """limpet-se --check needs no root and no devices."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="limpet-check-")
        self.addCleanup(self.folder.cleanup)

    def check(self, config, text=None):
        self.config = os.path.join(self.folder.name, "engine.json")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text if text is not None else json.dumps(config))
        return limpet_se("--config", self.config, "--check")

    def good(self, **more):
        return bootstrap("check", {"front": ("net_null0", ["10.1.0.1/24", "fd00:1::1/64"])}, **more)

    def write(self, name, content):
        with open(os.path.join(self.folder.name, name), "w", encoding="utf-8") as file:
            json.dump(content, file)

    def test_a_good_file_passes(self):
        done = self.check(self.good())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_error_has_its_place(self):
        config = self.good(idle_sleep_us="soon", surprise=1)
        config["ports"][0]["addresses"] = ["10.1.0.1/64"]
        done = self.check(config)
        self.assertEqual(done.returncode, 1)
        for pointer in ("/idle_sleep_us", "/surprise", "/ports/0/addresses/0"):
            self.assertIn(f"{self.config}:{pointer}: ", done.stdout + done.stderr)

    def test_required_fields(self):
        config = self.good()
        del config["api"]
        done = self.check(config)
        self.assertEqual(done.returncode, 1)
        errors = [line for line in done.stderr.splitlines() if ": warning: " not in line]
        self.assertEqual(errors, [f"{self.config}:/api: is required"])

    def test_text_that_is_no_json(self):
        for text, where in (("{", "line 1, column 2"), ('{"name": "a",\n "api": }', "line 2, column 9")):
            done = self.check(None, text)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, f"^{self.config}:: parse error at {where}: .*\n$")

    def test_the_document_is_checked_as_well(self):
        bad = document(SERVERS, VIPS)
        bad["Pool"][0]["servers"][1]["ip"]["addr"] = "10.2.0.300"
        self.write("first.json", bad)
        done = self.check(self.good(document="first.json"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("first.json:/Pool/0/servers/1/ip/addr: ", done.stdout + done.stderr)

    def test_a_good_document_passes(self):
        self.write("first.json", document(SERVERS, VIPS))
        self.assertEqual(self.check(self.good(document="first.json")).returncode, 0)

    def test_a_document_that_is_not_there(self):
        done = self.check(self.good(document="absent.json"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, f"{self.config}:/document: .*/absent.json .*No such file")

    def test_limits_that_do_not_fit_are_told_as_by_the_start(self):
        done = self.check(self.good(**TOO_LARGE))
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"{self.config}:/memory/size_mb: 64 MB do not hold", done.stderr)
        self.assertIn("16777216 persistence_entries", done.stderr)

    def test_usage(self):
        for wrong, message in (((), "usage: limpet-se "), (("--no-such-option",), "option '--no-such-option'")):
            done = limpet_se(*wrong)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(message, done.stderr)
        usage = limpet_se("--help")
        self.assertEqual(usage.returncode, 0)
        self.assertIn("usage: limpet-se --config FILE", usage.stdout)
        version = limpet_se("--version")
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r"\d+\.\d+\.\d+")


class Start(unittest.TestCase):
    def start(self, **changes):
        with Lab() as lab:
            engine = lab.start_engine(expect_start=False, **changes)
            status = engine.process.wait(30)
            return status, engine.log()

    def test_a_missing_device_is_3(self):
        status, log = self.start(ports=[{"name": "front", "device": "net_af_packet0,iface=absent0",
                                         "addresses": ["10.1.0.1/24"]}])
        self.assertEqual(status, 3, log)
        self.assertRegex(log, "/engine.json:/ports/0/device: .*absent0")

    def test_limits_that_do_not_fit_are_3_and_explained(self):
        status, log = self.start(**TOO_LARGE)
        self.assertEqual(status, 3, log)
        self.assertIn("/engine.json:/memory/size_mb: 64 MB do not hold", log)
        self.assertIn("16777216 persistence_entries", log)

    def test_a_bad_file_is_1(self):
        status, log = self.start(idle_sleep_us=-5)
        self.assertEqual(status, 1, log)
        self.assertRegex(log, "/engine.json:/idle_sleep_us: -5 is out of range")

    def test_stops_cleanly_and_leaves_nothing(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            with Lab() as lab:
                engine = lab.start_engine(lab.document())
                self.assertTrue(lab.curl("10.1.0.2"))
                self.assertEqual(engine.stop(how), 0, engine.log())
                runtime = "/var/run/dpdk"
                left = [n for n in os.listdir(runtime) if engine.name in n] if os.path.isdir(runtime) else []
                self.assertEqual(left, [])
                self.assertFalse(os.path.exists(engine.socket_path))

    def test_stops_within_seconds_under_traffic(self):
        with Lab() as lab:
            engine = lab.start_engine(lab.document(), worker_cores=[0, 1])
            visitors = Visitors(lab, lab.clients["v4"][:3] + lab.clients["v6"][:3], pause_s=0)
            try:
                with lab.connect_tcp("10.1.0.8") as download:  # of 8 seconds
                    download.sendall(b"GET /slow/data HTTP/1.1\r\nHost: lab\r\n\r\n")
                    self.assertTrue(download.recv(4096))
                    time.sleep(1)
                    began = time.monotonic()
                    self.assertEqual(engine.stop(), 0, engine.log())
                    took = time.monotonic() - began
            finally:
                visitors.stop()
            for client, visits in visitors.visits.items():
                served = [end for _, end, server in visits if server and end < began]
                self.assertGreater(len(served), 10, f"{client} is no traffic")
                self.assertLess(began - served[-1], 0.5, f"{client} had ended before")
            self.assertLess(took, STOP_S_MAX)

    def test_two_engines_on_one_host(self):
        with Lab() as one, Lab() as other:
            engines = [lab.start_engine(lab.document()) for lab in (one, other)]
            self.assertTrue(one.curl("10.1.0.2") and other.curl("10.1.0.2"))
            self.assertEqual([engine.stop() for engine in engines], [0, 0])


class Client(LabTest):
    """limpetctl: 0 done, 1 refused by the engine, 2 usage, 3 unreachable."""

    def status(self, *arguments):
        return self.engine.limpetctl(*arguments, check=False).returncode

    def test_done_is_0(self):
        self.apply(timeout_s=60)
        self.web("10.1.0.2")
        for command in (["status"], ["get", "persistence-tables"], ["events"], ["peers"],
                        ["explain", "web-v4", "10.1.0.2"], ["mark", "web-pool-v4", "10.2.0.2:80", "down"],
                        ["mark", "web-pool-v4", "10.2.0.2:80", "clear"],
                        ["clear", "persistence-tables"]):
            self.assertEqual(self.status(*command), 0, command)

    def test_the_table_is_printed_as_nsx_does(self):
        self.apply(timeout_s=60)
        server = self.web("10.1.0.2")
        text = self.engine.limpetctl("get", "persistence-tables", "--client", "10.1.0.2").stdout
        header, row = [line.split() for line in text.strip().splitlines() if "10.1.0.2" in line or "KEY" in line]
        self.assertEqual(header, ["KEY", "DADDR", "DPORT", "LIFE_TIME(s)", "NUM_SESSIONS"])
        self.assertEqual((row[0], self.lab.name_of(row[1]), row[2]), ("10.1.0.2", server, "80"))

    def test_apply_and_status_say_what_is_served(self):
        path = os.path.join(self.lab.folder, "served.json")
        changed = self.lab.document()
        changed["VirtualService"][0]["enabled"] = False
        with open(path, "w", encoding="utf-8") as file:
            json.dump(changed, file)
        done = self.engine.limpetctl("apply", path)
        self.assertEqual(done.stdout.splitlines()[-1], "3 of 4 virtual services are served")
        lines = self.engine.limpetctl("status").stdout.splitlines()
        self.assertIn("web-v4  OPER_DISABLED  not serving: disabled  connections 0  pool web-pool-v4", lines)
        self.assertIn("web-v6  OPER_UP  serving  connections 0  pool web-pool-v6", lines)

    def test_json_is_the_engines_answer(self):
        self.apply(timeout_s=60)
        self.web("10.1.0.2")
        answer = json.loads(self.engine.limpetctl("--json", "get", "persistence-tables").stdout)
        self.assertEqual(answer["count"], 1)

    def test_refused_is_1(self):
        self.apply()
        bad = os.path.join(self.lab.folder, "bad.json")
        document = self.lab.document()
        document["Pool"][0]["lb_algorithm"] = "LB_ALGORITHM_BY_MOOD"
        with open(bad, "w", encoding="utf-8") as file:
            json.dump(document, file)
        done = self.engine.limpetctl("apply", bad, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/Pool/0/lb_algorithm", done.stdout + done.stderr)
        for command, message in ((["mark", "web-pool-v4", "10.2.0.77:80", "down"], "10.2.0.77:80"),
                                 (["explain", "absent", "10.1.0.2"], "virtual service")):
            done = self.engine.limpetctl(*command, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)

    def test_usage_is_2(self):
        for command, message in (([], "a command is missing"), (["conquer"], '"conquer"'),
                                 (["mark", "web-pool-v4"], '"mark"'),
                                 (["mark", "p", "10.2.0.2:80", "sideways"], '"sideways"')):
            done = self.engine.limpetctl(*command, check=False)
            self.assertEqual(done.returncode, 2, command)
            self.assertIn(message, done.stderr)

    def test_unreachable_is_3(self):
        done = subprocess.run([client_binary(), "--engine", f"unix:{self.lab.folder}/absent.sock", "status"],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("cannot connect: No such file or directory", done.stderr)

    def test_explain_agrees_with_what_happens(self):
        self.apply(timeout_s=60)
        for client, service in (("10.1.0.2", "web-v4"), ("fd00:1::2", "web-v6")):
            server = self.web(client)
            answer = self.engine.api("GET", f"/v1/explain?virtual_service={service}&client={client}")
            self.assertEqual((answer["decision"], answer["reason"], self.lab.name_of(answer["server"])),
                             ("forward", "entry", server))


if __name__ == "__main__":
    main()
