# ctest: labels=cli timeout=120
"""SLIDEMILL_TRACE=FILE: what each thread did when, as a Chrome trace; never at the slide's cost."""
import collections
import json
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

ALWAYS = {"open", "plan", "read-wait", "hash", "cut", "feed-wait", "write", "write-wait", "fsync",
          "verify", "publish"}
TRANSCODE = ALWAYS | {"decode", "downsample", "encode"}
ROUNDING_US = 0.002


class Trace(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.svs = harness.mosaic(os.path.join(cls.folder, "in.svs"), "--width", 2400, "--height",
                                 1700, "--levels", "1,4")

    def traced(self, *options, name="t.json"):
        """The trace of a conversion: ({lane: [(begin, end)]}, wall time in us)."""
        path = self.path(name)
        began = time.monotonic_ns()
        self.convert(self.svs, "out.tif", "--threads", "2", *options,
                     env={"SLIDEMILL_TRACE": path})
        wall_us = (time.monotonic_ns() - began) / 1000
        with open(path, encoding="utf-8") as f:
            events = json.load(f)
        names, spans = {}, collections.defaultdict(list)
        for e in events:
            self.assertEqual(e["pid"], 1)
            if e["ph"] == "M" and e["name"] == "thread_name":
                self.assertNotIn(e["tid"], names, "a lane is named once")
                names[e["tid"]] = e["args"]["name"]
            elif e["ph"] != "M":
                self.assertEqual(e["ph"], "X", "every span has its end in itself")
                self.assertGreaterEqual(e["dur"], 0)
                self.assertEqual(names[e["tid"]].split(": ")[1], e["name"])
                spans[e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
        self.assertEqual(len(set(names.values())), len(names), "lanes have names of their own")
        self.assertEqual(set(names), set(spans))
        return {names[tid]: sorted(s) for tid, s in spans.items()}, wall_us

    def check_times(self, lanes, wall_us):
        for lane, spans in lanes.items():
            self.assertGreaterEqual(spans[0][0], 0, lane)
            self.assertLessEqual(sum(end - begin for begin, end in spans), wall_us, lane)
            self.assertLessEqual(spans[-1][1], wall_us, lane)
            for (_, end), (begin, _) in zip(spans, spans[1:]):
                self.assertGreaterEqual(begin, end - ROUNDING_US, f"spans of {lane} overlap")

    def stages(self, lanes):
        return {lane.split(": ")[1] for lane in lanes} - {"idle"}  # if there was time for it

    def test_a_transcode_shows_all_its_stages(self):
        lanes, wall_us = self.traced("--tiles", "transcode", "--levels", "dyadic")
        self.check_times(lanes, wall_us)
        self.assertEqual(self.stages(lanes), TRANSCODE)
        self.assertEqual({lane.split(": ")[0] for lane in lanes},
                         {"main", "worker 0", "worker 1", "sync"})
        decoded = sum(len(s) for lane, s in lanes.items() if lane.endswith(": decode"))
        self.assertGreaterEqual(decoded, 10 * 8, "a span for every tile of 240 px")

    def test_copied_made_and_retiled_tiles_have_lanes_of_their_own(self):
        self.assertIn("copy", self.stages(self.traced()[0]))
        self.assertIn("make", self.stages(self.traced("--levels", "dyadic")[0]))
        lanes, wall_us = self.traced("--tiles", "retile", "--tile-px", "512")
        self.assertIn("retile", self.stages(lanes))
        self.check_times(lanes, wall_us)

    def test_what_is_read_back_from_the_medium_is_seen(self):
        lanes, wall_us = self.traced("--verify", "media")
        self.assertIn("main: fsync", lanes)
        self.assertIn("main: verify", lanes)
        self.check_times(lanes, wall_us)

    def test_the_output_is_the_same(self):
        plain, _ = self.convert(self.svs, "a.tif", "--levels", "dyadic")
        traced, _ = self.convert(self.svs, "b.tif", "--levels", "dyadic",
                                 env={"SLIDEMILL_TRACE": self.path("t.json")})
        self.assertEqual(self.sha256(plain), self.sha256(traced))

    def test_the_trace_says_nothing_of_the_slide(self):
        self.traced()
        with open(self.path("t.json"), encoding="utf-8") as f:
            text = f.read()
        self.assertNotIn("in.svs", text)
        self.assertNotIn(self.folder, text)

    def test_the_next_trace_replaces_the_last_one(self):
        self.traced("--tiles", "transcode")
        lanes, _ = self.traced("--levels", "source")
        self.assertNotIn("encode", self.stages(lanes))

    def converts_with_a_warning(self, path, said):
        out = self.path("out.tif")
        r = harness.run("convert", "--force", "--quiet", self.svs, out,
                        env={"SLIDEMILL_TRACE": path})
        self.assertEqual(r.code, 0, r)
        lines = r.err.splitlines()
        self.assertEqual(len(lines), 1, r)
        self.assertIn("warning: SLIDEMILL_TRACE: ", lines[0])
        self.assertIn(said, lines[0])
        self.assertTrue(os.path.exists(out))

    def test_a_trace_that_cannot_be_written_costs_one_line(self):
        self.converts_with_a_warning(self.path("no/such/folder/t.json"), "No such file")
        self.converts_with_a_warning(self.dir, "directory")
        self.converts_with_a_warning("/dev/full", "not a regular file")

    def test_a_file_that_is_no_trace_is_left_alone(self):
        before = self.sha256(self.svs)
        self.converts_with_a_warning(self.svs, "is not a trace")
        self.assertEqual(self.sha256(self.svs), before)

    def test_a_worker_writes_a_trace_with_the_number_of_its_slide(self):
        worker = os.path.join(harness.BIN, "slidemill-worker")
        if not os.access(worker, os.X_OK):
            self.skipTest("no slidemill-worker")
        job = {"kind": "hash", "slide": 42, "root": self.folder, "main": {"path": "in.svs"}}
        with open(self.path("answer"), "wb") as answer:
            done = subprocess.run(
                ["sh", "-c", f'exec "$0" 3>&{answer.fileno()}', worker], pass_fds=(answer.fileno(),),
                input=json.dumps(job).encode(), stderr=subprocess.PIPE, timeout=60, check=False,
                env=dict(os.environ, SLIDEMILL_TRACE=self.path("t.json")))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        with open(self.path("t.42.json"), encoding="utf-8") as f:
            names = {e["name"] for e in json.load(f) if e["ph"] == "X"}
        self.assertLessEqual({"hash", "read-wait"}, names)
        self.assertFalse(os.path.exists(self.path("t.json")))

    def test_an_empty_name_is_no_trace(self):
        self.convert(self.svs, env={"SLIDEMILL_TRACE": ""})


if __name__ == "__main__":
    harness.main()
