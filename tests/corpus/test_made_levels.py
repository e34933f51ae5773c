# ctest: labels=corpus timeout=600
"""Levels that are made: like a full decode and 2x2 means, whatever way they were made."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

FINE = ("--quality", "95", "--subsampling", "444")


class MadeLevels(harness.Case):
    libtiff = tiffs.LibTiff()

    def check(self, level_0, out, levels, factor=2):
        """Every level of out against 2x2 means of the true level 0."""
        reference = level_0
        for i in range(1, len(levels)):
            for _ in range({2: 1, 4: 2}[factor]):
                reference = tiffs.mean2x2(reference)
            now = tiffs.openslide_read(out, i)
            self.assertEqual(now.shape, reference.shape, f"size of level {i}")
            self.assertEqual((levels[i]["width"], levels[i]["height"]),
                             (now.shape[1], now.shape[0]))
            # 40 dB; of a grainy picture quality 95 itself keeps less, then nearly what it keeps.
            itself = tiffs.psnr(reference, tiffs.jpeg_decode(tiffs.jpeg_encode(reference, 95), b"",
                                                             True))
            self.assertGreaterEqual(tiffs.psnr(reference, now), min(40, itself - 0.5),
                                    f"PSNR of level {i}, {levels[i]['how_text']}")

    def true_level_0(self, name):
        path = harness.slide(name)
        tiff = tiffs.Tiff(path)
        return path, tiffs.decode_jpeg_level(tiff, tiff.dirs[0], name != harness.CMU1)

    def test_levels_from_the_scaled_idct(self):
        for name, tile in [(harness.CMU1, 240), (harness.CMU1_420, 256), (harness.OS1, 512)]:
            with self.subTest(slide=name):
                path, truth = self.true_level_0(name)
                out, summary = self.convert(path, "idct.tif", "--levels", "dyadic", *FINE)
                levels = summary["output"]["levels"]
                self.assertIn("IDCT", levels[1]["how_text"])
                self.assertLessEqual(max(levels[-1]["width"], levels[-1]["height"]), tile)
                self.check(truth, out, levels)

    def test_levels_from_the_scaled_idct_under_retiled_tiles(self):
        path, truth = self.true_level_0(harness.CMU1)
        out, summary = self.convert(path, "retiled.tif", "--levels", "dyadic", "--tile-px", "256",
                                    *FINE)
        levels = summary["output"]["levels"]
        self.assert_level(levels[0], how="retiled")
        self.assertIn("IDCT", levels[1]["how_text"])
        self.check(truth, out, levels)

    def test_levels_from_means(self):
        for name in (harness.CMU1, harness.OS1):
            with self.subTest(slide=name):
                path, truth = self.true_level_0(name)
                out, summary = self.convert(path, "mean.tif", "--levels", "dyadic", "--tiles",
                                            "transcode", *FINE)
                levels = summary["output"]["levels"]
                self.assert_level(levels[0], how="transcoded")
                for level in levels[1:]:
                    self.assertIn("mean", level["how_text"])
                self.check(truth, out, levels)
                self.assertGreater(tiffs.psnr(truth, tiffs.openslide_read(out, 0)), 40)

    def test_auto_adds_steps_of_four(self):
        path, truth = self.true_level_0(harness.CMU1)
        out, summary = self.convert(path, "auto.tif", *FINE)
        levels = summary["output"]["levels"]
        self.assertEqual([(x["width"], x["height"]) for x in levels], [(2220, 2967), (555, 741)])
        self.check(truth, out, levels, 4)

    def test_levels_below_kept_ones_are_like_them(self):
        path = harness.slide("generic-tiff/BRACS_1640_N_3_cropped.tiff")
        out, summary = self.convert(path, "kept.tif", "--levels", "dyadic", "--tile-px", "64",
                                    "--codec", "zstd")
        self.assertEqual(len(summary["output"]["levels"]), 5)
        before, after = tiffs.Tiff(path), tiffs.Tiff(out)
        for i in range(3):
            below = self.libtiff.read(path, before.dirs[i])
            self.assertTrue(np.array_equal(below, self.libtiff.read(out, after.dirs[i])))
        for i in (3, 4):
            below = tiffs.mean2x2(below)
            self.assertTrue(np.array_equal(below, self.libtiff.read(out, after.dirs[i])),
                            f"level {i}")

    def test_lossless_levels_are_exactly_the_means(self):
        for w, h in [(700, 500), (701, 503), (64, 64), (65, 64), (129, 1), (1, 131), (3, 3)]:
            with self.subTest(size=(w, h)):
                pixels, path = tiffs.tissue(w, h), self.path("plain.tif")
                tiles = [t.tobytes() for t in tiffs.tiles_of(pixels, 64, 64)]
                tiffs.write_tiff(path, [tiffs.Image(
                    tiffs.image_tags(w, h, 1, 2, tile=(64, 64)), tiles)])
                out, summary = self.convert(path, f"exact-{w}.tif", "--levels", "dyadic", "--codec",
                                            "zstd", "--tile-px", "64")
                reference = pixels
                for i, level in enumerate(tiffs.Tiff(out).dirs):
                    now = self.libtiff.read(out, level)
                    self.assertTrue(np.array_equal(reference, now), f"level {i}")
                    reference = tiffs.mean2x2(reference)
                self.assertLessEqual(max(summary["output"]["levels"][-1]["width"],
                                         summary["output"]["levels"][-1]["height"]), 64)


harness.need_slides()
if __name__ == "__main__":
    harness.main()
