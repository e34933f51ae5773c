# ctest: labels=cli timeout=600
"""Every value of every option of convert does something one can see, and every mistake is refused."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

COMPRESSION = {"jpeg": 7, "zstd": 50000, "deflate": 8, "lzw": 5, "none": 1}

FAKE_MOUNT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/vfs.h>
int fstatfs(int fd, struct statfs *fs)
{
    int (*real)(int, struct statfs *) = (int (*)(int, struct statfs *))dlsym(RTLD_NEXT, "fstatfs");
    const int rc = real(fd, fs);
    fs->f_type = 0x65735546;
    return rc;
}
"""


class Options(harness.Case):
    """Values and what they do."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.svs = harness.mosaic(os.path.join(cls.folder, "in.svs"), "--width", 2400, "--height",
                                 1700, "--levels", "1,4,16")

    def levels(self, *options):
        out, summary = self.convert(self.svs, "o.tif", *options)
        return tiffs.Tiff(out), summary["output"]["levels"]

    def sizes(self, *options):
        tiff, levels = self.levels(*options)
        sizes = [(x["width"], x["height"]) for x in levels]
        self.assertEqual(sizes, [(d.one(tiffs.WIDTH), d.one(tiffs.LENGTH)) for d in tiff.dirs])
        return sizes, [x["how"] for x in levels]

    def test_levels(self):
        kept = [(2400, 1700), (600, 425), (150, 106)]
        self.assertEqual(self.sizes("--levels", "source"), (kept, ["copied"] * 3))
        self.assertEqual(self.sizes(), (kept, ["copied"] * 3))
        sizes, how = self.sizes("--levels", "dyadic")
        self.assertEqual(sizes, [(2400, 1700), (1200, 850), (600, 425), (300, 212), (150, 106)])
        self.assertEqual(how, ["copied", "made", "copied", "made", "copied"])
        one = harness.mosaic(self.path("one.svs"), "--width", 9000, "--height", 700)
        for mode, sizes in [("auto", [(9000, 700), (2250, 175), (1125, 87), (562, 43)]),
                            ("source", [(9000, 700)])]:
            _, summary = self.convert(one, "one.tif", "--levels", mode)
            got = [(x["width"], x["height"]) for x in summary["output"]["levels"]]
            self.assertEqual(got[0], sizes[0])
            if mode == "source":
                self.assertEqual(got, sizes)
            else:
                self.assertLessEqual(max(got[-1]), 1024)
                for (a, _), (b, _) in zip(got, got[1:]):
                    self.assertIn(a // b, (2, 3, 4))

    def test_tiles(self):
        for mode, how in [("auto", "copied"), ("copy", "copied"), ("retile", "retiled"),
                          ("transcode", "transcoded")]:
            self.assertEqual(self.sizes("--tiles", mode, "--levels", "source")[1], [how] * 3, mode)

    def test_tile_px(self):
        for px in (64, 240, 256, 512, 2048, 4096):
            tiff, levels = self.levels("--tile-px", str(px))
            for d, level in zip(tiff.dirs, levels):
                self.assertEqual((d.one(tiffs.TILE_WIDTH), d.one(tiffs.TILE_LENGTH)), (px, px))
                self.assertEqual(level["how"], "copied" if px == 240 else "retiled")
        tiff, _ = self.levels("--tile-px", "0")
        self.assertEqual(tiff.dirs[0].one(tiffs.TILE_WIDTH), 240)

    def test_codec(self):
        pixels = None
        for codec, number in COMPRESSION.items():
            tiff, levels = self.levels("--codec", codec)
            for d, level in zip(tiff.dirs, levels):
                self.assertEqual(d.one(tiffs.COMPRESSION), number)
                self.assertEqual(level["codec"], codec)
                self.assertEqual(d.one(tiffs.PREDICTOR, 1),
                                 2 if codec in ("zstd", "deflate", "lzw") else 1)
            now = tiffs.LibTiff().read(self.path("o.tif"), tiff.dirs[0])
            pixels = now if pixels is None else pixels
            self.assertTrue(np.array_equal(pixels, now), f"{codec}: level 0 has other pixels")

    def test_quality(self):
        sizes = []
        for quality in (1, 30, 75, 85, 100):
            _, summary = self.convert(self.svs, "o.tif", "--tiles", "transcode", "--quality",
                                      str(quality), "--subsampling", "444")
            sizes.append(summary["output"]["bytes"])
            info = harness.run("info", "--json", self.path("o.tif")).json()
            for level in info["levels"]:
                self.assertEqual(level["jpeg"]["quality"], quality)
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual(len(set(sizes)), len(sizes))
        _, by_default = self.convert(self.svs, "o.tif", "--tiles", "transcode", "--subsampling",
                                     "444")
        self.assertEqual(by_default["output"]["bytes"], sizes[3], "85 is the default")

    def test_subsampling(self):
        for word, quality, sampling, name in [
                ("444", 50, (1, 1), "4:4:4"), ("422", 95, (2, 1), "4:2:2"),
                ("420", 95, (2, 2), "4:2:0"), ("auto", 89, (2, 2), "4:2:0"),
                ("auto", 90, (1, 1), "4:4:4")]:
            tiff, levels = self.levels("--tiles", "transcode", "--subsampling", word, "--quality",
                                       str(quality))
            for d, level in zip(tiff.dirs, levels):
                self.assertEqual(d.get(tiffs.SUBSAMPLING), sampling)
                self.assertEqual(d.one(tiffs.PHOTOMETRIC), 6)
                self.assertEqual(tiffs.jpeg_sampling(tiff.tile(d, 0)), sampling)
                self.assert_level(level, subsampling=name, colour="ycbcr")

    def test_profile(self):
        tiff, _ = self.levels("--profile", "hybrid")
        self.assertIn(b"<OME", tiff.dirs[0].one(tiffs.DESCRIPTION))
        self.assertEqual(list(tiff.dirs[0].get(tiffs.SUBIFDS)),
                         [d.offset for d in tiff.dirs[1:]])
        tiff, _ = self.levels("--profile", "generic")
        self.assertNotIn(b"xml", tiff.dirs[0].one(tiffs.DESCRIPTION).lower())
        self.assertIsNone(tiff.dirs[0].get(tiffs.SUBIFDS))
        for d in tiff.dirs[1:]:
            self.assertEqual(d.one(tiffs.SUBFILE), 1)
        self.assertEqual(tiff.dirs[0].one(tiffs.SUBFILE), 0)

    def test_blank(self):
        pixels = np.full((1000, 1500, 3), 244, np.uint8)
        pixels[:300, :300] = tiffs.tissue(300, 300)
        path = self.path("pale.tif")
        tiffs.write_tiff(path, [tiffs.Image(
            tiffs.image_tags(1500, 1000, 1, 2, tile=(128, 128)),
            [t.tobytes() for t in tiffs.tiles_of(pixels, 128, 128)])])
        for codec in COMPRESSION:
            for how in ("share", "full"):
                out, summary = self.convert(path, f"{how}.tif", "--blank", how, "--codec", codec,
                                            "--tiles", "transcode", "--levels", "dyadic")
                tiff = tiffs.Tiff(out)
                n = len(tiff.dirs[0].offsets)
                stored = len(set(tiff.dirs[0].offsets))
                level = summary["output"]["levels"][0]
                self.assertEqual(level["tiles"], n)
                self.assertEqual(level["shared_tiles"], n - stored)
                self.assertEqual(stored, 9 + 1 if how == "share" else n, codec)
                now = tiffs.LibTiff().read(out, tiff.dirs[0])
                self.assertTrue((now[400:, 400:] == 244).all(), "the blank colour")
                if codec != "jpeg":
                    self.assertTrue(np.array_equal(now, pixels))
            self.assertLess(os.path.getsize(self.path("share.tif")),
                            os.path.getsize(self.path("full.tif")))

    def test_associated(self):
        path = harness.slide(harness.CMU1)
        with open(path, "rb") as f:
            patient = f.read()[-1000:]
        none, summary = self.convert(path, "none.tif", "--associated", "none")
        self.assertIs(summary["source"]["associated_kept"], False)
        self.assertEqual([d.tiled for d in tiffs.Tiff(none).dirs], [True, True])
        with open(none, "rb") as f:
            self.assertNotIn(patient, f.read())
        keep, summary = self.convert(path, "keep.tif", "--associated", "keep")
        self.assertIs(summary["source"]["associated_kept"], True)
        info = harness.run("info", "--json", keep).json()
        before = harness.run("info", "--json", path).json()
        self.assertEqual(sorted((a["name"], a["width_px"], a["height_px"])
                                for a in info["associated"]),
                         sorted((a["name"], a["width_px"], a["height_px"])
                                for a in before["associated"]))
        self.assertEqual(len(info["levels"]), 2)
        self.assertEqual(harness.run("verify", "--quiet", keep, "--against", path).code, 0)
        _, by_default = self.convert(path, "o.tif")
        self.assertEqual(by_default["output"]["sha256"], self.sha256(none))

    def test_threads_and_memory(self):
        _, summary = self.convert(self.svs, "o.tif", "--threads", "5", "--memory", "3G")
        self.assertEqual(summary["threads"], 5)
        self.assertLess(summary["peak_rss_bytes"], summary["memory_bound_bytes"] * 2)
        _, summary = self.convert(self.svs, "o.tif", env={"SLURM_CPUS_PER_TASK": "3"})
        self.assertEqual(summary["threads"], 3)
        out = self.path("little.tif")
        for options, env in [(["--memory", "1M"], {}), ([], {"SLURM_MEM_PER_NODE": "1"})]:
            r = harness.run("convert", *options, self.svs, out, env=env)
            self.assert_refused(r, 65, self.svs, out)
            self.assertIn("--memory", r.err)

    def test_verify(self):
        for word in ("cache", "media", "none"):
            out, summary = self.convert(self.svs, "o.tif", "--verify", word)
            self.assertEqual(summary["output"]["verified"], word != "none")
            if word == "none":
                self.assertNotIn("sha256", summary["output"])
            else:
                self.assertEqual(summary["output"]["sha256"], self.sha256(out))
            text = harness.run("convert", "--force", "--verify", word, self.svs, out).out
            self.assertEqual("not read back" in text, word == "none")
            self.assertEqual(harness.run("verify", out).code, 0)

    def test_scratch(self):
        compiler = shutil.which("cc")
        if compiler is None or harness.SANITIZED:
            raise unittest.SkipTest("no network mount can be played here")
        library, code = self.path("mount.so"), self.path("mount.c")
        with open(code, "w", encoding="utf-8") as f:
            f.write(FAKE_MOUNT)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, code, "-ldl"], check=True)
        env, scratch = {"LD_PRELOAD": library}, self.path("scratch")
        os.mkdir(scratch)
        path = harness.slide("hamamatsu/test3-DAPI-2-387.ndpi")
        near, _ = self.convert(path, "near.tif")
        far, summary = self.convert(path, "far.tif", "--scratch", scratch, env=env)
        self.assertTrue(os.path.samefile(near, near) and self.sha256(near) == self.sha256(far))
        self.assertEqual(summary["source"]["sha256"], self.sha256(path))
        self.assertEqual(os.listdir(scratch), [], "the copy is removed")
        r = harness.run("convert", "--force", "--scratch", scratch, path, far, env=env)
        self.assertIn("scratch copy", r.out)
        out = self.path("no.tif")
        r = harness.run("convert", "--scratch", self.path("missing"), path, out, env=env)
        self.assert_refused(r, (2, 74), target=out)
        self.assertIn("--scratch", r.err)
        r = harness.run("convert", path, out, env={**env, "SLURM_TMPDIR": self.path("missing")})
        self.assertNotEqual(r.code, 0, "SLURM_TMPDIR is the default")

    def test_force(self):
        out = self.path("there.tif")
        for content in (b"", b"precious"):
            with open(out, "wb") as f:
                f.write(content)
            before = os.stat(out)
            r = harness.run("convert", self.svs, out)
            self.assert_refused(r, 2, "there.tif")
            self.assertIn("--force", r.err)
            after = os.stat(out)
            self.assertEqual((before.st_ino, before.st_mtime_ns, before.st_size),
                             (after.st_ino, after.st_mtime_ns, after.st_size), "untouched")
        r = harness.run("convert", "--force", self.svs, out)
        self.assertEqual(r.code, 0, r)
        self.assertEqual(harness.run("verify", "--quiet", out).code, 0)
        self.assertEqual(os.listdir(self.dir), ["there.tif"])

    def test_quiet_and_json(self):
        r = harness.run("convert", "--quiet", self.svs, self.path("q.tif"))
        self.assertEqual((r.code, r.out, r.err), (0, "", ""))
        r = harness.run("convert", "--json", self.svs, self.path("j.tif"))
        self.assertEqual(r.code, 0)
        self.assertEqual(r.err, "")
        summary = r.json()
        text = harness.run("convert", self.svs, self.path("t.tif"))
        self.assertEqual((text.code, text.err), (0, ""))
        with self.assertRaises(json.JSONDecodeError):
            json.loads(text.out)
        self.agree(summary, text.out)
        r = harness.run("convert", "--json", self.svs, self.path("j.tif"))
        self.assertEqual(r.code, 2)
        self.assertEqual(r.json()["status"], "arg")
        self.assertEqual(len(r.err.splitlines()), 1)
        self.assertIn(r.json()["error"], r.err)

    def agree(self, summary, text):
        digests = re.findall(r"sha256 ([0-9a-f]{64})", text)
        self.assertEqual(digests, [summary["source"]["sha256"], summary["output"]["sha256"]])
        lines = re.findall(r"^ +level (\d+) +(\d+) x (\d+) +(\d+)x(\d+) +(.*)$", text, re.M)
        levels = summary["output"]["levels"]
        self.assertEqual(len(lines), len(levels))
        for i, (line, level) in enumerate(zip(lines, levels)):
            self.assertEqual(tuple(map(int, line[:5])),
                             (i, level["width"], level["height"], level["tile_width"],
                              level["tile_height"]))
            self.assertTrue(line[5].endswith(level["how_text"]), line)
            self.assertIn(level["subsampling"], line[5])
        info = harness.run("info", "--json", self.path("t.tif")).json()
        self.assertEqual([(x["width_px"], x["height_px"]) for x in info["levels"]],
                         [(x["width"], x["height"]) for x in levels])
        self.assertEqual(info["mpp_x"], summary["source"]["mpp_x"])

    def test_names_of_any_bytes(self):
        name = b"bad \xff\xc3( \n\x1b[31m.svs"
        source = os.path.join(os.fsencode(self.dir), name)
        shutil.copy(self.svs, source)
        r = harness.run("convert", "--json", source, os.path.join(os.fsencode(self.dir), b"\xfe"))
        self.assertEqual(r.code, 0, r)
        self.assertNotIn("\udcff", r.json()["source"]["path"])
        self.assertIn(b"\xfe", os.listdir(os.fsencode(self.dir)))
        for program in ("info", "verify"):
            for options in (["--json"], []):
                r = harness.run(program, *options, source)
                self.assertEqual(r.code, 0, r)
                if options:
                    r.json()
                else:
                    self.assertNotIn("\x1b", r.out)
        text = harness.run("convert", source, os.path.join(os.fsencode(self.dir), b"o\n\x1b[2J"))
        self.assertEqual(text.code, 0, text)
        self.assertNotIn("\x1b", text.out)
        r = harness.run("convert", "--json", os.path.join(os.fsencode(self.dir), b"\xff\x1b"),
                        self.path("o.tif"))
        self.assertEqual(r.code, 2)
        self.assertNotIn("\x1b", r.err)
        self.assertEqual(r.json()["status"], "arg")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_summary_that_cannot_be_written_is_an_error(self):
        for option in ("--json", "--no-json"):
            with open("/dev/full", "wb") as full:
                r = harness.run("convert", option, "--force", self.svs, self.path("o.tif"),
                                stdout=full)
            self.assertEqual(r.code, 74, r)
            self.assertEqual(len(r.err.splitlines()), 1, r)


class Mistakes(harness.Case):
    """Wrong command lines: exit 2, a message that names the mistake, no file."""

    BAD = [
        (["--levels", "all"], "--levels"), (["--levels", ""], "--levels"),
        (["--levels", "Auto"], "--levels"), (["--tiles", "move"], "--tiles"),
        (["--tile-px", "63"], "--tile-px"), (["--tile-px", "48"], "--tile-px"),
        (["--tile-px", "100"], "--tile-px"), (["--tile-px", "4112"], "--tile-px"),
        (["--tile-px", "-256"], "--tile-px"), (["--tile-px", "256px"], "--tile-px"),
        (["--tile-px", "0x100"], "--tile-px"), (["--tile-px", " 256"], "--tile-px"),
        (["--tile-px", "99999999999999999999"], "--tile-px"), (["--tile-px", ""], "--tile-px"),
        (["--tile-px=256.0"], "--tile-px"), (["--codec", "webp"], "--codec"),
        (["--codec", "jpg"], "--codec"), (["--quality", "0"], "--quality"),
        (["--quality", "101"], "--quality"), (["--quality", "85%"], "--quality"),
        (["--quality", "-1"], "--quality"), (["--subsampling", "411"], "--subsampling"),
        (["--subsampling", "4:2:0"], "--subsampling"), (["--profile", "aperio"], "--profile"),
        (["--blank", "omit"], "--blank"), (["--bad-tile", "skip"], "--bad-tile"),
        (["--threads", "1025"], "--threads"), (["--threads", "two"], "--threads"),
        (["--threads", "-1"], "--threads"), (["--memory", "1X"], "--memory"),
        (["--memory", "lots"], "--memory"), (["--memory", "99999999999G"], "--memory"),
        (["--scratch", ""], "--scratch"), (["--verify", "yes"], "--verify"),
        (["--force=yes"], "--force"), (["--json=1"], "--json"), (["--quiet=no"], "--quiet"),
        (["--associated", "all"], "--associated"), (["--forc"], "--forc"), (["--tile-pxx", "256"], "--tile-pxx"), (["-f"], "-f"),
        (["--no-tile-px"], "--no-tile-px"), (["---force"], "---force"),
    ]

    def check(self, args, word):
        r = harness.run("convert", *args, cwd=self.dir)
        self.assertEqual(r.code, 2, r)
        self.assertEqual(r.out, "", r)
        lines = r.err.splitlines()
        self.assertIn(word, lines[0], r)
        self.assertTrue(lines[0].startswith("slidemill convert: "), r)
        self.assertTrue(len(lines) == 1 or
                        (len(lines) == 2 and lines[1].startswith("try ")), r)
        self.assertEqual(os.listdir(self.dir), ["in.svs"])

    def test_mistakes_in_every_argument(self):
        harness.mosaic(self.path("in.svs"), "--width", 500, "--height", 400)
        for args, word in self.BAD:
            with self.subTest(args=args):
                self.check([*args, "in.svs", "out.tif"], word)
                self.check(["in.svs", "out.tif", *args], word)
        for args, word in [([], "IN"), (["in.svs"], "OUT"), (["in.svs", "a.tif", "b.tif"], "b.tif"),
                           (["", "out.tif"], "cannot open"), (["in.svs", ""], ""),
                           (["in.svs", "out.tif", "--tile-px"], "--tile-px"),
                           (["in.svs", "out.tif", "--levels"], "--levels"),
                           (["--", "--force", "in.svs", "x"], "x"),
                           (["--scratch", "--force", "in.svs", "out.tif"], "--scratch"),
                           (["missing.svs", "out.tif"], "missing.svs"),
                           (["in.svs", "missing/out.tif"], "missing/out.tif"),
                           (["in.svs/x", "out.tif"], "in.svs/x"),
                           (["in.svs", "in.svs/out.tif"], "in.svs/out.tif"),
                           (["in.svs", "in.svs"], "in.svs"),
                           (["in.svs", "./in.svs", "--force"], "in.svs"),
                           (["in.svs", "x" * 300], "xxx")]:
            with self.subTest(args=args):
                self.check(args, word)

    def test_contradicting_options_are_refused(self):
        harness.mosaic(self.path("in.svs"), "--width", 500, "--height", 400)
        for args in (["--tiles", "copy", "--codec", "zstd"], ["--codec", "none", "--tile-px", "240"],
                     ["--tiles", "copy", "--tile-px", "512"]):
            r = harness.run("convert", *args, self.path("in.svs"), self.path("out.tif"))
            self.assert_refused(r, (2, 65), target=self.path("out.tif"))


if __name__ == "__main__":
    harness.main()
