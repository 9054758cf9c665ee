"""Runs a test program: exit status 0 passed, 1 failed, 77 skipped (no root)."""
import os
import sys
import unittest

SKIPPED = 77  # Meson's "skipped"


def main(needs_root=True):
    if needs_root and os.geteuid() != 0:
        print("skipped: network namespaces need root", file=sys.stderr)
        sys.exit(SKIPPED)
    from lab import end_on_signals
    end_on_signals()
    unittest.main(module="__main__", verbosity=2, failfast=False)
