"""limpet-se --replay: the story from captures, as an unprivileged user, the same on every run."""
import os
import tempfile
import unittest

import replay_story
from runner import main


class ReplayTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="limpet-replay-")
        cls.replay = replay_story.Replay(cls.folder.name)
        cls.replay.settle()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_two_runs_give_identical_files(self):
        self.replay.run()
        first = self.replay.outputs()
        self.replay.run()
        self.assertEqual(self.replay.outputs(), first)

    def test_every_invariant_of_the_story_holds(self):
        self.replay.run()
        for holds, text in replay_story.story_checks(self.replay):
            with self.subTest(text):
                self.assertTrue(holds, text)

    def test_leaves_no_runtime_files(self):
        self.replay.run()
        left = [os.path.join(parent, name) for parent, _, names in os.walk(self.replay.path("run"))
                for name in names]
        self.assertEqual(left, [])


if __name__ == "__main__":
    main(needs_root=False)
