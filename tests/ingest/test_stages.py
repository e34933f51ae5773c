# ctest: labels=ingest timeout=180
"""Where the time went, from the worker through journal and merge to status and report; catalogs and
journals of before; a slow brick is named, and only with enough to go by."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

V1 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1")
ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
SECOND = 10 ** 9


def step(code, *args):
    r = harness.run(*args, env=ENV)
    if r.code != code:
        raise AssertionError(r)
    return r


def program(name):
    if not os.access(os.path.join(harness.BIN, "slidemill-" + name), os.X_OK):
        raise unittest.SkipTest(f"no slidemill-{name}")


class Stages(harness.Case):
    def status(self, catalog):
        return step(0, "catalog", "status", catalog, "--json").json()

    def made(self):
        """A catalog of two slides, planned but not ingested."""
        program("ingest")
        source = self.path("src")
        os.mkdir(source)
        for name, width in (("a.svs", 2400), ("b.svs", 960)):
            subprocess.run([os.path.join(harness.BIN, "mosaic"), "--synthetic", "--width",
                            str(width), os.path.join(source, name)], check=True,
                           stdout=subprocess.DEVNULL)
        catalog = self.path("c.smc")
        step(0, "catalog", "create", source, "--output", catalog)
        return catalog

    def ends(self, catalog):
        """The outcomes in all journals that are not merged."""
        folder = os.path.join(catalog + ".d", "journal", "all")
        found = []
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                found += [e["outcome"] for e in map(json.loads, f) if e["t"] == "end"]
        return found

    def test_from_the_worker_to_status_and_report(self):
        catalog = self.made()
        r = step(0, "ingest", "--catalog", catalog, "--out", self.path("out"), "--log", "json",
                 "--tiles", "transcode", "--threads", "2")
        done = [e for e in map(json.loads, r.err.splitlines()) if e["event"] == "done"]
        self.assertEqual(len(done), 2)
        for e in done:
            self.assertGreater(e["cpu_s"], 0)
            self.assertGreater(e["work_s"], 0)
            self.assertIn(e["most"], ("decode", "encode"))
        outcomes = self.ends(catalog)
        self.assertEqual(len(outcomes), 2)
        for o in outcomes:
            took = o["ended"] if isinstance(o["ended"], int) else int(o["ended"])
            took -= o["began"] if isinstance(o["began"], int) else int(o["began"])
            self.assertLessEqual({"open", "hash", "cut", "decode", "encode", "write", "verify",
                                  "publish"}, set(o["work"]))
            self.assertIn("read", o["waits"])
            self.assertLessEqual(sum(o["work"].values()), 3 * took)  # two workers, one feeds them
            self.assertGreaterEqual(sum(o["work"].values()), 0.4 * o["cpu"])
            self.assertIn("brick", o["output"])
        step(0, "catalog", "merge", catalog)
        s = self.status(catalog)
        times = s["times"]["convert"]
        self.assertEqual(times["attempts"], 2)
        self.assertEqual(times["bytes_in"], sum(o["bytes_in"] for o in outcomes))
        for group in ("work", "waits"):
            for stage, seconds in times[group].items():
                told = sum(o[group].get(stage, 0) for o in outcomes) / 1e9
                self.assertAlmostEqual(seconds, told, 5, stage)
                self.assertAlmostEqual(s["bricks"][0][group][stage], told, 5)
        self.assertEqual(s["bricks"][0]["write_bytes"], sum(o["bytes_out"] for o in outcomes))
        text = step(0, "catalog", "status", catalog).out
        self.assertRegex(text, r"(?m)^  work +[0-9.]+ [a-z]+ .*encode \d+%")
        self.assertRegex(text, r"(?m)^  waiting +[0-9.]+ [a-z]+ ")
        self.assertEqual([x for x in text.splitlines() if len(x) > 80 and "  made with" not in x and
                          self.dir not in x], [])
        before = s["times"]
        step(0, "catalog", "merge", catalog)
        self.assertEqual(self.status(catalog)["times"], before, "a second merge counts nothing")
        if os.access(os.path.join(harness.BIN, "slidemill-report"), os.X_OK):
            step(0, "report", catalog, "-o", self.path("r.html"))
            with open(self.path("r.html"), encoding="utf-8") as f:
                page = f.read()
            for chart in ("stage-work", "stage-waits", "phase-time"):
                self.assertIn(f'id="{chart}"', page)

    def test_hashing_alone_is_a_measurement(self):
        catalog = self.made()
        step(0, "ingest", "--catalog", catalog, "--hash-only")
        for o in self.ends(catalog):
            self.assertEqual(o["measured"]["bytes"], o["bytes_in"])
            self.assertEqual(o["measured"]["ns"], o["stages"]["hash"])
        step(0, "catalog", "merge", catalog)
        s = self.status(catalog)
        self.assertIn("hash", s["times"]["hash"]["work"])
        self.assertEqual(s["bricks"][0]["measured_slides"], 2)
        self.assertEqual(s["bricks"][0]["read_of_median"], 1)

    # ---- what older versions wrote ----

    def old(self):
        catalog = self.path("old.smc")
        db = sqlite3.connect(catalog)
        with open(os.path.join(V1, "catalog.sql"), encoding="utf-8") as f:
            db.executescript(f.read())
        db.close()
        os.makedirs(catalog + ".d/journal")
        return catalog

    def test_a_catalog_of_version_1_is_brought_up_to_date(self):
        catalog = self.old()
        r = step(2, "catalog", "status", catalog)
        self.assertIn("schema 1", r.err)
        self.assertIn("catalog merge", r.err)
        step(0, "catalog", "merge", catalog, os.path.join(V1, "convert.jsonl"))
        self.assertTrue(step(0, "catalog", "fsck", catalog, "--json").json()["ok"])
        db = sqlite3.connect(f"file:{catalog}?immutable=1", uri=True)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone()[0], 2)
        db.close()
        s = self.status(catalog)
        self.assertEqual((s["states"]["done"]["slides"], s["states"]["failed"]["slides"]), (2, 1))
        self.assertEqual(s["attempts"], 6)
        brick = s["bricks"][0]
        # What the hashing read is a measurement; conversions of then did not tell theirs.
        self.assertEqual(brick["measured_slides"], 3)
        self.assertEqual(brick["measured_bytes"], 4219013)
        self.assertAlmostEqual(brick["measured_seconds"], 0.024264511, 9)
        self.assertEqual(brick["read_bytes"], 4219013 + 3063183 + 1125830)
        self.assertEqual(s["times"], {}, "of stages nothing is known")
        step(0, "catalog", "status", catalog)
        again = step(0, "catalog", "merge", catalog, os.path.join(V1, "convert.jsonl"))
        self.assertIn("nothing new", again.out)

    # ---- a slow brick ----

    def bricks(self, *rates, slides=8, seconds=1):
        """A catalog whose bricks gave so many MB/s, each to so many slides for so many seconds."""
        os.makedirs(self.path("src"), exist_ok=True)
        catalog = self.path("m.smc")
        if not os.path.exists(catalog):
            with open(os.path.join(self.path("src"), "a.svs"), "wb") as f:
                f.write(b"x" * 64)
            step(0, "catalog", "create", self.path("src"), "--output", catalog)
        made = self.path("made.smc")
        shutil.copyfile(catalog, made)
        db = sqlite3.connect(made)
        db.execute("DELETE FROM tally")
        db.execute("UPDATE slide SET brick = NULL")
        db.execute("DELETE FROM brick")
        for i, rate in enumerate(rates):
            ns = slides * seconds * SECOND
            db.execute("INSERT INTO brick VALUES (?, ?, 0, 0)", (i + 1, f"node{i}:/bricks/b{i}"))
            db.execute("INSERT INTO flow VALUES (?, ?, ?, ?, 0, 0, 0)",
                       (i + 1, slides, int(rate * 1e6 * ns / 1e9), ns))
        db.commit()
        db.close()
        return made

    def slow_of(self, catalog):
        text = step(0, "catalog", "status", catalog).out
        return [x.strip() for x in text.splitlines() if "of the median" in x]

    def test_a_slow_brick_is_named_with_its_rank_and_percentage(self):
        made = self.bricks(100, 102, 41, 98)
        self.assertEqual(self.slow_of(made),
                         ["brick 3 of 4 (node2:/bricks/b2) reads at 41% of the median"])
        told = [b["read_of_median"] for b in self.status(made)["bricks"]]
        self.assertEqual([round(x, 2) for x in told], [1, 1, 0.41, 1])
        if os.access(os.path.join(harness.BIN, "slidemill-report"), os.X_OK):
            step(0, "report", made, "-o", self.path("r.html"))
            with open(self.path("r.html"), encoding="utf-8") as f:
                page = f.read()
            self.assertIn("Slow: brick 3 of 4, node2:/bricks/b2, reads at 41% of the median", page)

    def test_noise_names_nobody(self):
        self.assertEqual(self.slow_of(self.bricks(100, 102, 80, 98)), [])
        self.assertEqual(self.slow_of(self.bricks(100, 102, 41, 98, slides=4)), [])
        self.assertEqual(self.slow_of(self.bricks(100, 102, 41, 98, seconds=0.1)), [])


if __name__ == "__main__":
    harness.main()
