"""host-setup: the dry run prints every change and makes none; the unit it writes is valid."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOST_SETUP = os.path.join(ROOT, "scripts", "host-setup")
TOUCHED = ("/etc/sysctl.d/80-limpet.conf", "/etc/modules-load.d/limpet.conf",
           "/etc/modprobe.d/limpet-vfio.conf", "/etc/systemd/system/limpet-se@.service",
           "/etc/systemd/system/limpet-devices.service", "/etc/limpet", "/usr/local/bin/limpet-se",
           "/proc/sys/vm/nr_hugepages")


def state():
    found = {}
    for path in TOUCHED:
        try:
            with open(path, "rb") as file:
                found[path] = file.read()
        except OSError:
            found[path] = os.path.exists(path)
    return found


def host_setup(*arguments):
    return subprocess.run([sys.executable, HOST_SETUP, *arguments], capture_output=True, text=True)


class HostSetup(unittest.TestCase):
    def test_dry_run_changes_nothing(self):
        before = state()
        done = host_setup("--dry-run", "--hugepages-mb", "64", "--bind", "0000:3b:00.1", "--cores", "1")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(state(), before)

    def test_dry_run_names_every_step(self):
        text = host_setup("--dry-run", "--hugepages-mb", "64", "--bind", "0000:3b:00.1").stdout
        for step in ("nothing is changed", "80-limpet.conf", "--bind=vfio-pci 0000:3b:00.1",
                     "limpet-se@.service", "LimitMEMLOCK=infinity", "IOMMU", "change(s)"):
            self.assertIn(step, text)

    def test_bad_pci_address_is_refused(self):
        done = host_setup("--dry-run", "--bind", "eth0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("eth0", done.stderr)

    def test_more_hugepages_than_memory_are_refused(self):
        done = host_setup("--dry-run", "--hugepages-mb", str(1 << 30))
        self.assertEqual(done.returncode, 1)
        self.assertIn("do not fit", done.stderr)

    def test_cores_become_boot_parameters(self):
        if (os.cpu_count() or 1) < 2:
            self.skipTest("one CPU: none can be isolated")
        text = host_setup("--dry-run", "--cores", "1").stdout
        self.assertIn("isolcpus=managed_irq,domain,1 nohz_full=1 rcu_nocbs=1", text)

    def test_unit_runs_the_engine_with_its_file(self):
        unit = host_setup("--print-unit").stdout
        self.assertIn("ExecStart=/usr/local/bin/limpet-se --config /etc/limpet/%i.json\n", unit)
        self.assertIn("After=network.target", unit)
        self.assertIn("Restart=on-failure", unit)
        # As a list it is no folder, and EAL takes it as it is.
        directories = re.search("^RuntimeDirectory=(.*)$", unit, re.MULTILINE).group(1).split()
        self.assertTrue(len(directories) == 1 or "UnsetEnvironment=RUNTIME_DIRECTORY\n" in unit)

    def test_unit_is_valid(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        unit = host_setup("--print-unit").stdout.replace("/usr/local/bin/limpet-se", "/bin/true")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "limpet-se@.service")
            with open(path, "w", encoding="utf-8") as file:
                file.write(unit)
            done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
