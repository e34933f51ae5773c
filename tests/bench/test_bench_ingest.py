#!/usr/bin/python3
# ctest: labels=bench timeout=300
"""slidemill bench ingest: what it says and writes, that parts fit together, that nothing stays. No
claim about speed."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

SMALL = ["--slides", "3", "--width", "1440", "--height", "1440", "--repeats", "2", "--quiet"]
MPI = shutil.which("mpirun") is not None


def journal_is_written(work):
    return any(name.endswith(".jsonl") for _, _, names in os.walk(work) for name in names)


class Ingest(harness.BenchCase):
    def ingest(self, *args, **how):
        return harness.run("bench", "ingest", *SMALL, "--json", self.json, *args, self.work,
                           timeout=200, **how)

    def points(self):
        return [n for n in self.lines() if n.get("program") == "ingest"]

    def assert_spread(self, spread, n):
        self.assertEqual((spread["n"], len(spread["runs"])), (n, n))
        self.assertEqual((spread["min"], spread["max"]), (min(spread["runs"]), max(spread["runs"])))
        self.assertLessEqual(spread["min"], spread["median"])
        self.assertLessEqual(spread["median"], spread["max"])

    def test_each_point_has_its_numbers_and_they_fit_together(self):
        ranks = ["1", "2"] if MPI else ["1"]
        r = self.ingest("--ranks", ",".join(ranks), "--threads", "1,2")
        self.assertEqual(r.code, 0, r)
        self.assertIn("of min(codec limit, fio)", r.out)
        self.assertLessEqual(max(map(len, r.out.splitlines())), 80, r)
        head, *_, tail = self.lines()
        self.assertEqual((head["what"], head["corpus"]["slides"]), ("ingest", 3))
        self.assertGreater(len(head["commit"]) + len(head["machine"]["cpu"]), 0)
        points = self.points()
        self.assertEqual(sorted((n["ranks"], n["threads"]) for n in points),
                         sorted((int(a), b) for a in ranks for b in (1, 2)))
        for n in points:
            with self.subTest(n["id"]):
                self.assertEqual((n["state"], n["failed_slides"]), ("ok", 0), n)
                for key in ("wall_s", "elapsed_s", "cpu_s", "rss_mib", "slides_per_h",
                            "mb_in_per_s", "mb_out_per_s", "mpx_per_s", "of_limit"):
                    self.assert_spread(n[key], 2)
                self.sums_agree(head, n)
        self.assertIn(tail["best"], [n["id"] for n in points])
        self.assert_nothing_stays()
        same = harness.run("bench", "compare", self.json, self.json)
        self.assertEqual(same.code, 0, same)

    def sums_agree(self, head, n):
        """Of every run: rates are amounts over the wall, bricks add up to the whole, stages to 1."""
        for i, wall in enumerate(n["wall_s"]["runs"]):
            corpus = head["corpus"]
            for key, whole in (("slides_per_h", 3600 * corpus["slides"]),
                               ("mb_in_per_s", corpus["bytes"] / 1e6),
                               ("mpx_per_s", corpus["mpx"])):
                self.assertAlmostEqual(n[key]["runs"][i] * wall / whole, 1, 6, key)
            for key in ("mb_in_per_s", "mb_out_per_s"):
                self.assertAlmostEqual(sum(b[key]["runs"][i] for b in n["bricks"]),
                                       n[key]["runs"][i], 6)
            self.assertLess(n["elapsed_s"]["runs"][i], wall)
        for group in {s["group"] for s in n["stages"]}:
            shares = [s["share"] for s in n["stages"] if s["group"] == group]
            self.assertAlmostEqual(sum(shares), 1, 6)
        self.assertIn("verify", {s["stage"] for s in n["stages"]})

    def test_limits_have_as_many_threads_and_readers(self):
        r = self.ingest("--ranks", "1", "--threads", "1", "--cache", "warm")
        self.assertEqual(r.code, 0, r)
        rows = {n["id"]: n for n in self.lines()[1:]}
        limit, fio, own = rows["codec limit 1 thread"], rows["fio 1 reader"], self.points()[0]
        self.assertEqual(limit["state"], "ok", limit)
        for i, part in enumerate(own["of_limit"]["runs"]):
            slower = max(row["wall_s"]["runs"][i] for row in (limit, fio) if row["state"] == "ok")
            self.assertAlmostEqual(part, slower / own["wall_s"]["runs"][i], 6)

    def test_what_is_not_installed_is_said(self):
        r = self.ingest("--ranks", "1,2", "--threads", "1", env={"PATH": "/nowhere"})
        self.assertEqual(r.code, 0, r)
        rows = {n["id"]: n for n in self.lines()[1:-1]}
        self.assertEqual(rows["ingest 1 rank 1 thread"]["state"], "ok")
        self.assertEqual(rows["fio 1 reader"]["state"], "absent")
        self.assertIn("fio", rows["fio 1 reader"]["why"])
        self.assertEqual(rows["ingest 2 ranks 1 thread"]["state"], "absent")
        self.assertIn("mpirun", rows["ingest 2 ranks 1 thread"]["why"])
        self.assertRegex(r.out, r"fio 1 reader +not run: fio is not on PATH")

    def test_given_slides_are_taken_and_only_read(self):
        root, catalog = self.path("root"), self.path("c.smc")
        os.makedirs(os.path.join(root, "a b"))
        for name in ("a b/1.svs", "a b/2,x.svs"):
            harness.mosaic(os.path.join(root, name), "--width", 1440, "--height", 960)
        with open(os.path.join(root, "broken.svs"), "wb") as f:
            f.write(b"no slide at all")
        made = harness.run("catalog", "create", root, "--output", catalog)
        self.assertEqual(made.code, 0, made)
        before = self.state_of(root), self.sha256(catalog)
        for given in (("--corpus", root), ("--catalog", catalog)):
            with self.subTest(given):
                r = self.ingest("--ranks", "1", "--threads", "1", *given)
                self.assertEqual(r.code, 0, r)
                self.assertEqual(self.lines()[0]["corpus"]["slides"], 3)
                self.assertEqual(self.points()[0]["failed_slides"], 1)
                self.assertIn("1 slide failed", r.out)
                self.assert_nothing_stays()
        self.assertEqual((self.state_of(root), self.sha256(catalog)), before)

    def state_of(self, root):
        return sorted((os.path.join(folder, name), self.sha256(os.path.join(folder, name)))
                      for folder, _, names in os.walk(root) for name in names)

    def test_interrupted_it_leaves_nothing(self):
        for name, when, ranks in (("making", os.listdir, "1"),
                                  ("running", journal_is_written, "2" if MPI else "1")):
            with self.subTest(name):
                self.interrupt("ingest", "--slides", "12", "--width", "7680", "--height", "5760",
                               "--mode", "transcode", "--ranks", ranks, "--threads", "1",
                               "--against", "none", "--repeats", "9", "--quiet", self.work,
                               when=when)

    def test_what_a_killed_run_left_goes_at_the_next(self):
        dead = os.path.join(self.work, ".slidemill-ingest.aaaaaa")
        os.makedirs(os.path.join(dead, "slides"))
        for name in ("lock", "slides/x.svs"):
            with open(os.path.join(dead, name), "wb"):
                pass
        r = self.ingest("--ranks", "1", "--threads", "1", "--against", "none")
        self.assertEqual(r.code, 0, r)
        self.assert_nothing_stays()

    def test_wrong_arguments_are_refused(self):
        for args, word in ((["--ranks", "0", self.work], "--ranks"),
                           (["--ranks", "1,x", self.work], "--ranks"),
                           (["--ranks", "1,", self.work], "--ranks"),
                           (["--ranks", "2,2", self.work], "--ranks"),
                           (["--threads", "", self.work], "--threads"),
                           (["--mode", "fast", self.work], "--mode"),
                           (["--slide", "/nowhere.svs", self.work], "nowhere"),
                           (["--corpus", "/nowhere", self.work], "nowhere"),
                           (["--catalog", "/nowhere.smc", self.work], "nowhere"),
                           (["--corpus", "/", "--catalog", "c", self.work], "--catalog"),
                           ([self.path("nowhere")], "nowhere"), ([], "DIR")):
            with self.subTest(args):
                r = harness.run("bench", "ingest", "--quiet", *args)
                self.assertEqual(r.code, 2, r)
                self.assertIn(word, r.err)
                self.assert_nothing_stays()
        r = self.ingest(env={"OMPI_COMM_WORLD_SIZE": "2"})
        self.assertEqual(r.code, 2, r)
        self.assertIn("mpirun", r.err)

    def test_no_room_is_said_before_the_work(self):
        with harness.mounted_tmpfs("size=8m") as small:
            r = harness.run("bench", "ingest", "--slides", "40", "--width", "1440", "--height",
                            "1440", "--quiet", small)
            self.assertEqual(r.code, 65, r)
            self.assertIn("GB free", r.err)
            self.assertEqual(os.listdir(small), [])


if __name__ == "__main__":
    harness.main()
