"""limpet-se and limpetctl as processes: what they print, their exit status, what they leave."""
import json
import os
import signal
import socket
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

    def test_everything_is_said_in_one_go(self):
        bad = document(SERVERS, VIPS)
        bad["Pool"][0]["servers"][1]["ip"]["addr"] = "10.2.0.300"
        self.write("first.json", bad)
        config = self.good(document="first.json", idle_sleep_us="soon", worker_cores=[0, 1023],
                           eal=["-v", "--no-such-option"],
                           mirroring={"listen": "127.0.0.1:9090", "secret_file": "absent.key"})
        config["ports"][0]["device"] = "net_pcap0,rx_pcap=absent.pcap"
        done = self.check(config)
        self.assertEqual(done.returncode, 1)
        for place in ("engine.json:/idle_sleep_us", "engine.json:/worker_cores/1", "engine.json:/eal/1",
                      "engine.json:/mirroring/secret_file", "engine.json:/ports/0/device",
                      "first.json:/Pool/0/servers/1/ip/addr"):
            self.assertIn(f"{self.folder.name}/{place}: ", done.stderr)
        self.assertNotIn("good", done.stdout)

    def test_what_this_host_does_not_have_is_3(self):
        for changes, place, what in (
                ({"control_core": 1023}, "/control_core", "core 1023 does not exist"),
                ({"worker_cores": [0, 1023]}, "/worker_cores/1", "core 1023 does not exist"),
                ({"memory": {"hugepages": True, "size_mb": 1048576}}, "/memory/hugepages", "hugepages here"),
                ({"api": {"listen": "unix:absent/api.sock"}}, "/api/listen", "there is no folder")):
            done = self.check(self.good(**changes))
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertRegex(done.stderr, f"(?m)^{self.config}:{place}: .*{what}")

    def test_devices_that_are_not_here_are_3(self):
        for device, what in (("net_af_packet0,iface=absent0", 'no network interface named "absent0"'),
                             ("net_tap0,iface=new0,remote=absent0", 'no network interface named "absent0"'),
                             ("net_pcap0,rx_pcap=absent.pcap", "absent.pcap: No such file"),
                             ("net_pcap0,tx_pcap=absent/out.pcap", "there is no folder"),
                             ("ffff:ff:1f.7", "there is no PCI device ffff:ff:1f.7"),
                             ("net_nil0", "no driver"), ("net_null0,sice=9", 'no argument "sice"')):
            config = self.good()
            config["ports"][0]["device"] = device
            done = self.check(config)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertRegex(done.stderr, f"(?m)^{self.config}:/ports/0/device: .*{what}")

    def test_it_ends_with_how_many_services_are_served(self):
        some = document(SERVERS, VIPS)
        some["VirtualService"][0]["enabled"] = False
        self.write("first.json", some)
        done = self.check(self.good(document="first.json"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "3 of 4 virtual services are served")

    def test_groups_are_judged_by_who_mirrors(self):
        grouped = document(SERVERS, VIPS)
        grouped["ServiceEngineGroup"] = [{"name": "g", "engines": ["check", "other"]}]
        grouped["VirtualService"][0]["se_group_ref"] = "/api/serviceenginegroup/?name=g"
        self.write("first.json", grouped)
        warning = r"first.json:/ServiceEngineGroup/0/engines.*: warning: "
        self.assertRegex(self.check(self.good(document="first.json")).stderr, warning + ".*no `mirroring`")

        def mirroring(name):
            return {"listen": "127.0.0.1:9090", "peers": [{"name": name, "address": "127.0.0.1:9091"}]}
        done = self.check(self.good(document="first.json", mirroring=mirroring("somebody")))
        self.assertRegex(done.stderr, warning + "engine other is no mirroring peer")
        done = self.check(self.good(document="first.json", mirroring=mirroring("other")))
        self.assertEqual(done.returncode, 0)
        self.assertNotRegex(done.stderr, warning)
        self.assertEqual(done.stdout.splitlines()[-1], "4 of 4 virtual services are served")

    def test_a_document_whose_source_ports_do_not_fit(self):
        self.write("first.json", document(SERVERS, VIPS))
        config = self.good(document="first.json", snat=["10.1.0.32/27"],
                           memory={"hugepages": False, "size_mb": 64},
                           limits={"persistence_entries": 1024, "flows_per_worker": 1024,
                                   "packet_buffers": 16384})
        config["ports"][0]["addresses"] += ["10.2.0.1/24", "fd00:2::1/64"]
        done = self.check(config)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"first.json:/Pool: source ports .* need 17 MB \(130 blocks .*"
                                      r"memory.size_mb leaves \d+ MB \(\d+ blocks\): raise it by \d+")

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


