# ctest: labels=cli timeout=600
"""slidemill verify: what is whole is called whole, what is identical identical, and every flipped byte is
found."""
import math
import os
import random
import re
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import tiffs  # noqa: E402


class Verify(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.svs = harness.mosaic(os.path.join(cls.folder, "in.svs"), "--width", 1900, "--height",
                                 1300)
        cls.other = harness.mosaic(os.path.join(cls.folder, "other.svs"), "--width", 1900,
                                   "--height", 1301)

    def verify(self, path, *options, code=0):
        r = harness.run("verify", "--json", path, *options)
        self.assertEqual(r.code, code, r)
        self.assertEqual(len(r.err.splitlines()), 0 if code == 0 else 1, r)
        if code != 0:
            self.assertIn(os.path.basename(path), r.err)
        found = r.json()
        self.assertEqual(found["status"] == "ok", code == 0, r)
        self.assertEqual("error" in found, code != 0, r)
        return found

    def test_a_copied_pyramid_is_identical_and_like_its_source(self):
        out, summary = self.convert(self.svs, "o.tif", "--levels", "dyadic", "--quality", "95",
                                    "--subsampling", "444")
        found = self.verify(out, "--against", self.svs)
        self.assertEqual(found["sha256"], summary["output"]["sha256"])
        self.assertEqual(found["source_sha256"], self.sha256(self.svs))
        self.assertEqual(found["against_sha256"], self.sha256(self.svs))
        for key in ("head_ok", "data_ok", "has_digests", "against_is_source"):
            self.assertIs(found[key], True, key)
        self.assertEqual(found["bad_tiles"], 0)
        self.assertEqual(found["tiles"], sum(x["tiles"] for x in summary["output"]["levels"]))
        base = found["levels"][0]
        self.assertTrue(base["identical_bytes"] and base["identical_pixels"])
        truth = tiffs.Tiff(self.svs)
        reference = tiffs.decode_jpeg_level(truth, truth.dirs[0], False)
        for i, level in enumerate(found["levels"][1:], 1):
            reference = tiffs.mean2x2(reference)
            self.assertFalse(level["identical_bytes"])
            self.assertFalse(level["identical_pixels"])
            self.assertAlmostEqual(level["psnr_db"],
                                   tiffs.psnr(reference, tiffs.openslide_read(out, i)), delta=0.01)
        text = harness.run("verify", out, "--against", self.svs)
        self.assertEqual(text.code, 0)
        self.assertRegex(text.out, r"level 0 .*identical.*compressed bytes and pixels")
        self.assertRegex(text.out, rf"level 1 .*PSNR {found['levels'][1]['psnr_db']:.1f} dB")
        self.assertIn(found["sha256"], text.out)

    def test_retiled_and_transcoded_levels_are_told_apart(self):
        out, _ = self.convert(self.svs, "r.tif", "--tile-px", "512", "--levels", "source")
        base = self.verify(out, "--against", self.svs)["levels"][0]
        self.assertFalse(base["identical_bytes"])
        self.assertTrue(base["identical_pixels"])
        self.assertEqual(base["max_difference"], 0)
        out, _ = self.convert(self.svs, "t.tif", "--tiles", "transcode", "--levels", "source")
        base = self.verify(out, "--against", self.svs)["levels"][0]
        self.assertFalse(base["identical_bytes"] or base["identical_pixels"])
        self.assertTrue(math.isfinite(base["psnr_db"]) and base["psnr_db"] > 25)
        self.assertGreater(base["max_difference"], 0)
        out, _ = self.convert(self.svs, "z.tif", "--codec", "zstd", "--levels", "dyadic")
        for level in self.verify(out, "--against", self.svs)["levels"]:
            self.assertTrue(level["identical_pixels"], level)

    def test_min_psnr(self):
        out, _ = self.convert(self.svs, "p.tif", "--tiles", "transcode", "--quality", "40")
        worst = min(x["psnr_db"] for x in self.verify(out, "--against", self.svs)["levels"])
        self.verify(out, "--against", self.svs, "--min-psnr", str(math.floor(worst)))
        self.verify(out, "--against", self.svs, "--min-psnr", str(math.ceil(worst)), code=65)

    def test_the_wrong_source(self):
        out, _ = self.convert(self.svs, "o.tif")
        r = harness.run("verify", out, "--against", self.other)
        self.assertEqual(r.code, 65, r)
        tiff = tiffs.Tiff(self.svs)  # same size, one tile another's
        tiff.patch(tiff.dirs[0], tiffs.TILE_OFFSETS, 3, tiff.dirs[0].offsets[20])
        tiff.patch(tiff.dirs[0], tiffs.TILE_COUNTS, 3, tiff.dirs[0].counts[20])
        near = self.path("near.svs")
        tiff.save(near)
        r = harness.run("verify", "--json", out, "--against", near)
        found = r.json()
        self.assertIs(found["against_is_source"], False)
        self.assertFalse(found["levels"][0]["identical_bytes"])
        self.assertFalse(found["levels"][0]["identical_pixels"])
        text = harness.run("verify", out, "--against", near)
        self.assertIn("NOT", text.out)
        for source, code in [(self.path("missing.svs"), 2), (self.dir, 2), ("/dev/null", 2)]:
            self.assertEqual(harness.run("verify", out, "--against", source).code, code)
        empty = self.path("empty.svs")
        with open(empty, "wb"):
            pass
        self.assertEqual(harness.run("verify", out, "--against", empty).code, 65)

    def test_every_flipped_byte_is_found(self):
        for options in ((), ("--profile", "generic", "--codec", "deflate"), ("--codec", "none")):
            out, _ = self.convert(self.svs, "o.tif", "--levels", "auto", "--tile-px", "256",
                                  *options)
            with open(out, "rb") as f:
                data = bytearray(f.read())
            first = min(min(d.offsets) for d in tiffs.Tiff(out).dirs)
            rng = random.Random(4711)
            n = 400 if harness.LONG else 30
            places = list(range(0, 16)) if harness.LONG else [0, 2, 4, 8, 15]
            places += [rng.randrange(first) for _ in range(n)]
            places += [rng.randrange(first, len(data)) for _ in range(n)]
            places += [first - 1, first, len(data) - 1]
            bad = self.path("flipped.tif")
            for at in places:
                with self.subTest(options=options, byte=at, head=at < first):
                    data[at] ^= 1 << rng.randrange(8)
                    with open(bad, "wb") as f:
                        f.write(data)
                    with open(out, "rb") as f:
                        f.seek(at)
                        data[at] = f.read(1)[0]
                    r = harness.run("verify", bad, timeout=20)
                    self.assertEqual(r.code, 65, r)
                    self.assertEqual(len(r.err.splitlines()), 1, r)
                    self.assertIn("flipped.tif", r.err)

    def test_digests_that_cannot_be_read_are_damage(self):
        for profile in ("hybrid", "generic"):
            out, summary = self.convert(self.svs, "o.tif", "--profile", profile)
            with open(out, "rb") as f:
                data = f.read()
            digests = [summary["source"]["sha256"].encode()]
            bad = self.path("unreadable.tif")
            for word in [b"source-sha256", b"data-xxh128", b"head-xxh128", *digests]:
                at = data.index(word)
                for byte in ((at, at + len(word) - 1) if not harness.LONG
                             else range(at, at + len(word))):
                    with self.subTest(profile=profile, word=word, byte=byte):
                        with open(bad, "wb") as f:
                            f.write(data[:byte] + b"x" + data[byte + 1:])
                        found = self.verify(bad, code=65)
                        self.assertIs(found["has_digests"], True)
                        self.assertIs(found["head_ok"], False)

    def test_bytes_added_or_cut_off_are_found(self):
        out, _ = self.convert(self.svs, "o.tif")
        with open(out, "rb") as f:
            data = f.read()
        bad = self.path("other-length.tif")
        for name, content in [("one byte more", data + b"\0"), ("one byte less", data[:-1]),
                              ("half", data[:len(data) // 2]), ("twice", data + data),
                              ("a head", data[:500]), ("nothing", b"")]:
            with self.subTest(name):
                with open(bad, "wb") as f:
                    f.write(content)
                self.verify(bad, code=65)

    def test_sha256(self):
        out, summary = self.convert(self.svs, "o.tif")
        right = summary["output"]["sha256"]
        self.verify(out, "--sha256", right)
        self.verify(out, "--sha256", right.upper())
        self.verify(out, "--sha256", summary["source"]["sha256"], code=65)
        self.verify(out, "--sha256", ("0" if right[0] != "0" else "1") + right[1:], code=65)
        for wrong in ("", "abc", right[:-1], right + "0", "g" * 64, "0x" + right[2:]):
            r = harness.run("verify", out, "--sha256", wrong)
            self.assertEqual(r.code, 2, f"'{wrong}': {r}")
            self.assertIn("--sha256", r.err)

    def test_slides_that_slidemill_did_not_write(self):
        found = self.verify(self.svs)
        self.assertIs(found["has_digests"], False)
        for name, levels in [(harness.CMU1, 1), (harness.BREAST, 6), (harness.OS1, 1),
                             ("generic-tiff/CropBreastSlide-flat.tif", 1)]:
            found = self.verify(harness.slide(name))
            self.assertEqual(found["n_levels"], levels)
            self.assertEqual(found["bad_tiles"], 0)

    def test_bad_tiles_of_a_foreign_slide_are_listed(self):
        tiff = tiffs.Tiff(self.svs)
        d = tiff.dirs[0]
        for n in (2, 11):
            at, count = d.offsets[n], d.counts[n]
            tiff.data[at + count // 2:at + count] = bytes(count - count // 2)
            tiff.data[at:at + 2] = b"xx"
        bad = self.path("bad.svs")
        tiff.save(bad)
        found = self.verify(bad, code=65)
        self.assertEqual(found["bad_tiles"], 2)
        self.assertEqual([(x["level"], x["row"] * d.cols + x["column"], x["offset"])
                          for x in found["bad_tile_list"]],
                         [(0, n, d.offsets[n]) for n in (2, 11)])

    def test_options_and_mistakes(self):
        out, _ = self.convert(self.svs, "o.tif")
        r = harness.run("verify", "--quiet", out)
        self.assertEqual((r.code, r.out, r.err), (0, "", ""))
        r = harness.run("verify", "--quiet", "--json", out, "--threads", "3")
        self.assertEqual(r.json()["status"], "ok")
        for args, code in [([], 2), ([out, out], 2), ([self.path("missing")], 2), ([self.dir], 2),
                           (["/dev/null"], 2), ([out, "--min-psnr", "x"], 2),
                           ([out, "--min-psnr", "201"], 2), ([out, "--threads", "1025"], 2),
                           ([out, "--against"], 2), ([out, "--agains", out], 2)]:
            r = harness.run("verify", *args)
            self.assertEqual(r.code, code, r)
            self.assertEqual(r.out, "")
            self.assertTrue(re.match(r"slidemill verify: .+\n(try .+\n)?\Z", r.err), r)


if __name__ == "__main__":
    harness.main()
