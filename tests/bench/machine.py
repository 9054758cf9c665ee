"""What benchmarks need of the machine: cores, priority, hugepages."""
import ctypes
import os
import signal

SKIPPED = 77  # what Meson takes for "skipped"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def undisturbed_on(cores):
    """For preexec_fn: the child runs on these cores, before others if it may, and not without us."""
    def prepare():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cores)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            os.setsid()  # a scheduling group of its own
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write("-20")
        except OSError:
            pass
    return prepare


def _meminfo():
    with open("/proc/meminfo", encoding="ascii") as file:
        return {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in file)}


def available_mb():
    return _meminfo()["MemAvailable"] // 1024


class Hugepages:
    """Whether there are so many megabytes of hugepages; with `reserve` they are made for the time
    of the context, if the kernel has them, and given back after it."""

    SETTING = "/proc/sys/vm/nr_hugepages"

    def __init__(self, needed_mb, reserve):
        self.needed_mb, self.reserve = needed_mb, reserve
        self.before = None

    def __enter__(self):
        if self.reserve:
            with open(self.SETTING, encoding="ascii") as file:
                self.before = file.read()
            page_mb = self._fields()[1]
            self._write(int(self.before) + -(-self.needed_mb // page_mb))
        pages, page_mb = self._fields()
        return pages * page_mb >= self.needed_mb

    def __exit__(self, *_):
        if self.before is not None:
            self._write(int(self.before))

    @staticmethod
    def _fields():
        """(free pages, megabytes of a page)"""
        fields = _meminfo()
        return fields["HugePages_Free"], fields["Hugepagesize"] // 1024

    def _write(self, pages):
        with open(self.SETTING, "w", encoding="ascii") as file:
            file.write(str(pages))
