#!/usr/bin/python3
# ctest: labels=bench timeout=300
"""slidemill bench peers: a row for every program, whether it is there or not; what fails does not
count. No claim about speed."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402


class Peers(harness.BenchCase):
    def peers(self, *args, **how):
        return harness.run("bench", "peers", "--width", "1440", "--height", "1440", "--repeats", "2",
                           "--quiet", "--dir", self.work, "--json", self.json, *args, timeout=200,
                           **how)

    def rows(self):
        return {n["id"]: n for n in self.lines()[1:]}

    def fake(self, **programs):
        """A folder of programs that do as they are told: name=shell script."""
        folder = self.path("venv")
        os.makedirs(os.path.join(folder, "bin"), exist_ok=True)
        for name, body in programs.items():
            path = os.path.join(folder, "bin", name)
            with open(path, "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\n" + body + "\n")
            os.chmod(path, 0o755)
        return folder

    def test_what_is_here_has_numbers_and_versions(self):
        r = self.peers()
        self.assertEqual(r.code, 0, r)
        head, *rows = self.lines()
        self.assertEqual((head["what"], head["input"]["width_px"]), ("peers", 1440))
        for row in rows:
            with self.subTest(row["id"]):
                if row["id"].startswith(("slidemill", "cp", "sha256sum")):
                    self.assertEqual(row["state"], "ok", row)
                if row["state"] != "ok":
                    self.assertTrue(row["why"], row)
                    self.assertIn(row["why"][:40], r.out)
                    continue
                self.assertEqual(row["wall_s"]["n"], 2)
                self.assertIn(row["id"], r.out)
                if row["id"] == "cp":
                    self.assertEqual(row["bytes"]["median"], head["input"]["bytes"])
        if shutil.which("vips"):
            self.assertEqual({self.rows()[n]["state"] for n in (
                "vips tiffsave jpeg", "vips tiffsave zstd", "vips dzsave")}, {"ok"}, r)
            self.assertRegex(head["versions"]["vips dzsave"], r"^vips.\d")
            self.assertGreater(self.rows()["vips dzsave"]["files"], 36)
        self.assert_nothing_stays()
        same = harness.run("bench", "compare", self.json, self.json)
        self.assertEqual(same.code, 0, same)

    def test_what_is_not_installed_has_a_row_that_says_so(self):
        r = self.peers("--programs", "copy,vips,wsi,dcp,dsync,cp", env={"PATH": "/nowhere"})
        self.assertEqual(r.code, 0, r)
        states = {name: row["state"] for name, row in self.rows().items()}
        self.assertEqual(states.pop("slidemill convert copy"), "ok")
        self.assertEqual(set(states.values()), {"absent"})
        self.assertEqual(set(states), {"vips tiffsave jpeg", "vips tiffsave zstd", "vips dzsave",
                                       "wsic jpeg", "wsidicomizer", "cp", "dcp", "dsync"})
        self.assertRegex(r.out, r"wsic jpeg +not run: wsic is not on PATH")

    def test_what_fails_says_why_and_does_not_count(self):
        venv = self.fake(wsic="echo begun >&2; echo it broke >&2; echo >&2; exit 3",
                         wsidicomizer="kill -9 $$")
        r = self.peers("--programs", "wsi", "--venv", venv)
        self.assertEqual(r.code, 0, r)
        rows = self.rows()
        self.assertEqual((rows["wsic jpeg"]["state"], rows["wsic jpeg"]["why"]),
                         ("failed", "ended with 3: it broke"))
        self.assertEqual(rows["wsidicomizer"]["why"], "ended with 137: no message")
        self.assertIn("it broke", r.out)

    def test_outputs_that_are_not_the_slide_do_not_count(self):
        small = self.path("small.svs")
        harness.mosaic(small, "--width", 960, "--height", 960)
        for name, body, why in (
                ("wsic", 'echo nonsense >"$5"', "does not open"),
                ("wsic", f"cp '{small}' \"$5\"", "960 x 960 px, not 1440 x 1440"),
                ("wsic", "exit 0", "does not open"),
                ("wsidicomizer", 'mkdir "$4"; head -c 4096 /dev/zero >"$4/1.dcm"', "no DICOM"),
                ("cp", 'head -c 100000 "$1" >"$2"', "does not have the bytes")):
            with self.subTest(name + ": " + body):
                self.peers("--programs", name, "--venv", self.fake(**{name: body}))
                row = next(n for n in self.rows().values() if n["id"].startswith(name))
                self.assertEqual(row["state"], "failed", row)
                self.assertIn(why, row["why"])
                self.assertNotIn("wall_s", row)

    def test_a_given_slide_is_the_input(self):
        slide = self.path("given.svs")
        harness.mosaic(slide, "--width", 960, "--height", 720)
        before = self.sha256(slide)
        r = self.peers("--programs", "convert source", slide)
        self.assertEqual(r.code, 0, r)
        self.assertEqual((self.lines()[0]["input"]["from"], self.lines()[0]["input"]["height_px"]),
                         ("given.svs", 720))
        self.assertEqual(self.sha256(slide), before)

    def test_interrupted_it_leaves_nothing(self):
        self.interrupt("peers", "--width", "15360", "--height", "11040", "--programs", "zstd",
                       "--quiet", "--dir", self.work,
                       when=lambda work: any("out" in folders for _, folders, _ in os.walk(work)))

    def test_wrong_arguments_are_refused(self):
        for args, code, word in ((["/nowhere.svs"], 2, "/nowhere.svs"),
                                 (["--programs", "nobody"], 2, "--programs"),
                                 (["--venv", "/nowhere"], 2, "--venv"),
                                 (["--dir", "/nowhere"], 2, "/nowhere"),
                                 ([__file__], 65, "not a slide")):
            with self.subTest(args):
                r = self.peers(*args)
                self.assertEqual(r.code, code, r)
                self.assertIn(word, r.err)
                self.assert_nothing_stays()


if __name__ == "__main__":
    harness.main()