class HostNamespace:
    """Starts a program where we are ourselves."""

    @staticmethod
    def start(*command, stdout=None, stderr=None, detached=False):
        return subprocess.Popen(command, stdout=stdout, stderr=stderr)


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

    def test_a_start_that_fails_says_which_field_and_nothing_else(self):
        front = ["10.1.0.1/24"]

        def port(device):
            return {"ports": [{"name": "front", "device": device, "addresses": front}]}
        cases = (
            (1, "/eal/1", "no option --no-such", {"eal": ["-v", "--no-such"]}),
            (1, "/eal/0", "may not be set here", {"eal": ["--help"]}),
            (3, "/eal/0", "DPDK did not start", {"eal": ["--socket-limit=abc"]}),
            (3, "/eal/1", "absent.so", {"eal": ["-d", "/absent.so"]}),
            (3, "/worker_cores/1", "core 1023", {"worker_cores": [0, 1023]}),
            (3, "/memory/hugepages", "hugepages", {"memory": {"hugepages": True, "size_mb": 1048576}}),
            (3, "/ports/0/device", "frame size", port("net_af_packet0,iface=front,framesz=99999")),
            (3, "/ports/0/device", "framesz must not exceed",
             port("net_af_packet0,iface=front,framesz=4096")),
            (3, "/ports/0/device", "net_foo0", {"eal": ["-d", "/usr/share"], **port("net_foo0")}),
            (3, "/mirroring/listen", "192.0.2.1", {"mirroring": {
                "listen": "192.0.2.1:9090", "secret_file": __file__}}))
        with Lab() as lab:
            for status, place, what, changes in cases:
                engine = lab.start_engine(expect_start=False, **changes)
                self.assertEqual(engine.process.wait(30), status, engine.log())
                lines = [line for line in engine.log().splitlines() if ": warning: " not in line]
                self.assertEqual(len(lines), 1, lines)
                self.assertRegex(lines[0], f"engine.json:{place}: .*{what}")

    def test_an_address_in_use_names_the_field(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with Lab() as lab:
                listen = f"127.0.0.1:{other.getsockname()[1]}"
                engine = lab.start_engine(expect_start=False, namespace=HostNamespace(), api={"listen": listen},
                                          ports=[{"name": "front", "device": "net_null0", "addresses": []}])
                self.assertEqual(engine.process.wait(30), 3, engine.log())
                self.assertRegex(engine.log(), rf"(?m)^.*engine.json:/api/listen: cannot listen on {listen}")

    def test_what_is_checked_good_starts(self):
        def port(device):
            return {"ports": [{"name": "front", "device": device, "addresses": ["10.1.0.1/24"]}]}
        with Lab() as lab:
            for changes in ({}, {"eal": ["--iova-mode", "va", "-n4", "--log-level=error"]},
                            port("net_tap0,iface=made0"), port("net_pcap0,iface=front"), port("net_ring0"),
                            port("net_memif0,role=server"),
                            {"snat": ["10.2.0.32/30"], "state_directory": "new/folder"}):
                engine = lab.start_engine(lab.document(), **changes)
                done = lab.engine_namespace.run(engine_binary(), "--config", engine.config, "--check")
                self.assertEqual(done.stdout, f"{engine.config}: good\n")
                self.assertEqual(engine.stop(), 0, engine.log())

    def test_the_second_engine_of_a_name_is_refused(self):
        with Lab() as one, Lab() as other:
            name = f"{one.name}-twin"
            first = one.start_engine(one.document(), name=name)
            second = other.start_engine(expect_start=False, name=name)
            self.assertEqual(second.process.wait(30), 3, second.log())
            self.assertRegex(second.log(), rf'(?m)^{second.config}:/name: an engine named "{name}" runs on this '
                                           rf"host as process {first.process.pid}: each needs")
            self.assertTrue(one.curl("10.1.0.2"), "the first goes on")
            # However it ends, its name is free afterwards.
            self.assertEqual(first.stop(), 0, first.log())
            third = other.start_engine(name=name)
            self.assertNotEqual(third.stop(signal.SIGKILL), 0)
            fourth = other.start_engine(name=name)
            self.assertEqual(fourth.stop(), 0, fourth.log())
            self.assertFalse(os.path.exists(f"/var/run/dpdk/limpet-{name}"))

    def test_a_replay_runs_beside_an_engine_of_its_name(self):
        with Lab() as lab:
            engine = lab.start_engine(lab.document())
            config = os.path.join(lab.folder, "replay.json")
            with open(config, "w", encoding="utf-8") as file:
                json.dump(bootstrap(engine.name, {"front": ("net_pcap0,tx_pcap=out.pcap", ["10.1.0.1/24"])}),
                          file)
            runs = [subprocess.Popen([engine_binary(), "--config", config, "--replay"], stderr=subprocess.DEVNULL)
                    for _ in range(2)]
            self.assertEqual([run.wait(60) for run in runs], [0, 0])
            runtime = "/var/run/dpdk"
            self.assertEqual([n for n in os.listdir(runtime) if engine.name in n], [f"limpet-{engine.name}"])
            self.assertTrue(os.path.exists(f"{runtime}/limpet-{engine.name}/dpdk_telemetry.v2"))
            self.assertEqual(engine.stop(), 0, engine.log())

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

    def test_signals_that_end_a_process_stop_it_cleanly(self):
        for how in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM):
            with Lab() as lab:
                engine = lab.start_engine()
                self.assertEqual(engine.stop(how), 0, f"{how}: {engine.log()}")
                self.assertFalse(os.path.exists(engine.socket_path))

    def test_no_thread_is_where_workers_or_the_control_thread_are(self):
        with Lab() as lab:
            engine = lab.start_engine(lab.document(), worker_cores=[0], control_core=0,
                                      state_directory=os.path.join(lab.folder, "state"))
            engine.api("GET", "/v1/status")
            tasks = f"/proc/{engine.process.pid}/task"
            allowed = {}
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/status", encoding="ascii") as file:
                    fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                allowed[task] = (fields["Name"], fields["Cpus_allowed_list"])
            there = [name for task, (name, cpus) in allowed.items() if cpus == "0"]
            # The control thread and the worker; the control thread's name is the program's.
            self.assertEqual(len(there), 2, allowed)
            self.assertEqual(allowed[str(engine.process.pid)][1], "0")
            self.assertGreaterEqual(len(allowed) - len(there), 3, "helper, disk, renderer")
            for name, cpus in allowed.values():
                self.assertIn(cpus, ("0", "1", f"1-{os.cpu_count() - 1}"), name)

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

    def test_a_document_that_leaves_nothing_served_needs_yes(self):
        self.apply()
        before = self.engine.api("GET", "/v1/config")
        path = os.path.join(self.lab.folder, "none.json")
        changed = self.lab.document()
        for service in changed["VirtualService"]:
            service["enabled"] = False
        with open(path, "w", encoding="utf-8") as file:
            json.dump(changed, file)
        done = self.engine.limpetctl("apply", path, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout + done.stderr,
                         "serves none of its 4 virtual services.*\n--yes applies it all the same\n$")
        self.assertEqual(self.engine.api("GET", "/v1/config"), before)
        done = self.engine.limpetctl("apply", path, "--yes")
        self.assertEqual(done.stdout.splitlines()[-1], "0 of 4 virtual services are served")
        # Nothing is served now, so nothing is lost.
        self.assertEqual(self.status("apply", path), 0)

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
