# ctest: labels=cli timeout=180
"""Where the time of a conversion went: seconds of threads by stage, which add up and agree with the
clock on the wall and with what the kernel counted. Bounds are of sums, never of speed."""
import os
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

WORK = {"open", "plan", "hash", "copy-in", "cut", "copy", "retile", "decode", "downsample", "encode",
        "write", "verify", "publish"}
WAITS = {"read", "feed-wait", "write-wait", "sync", "verify-wait", "idle"}
ALWAYS = {"open", "plan", "hash", "cut", "write", "verify", "publish"}
THREADS = 2


class Stages(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.svs = harness.mosaic(os.path.join(cls.folder, "in.svs"), "--width", 6000, "--height",
                                 4000, "--levels", "1,4")

    def stages(self, source, *options):
        """Converts; its JSON, after the sums have been checked."""
        _, told = self.convert(source, "out.tif", "--force", "--threads", str(THREADS), *options)
        work, waits, wall = told["work"], told["waits"], told["times"]["total_s"]
        self.assertLessEqual(set(work), WORK)
        self.assertLessEqual(set(waits), WAITS)
        self.assertLessEqual(ALWAYS, set(work))
        for name, seconds in list(work.items()) + list(waits.items()):
            self.assertGreater(seconds, 0, name)
        # Beside the workers: the thread that feeds them, and that of the fsync after it.
        everything = sum(work.values()) + sum(waits.values())
        self.assertLessEqual(everything, (THREADS + 1) * wall + told["times"]["fsync_s"])
        self.assertLessEqual(sum(work.values()), (THREADS + 1) * wall)
        return told

    def assert_most_of_cpu(self, told):
        """A thread without a core still counts as at work, so only too little can be wrong."""
        self.assertGreater(told["cpu_s"], 0)
        self.assertGreaterEqual(sum(told["work"].values()), 0.6 * told["cpu_s"], told)

    def test_a_transcode_decodes_halves_and_encodes(self):
        told = self.stages(self.svs, "--tiles", "transcode", "--levels", "dyadic")
        self.assertLessEqual({"decode", "downsample", "encode"}, set(told["work"]))
        self.assertNotIn("copy", told["work"])
        self.assert_most_of_cpu(told)

    def test_copied_and_retiled_tiles_have_stages_of_their_own(self):
        told = self.stages(self.svs, "--levels", "source")
        self.assertIn("copy", told["work"])
        self.assertNotIn("encode", told["work"])
        told = self.stages(self.svs, "--tiles", "retile", "--tile-px", "512", "--levels", "source")
        self.assertIn("retile", told["work"])
        self.assert_most_of_cpu(told)

    def test_reading_back_is_verify_and_not_hash(self):
        checked = self.stages(self.svs, "--levels", "source")
        unchecked = self.stages(self.svs, "--levels", "source", "--verify", "none")
        self.assertNotIn("verify-wait", unchecked["waits"])
        self.assertIn("verify-wait", checked["waits"])

    def test_a_real_slide(self):
        told = self.stages(harness.slide(harness.CMU1), "--tiles", "transcode",
                           "--levels", "dyadic")
        self.assert_most_of_cpu(told)

    def test_the_summary_tells_work_and_waiting(self):
        r = harness.run("convert", "--force", "--tiles", "transcode", self.svs,
                        self.path("out.tif"))
        self.assertEqual(r.code, 0, r)
        self.assertRegex(r.out, r"(?m)^  work [0-9.]+ [a-z]+: .*encode \d+%")
        self.assertRegex(r.out, r"(?m)^  waiting [0-9.]+ [a-z]+: .* \(of all threads\)$")


if __name__ == "__main__":
    harness.main()
