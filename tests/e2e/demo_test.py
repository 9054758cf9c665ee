"""scripts/demo's story as a test."""
import os
import subprocess
import sys
import unittest

from runner import main

HERE = os.path.dirname(os.path.abspath(__file__))


class Demo(unittest.TestCase):
    def test_every_check_of_the_demo_holds(self):
        done = subprocess.run([sys.executable, os.path.join(HERE, "demo.py")], capture_output=True, text=True,
                              timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"demo: all [1-9]\d+ checks held")


if __name__ == "__main__":
    main()
