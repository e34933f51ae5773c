#!/usr/bin/python3
# ctest: labels=cli timeout=180
"""slidemill bench on a local disk: one brick, what it says and writes, and that nothing stays."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

SMALL = ["--time", "6", "--budget", "16M", "--streams-max", "2", "--quiet"]


def result(*rates, name="read"):
    """A result with one number, of one run per rate."""
    line = {"id": name, "mb_per_s": {"median": sorted(rates)[len(rates) // 2], "min": min(rates),
                                     "max": max(rates), "n": len(rates)}}
    return json.dumps({"what": "bricks"}) + "\n" + json.dumps(line) + "\n"


class Bricks(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="slidemill-test.")
        self.addCleanup(self.scratch.cleanup)
        self.mount = os.path.join(self.scratch.name, "mount")
        os.mkdir(self.mount)

    def bricks(self, *args):
        return harness.run("bench", "bricks", *args, self.mount, timeout=60)

    def test_a_disk_is_one_brick_and_every_test_has_a_rate(self):
        out = os.path.join(self.scratch.name, "out.jsonl")
        r = self.bricks(*SMALL, "--repeats", "2", "--json", out)
        self.assertEqual(r.code, 0, r)
        self.assertRegex(r.out, r"mount: 1 brick, 1 rank, 2 repeats\n +1  dev:\d+:\d+\n")
        self.assertRegex(r.out, r"--streams-per-brick [12]\n")
        self.assertLessEqual(max(map(len, r.out.splitlines()[1:])), 80, r)
        with open(out, encoding="utf-8") as f:
            head, *lines, tail = map(json.loads, f)
        self.assertEqual((head["what"], head["bricks"], head["ranks"]), ("bricks", 1, 1))
        for key in ("cpu", "cpus", "kernel", "file_system"):
            self.assertIn(key, head["machine"])
        self.assertIn("commit", head)
        tests = {(n["test"], n["cache"]) for n in lines}
        self.assertEqual(tests, {("write", "none"), ("read", "cold"), ("read", "warm"),
                                 ("slide", "cold"), ("fsync", "none")})
        for n in lines:
            if n["test"] != "fsync":
                self.assertGreater(n["mb_per_s"]["median"], 0, n)
        self.assertEqual({(n["block_bytes"] >> 10, n["direct"]) for n in lines
                          if n["test"] == "read" and n["streams"] == 1},
                         {(k, d) for k in (128, 1024, 4096) for d in (False, True)})
        self.assertIn(tail["streams_per_brick"], (1, 2))
        self.assertEqual(len({n["id"] for n in lines}), len(lines))
        self.assertEqual(os.listdir(self.mount), [])

    def test_it_keeps_to_its_time(self):
        began = time.monotonic()
        r = self.bricks("--time", "3", "--budget", "16M", "--repeats", "30", "--quiet")
        self.assertEqual(r.code, 0, r)
        self.assertLess(time.monotonic() - began, 3 + 6 * harness.SLOWER)

    def test_it_refuses_to_take_more_than_half_of_what_is_free(self):
        r = self.bricks("--budget", "1024T", "--file-size", "1T")
        self.assertEqual(r.code, 65, r)
        self.assertIn("more than half of the", r.err)
        self.assertEqual(os.listdir(self.mount), [])

    def test_a_budget_below_a_mib_a_file_is_refused(self):
        r = self.bricks("--budget", "4M")
        self.assertEqual(r.code, 65, r)
        self.assertIn("--budget: 4 MiB", r.err)
        self.assertEqual(os.listdir(self.mount), [])

    def test_no_folder_is_a_wrong_command_line(self):
        r = harness.run("bench", "bricks", os.path.join(self.mount, "none"))
        self.assertEqual(r.code, 2, r)
        self.assertIn("cannot make a folder for probe files", r.err)

    def start(self):
        before = os.listdir(self.mount)
        p = subprocess.Popen([os.path.join(harness.BIN, "slidemill-bench"), "bricks", "--time", "60",
                              "--budget", "64M", self.mount],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.stderr.close)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = [f for d in set(os.listdir(self.mount)) - set(before)
                     for f in os.listdir(os.path.join(self.mount, d)) if f.startswith("p")]
            if len(found) >= 16:
                return p
            time.sleep(0.01)
        p.kill()
        p.wait()
        self.fail("no probe files appeared")

    def test_ctrl_c_removes_the_files(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            p = self.start()
            p.send_signal(number)
            _, err = p.communicate(timeout=30)
            self.assertEqual(p.returncode, 75, err)
            self.assertIn("the probe files were removed", err)
            self.assertEqual(os.listdir(self.mount), [])

    def test_files_of_a_killed_run_go_with_the_next_and_those_of_a_live_one_stay(self):
        p = self.start()
        dead = os.listdir(self.mount)
        p.kill()
        p.communicate()
        self.assertEqual(os.listdir(self.mount), dead)
        alive = self.start()
        both = os.listdir(self.mount)
        self.assertEqual(len(both), 1, "the dead run's folder went, the live one's is there")
        self.assertNotEqual(both, dead)
        r = self.bricks(*SMALL, "--repeats", "1")
        self.assertEqual(r.code, 0, r)
        self.assertEqual(os.listdir(self.mount), both)
        alive.send_signal(signal.SIGTERM)
        alive.communicate(timeout=30)
        self.assertEqual(os.listdir(self.mount), [])


class Compare(unittest.TestCase):
    def compare(self, a, b, *args):
        with tempfile.TemporaryDirectory(prefix="slidemill-test.") as folder:
            paths = [os.path.join(folder, name) for name in "ab"]
            for path, text in zip(paths, (a, b)):
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            return harness.run("bench", "compare", *args, *paths)

    def test_apart_is_a_difference_and_touching_is_none(self):
        for a, b, code, word in (((100, 105, 110), (120, 125, 130), 0, "1 faster"),
                                 ((100, 105, 110), (80, 85, 90), 1, "1 slower"),
                                 ((100, 105, 110), (108, 125, 130), 0, "1 no difference")):
            r = self.compare(result(*a), result(*b))
            self.assertEqual(r.code, code, r)
            self.assertIn(word, r.out)

    def test_one_run_needs_a_big_difference(self):
        self.assertIn("1 no difference", self.compare(result(100), result(115)).out)
        self.assertIn("1 faster", self.compare(result(100), result(130)).out)

    def test_less_time_is_faster(self):
        old = {"summary": {"ours": {"wall_s": {"median": 10, "min": 9, "max": 11}}}}
        new = {"summary": {"ours": {"wall_s": {"median": 5, "min": 4, "max": 6}}}}
        r = self.compare(json.dumps(old, indent=1), json.dumps(new))
        self.assertEqual(r.code, 0, r)
        self.assertIn("faster          -50.0%  10 -> 5  summary ours wall_s", r.out)

    def test_nothing_in_common_or_no_json(self):
        r = self.compare(result(1), result(1, name="write"))
        self.assertEqual(r.code, 2, r)
        self.assertIn("no measured number in common", r.err)
        r = self.compare(result(1), "not json\x1b[31m")
        self.assertEqual(r.code, 65, r)
        self.assertIn("is no result of a benchmark", r.err)
        self.assertEqual(self.compare("[" * 100000, result(1)).code, 65)


if __name__ == "__main__":
    harness.main()
