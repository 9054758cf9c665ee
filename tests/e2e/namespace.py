"""Network namespaces, the links between them, and what runs inside.

Everything here belongs to the process that made it: namespaces are removed and programs ended by
name and process id, never by pattern. Needs root.
"""
import ctypes
import os
import signal
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True, **options):
    """Runs a command; its output is in the error when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: "
                           f"{(done.stderr or done.stdout).strip()}")
    return done


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespace:
    """One network namespace. IPv6 addresses are usable at once (no duplicate address detection)."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.router_solicitations=0")
        self.ip("link", "set", "lo", "up")

    @classmethod
    def existing(cls, name):
        """The handle of a namespace made by another process (scripts/lab)."""
        namespace = cls.__new__(cls)
        namespace.name = name
        return namespace

    def delete(self):
        run("ip", "netns", "del", self.name, check=False)

    def ip(self, *arguments, check=True):
        return run("ip", "-n", self.name, *arguments, check=check)

    def sysctl(self, *settings):
        self.run("sysctl", "-q", "-w", *settings)

    def command(self, *command):
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command, check=True, **options):
        return run(*self.command(*command), check=check, **options)

    def start(self, *command, detached=False, **options):
        """A program that lives until it is stopped, or this process ends (unless detached)."""
        if detached:
            options["start_new_session"] = True
        else:
            options["preexec_fn"] = _die_with_parent
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*command), **options)

    def inside(self, action):
        """Calls action() in a thread that is in this namespace; returns what it returns."""
        outcome = {}

        def body():
            try:
                handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(handle, CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(handle)
                outcome["value"] = action()
            except BaseException as error:  # handed to the caller below
                outcome["error"] = error

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def socket(self, family, kind, protocol=0):
        """A socket of this namespace; it stays there wherever it is used."""
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def add_addresses(self, device, addresses):
        """addresses: "10.1.0.2/24" or "fd00:1::2/64"."""
        for address in addresses:
            extra = ["nodad"] if ":" in address else []
            self.ip("addr", "add", address, "dev", device, *extra)


def connect(a, a_name, b, b_name, mtu=1500):
    """A veth pair between two namespaces, up, with all offloads off.

    A peer that leaves checksums to a device it does not have sends frames that only another Linux
    kernel would take; the engine rightly drops them.
    """
    a.ip("link", "add", a_name, "mtu", str(mtu), "type", "veth", "peer", "name", b_name, "mtu", str(mtu),
         "netns", b.name)
    for namespace, name in ((a, a_name), (b, b_name)):
        namespace.run("ethtool", "-K", name, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
        namespace.ip("link", "set", name, "up")


def bridge(namespace, name, members):
    namespace.ip("link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0",
                 "mcast_snooping", "0")
    for member in members:
        namespace.ip("link", "set", member, "master", name)
    namespace.sysctl(f"net.ipv6.conf.{name}.disable_ipv6=1")
    namespace.ip("link", "set", name, "up")


def stop(process, timeout_s=10, how=signal.SIGTERM):
    """Ends a program this process started; returns its exit status."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode
