# ctest: labels=corpus timeout=600
"""Odd sizes and odd ways to store pixels: one pixel, one line, prime sides, exactly one tile, one pixel
over; grey, alpha, planes, strips; every codec. Lossless stays lossless, edges are right."""
import os
import shutil
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

SIZES = [(1, 1), (1, 37), (37, 1), (2, 2), (127, 131), (256, 256), (257, 256), (256, 257),
         (257, 257), (255, 255), (509, 2), (15, 16), (16, 17), (512, 255)]
LOSSLESS = ("zstd", "deflate", "lzw", "none")


class OddSizes(harness.Case):
    libtiff = tiffs.LibTiff()

    def plain(self, pixels, name="plain.tif", tile=256, **more):
        h, w, samples = pixels.shape
        path = self.path(name)
        tags = tiffs.image_tags(w, h, 1, 2 if samples >= 3 else 1, tile=(tile, tile),
                                samples=samples, **more)
        tiffs.write_tiff(path, [tiffs.Image(
            tags, [t.tobytes() for t in tiffs.tiles_of(pixels, tile, tile)])])
        return path

    def check_lossless(self, path, pixels, *options, codecs=LOSSLESS):
        """Every level of a lossless pyramid is right to the last bit, edges included."""
        for codec in codecs:
            out, summary = self.convert(path, "lossless.tif", "--codec", codec, "--levels",
                                        "dyadic", "--tile-px", "64", *options)
            reference = pixels
            dirs = tiffs.Tiff(out).dirs
            self.assertEqual(len(dirs), len(summary["output"]["levels"]))
            for i, d in enumerate(dirs):
                now = self.libtiff.read(out, d)
                self.assertEqual(now.shape, reference.shape, f"{codec} level {i}")
                self.assertTrue(np.array_equal(now, reference), f"{codec} level {i}")
                reference = tiffs.mean2x2(reference)
            r = harness.run("verify", "--quiet", out, "--against", path)
            self.assertEqual(r.code, 0, r)

    def test_every_size_round_trips_in_every_lossless_codec(self):
        for w, h in SIZES:
            with self.subTest(size=(w, h)):
                pixels = tiffs.tissue(w, h)
                self.check_lossless(self.plain(pixels), pixels)

    def test_every_size_as_jpeg(self):
        for w, h in SIZES:
            pixels = tiffs.tissue(w, h)
            path = self.path("in.tif")
            for sub in (0, 1, 2):
                tiffs.write_jpeg_tiff(path, pixels, 256, 92, sub)
                source = tiffs.Tiff(path)
                truth = tiffs.decode_jpeg_level(source, source.dirs[0], True)
                for options, how in [((), "copied"), (("--tile-px", "128"), "retiled"),
                                     (("--tiles", "transcode"), "transcoded")]:
                    with self.subTest(size=(w, h), subsampling=sub, how=how):
                        self.check_jpeg(path, truth, how, sub, options)

    def check_jpeg(self, path, truth, how, sub, options):
        out, summary = self.convert(path, "jpeg.tif", "--levels", "dyadic", "--quality", "95",
                                    "--subsampling", "444", *options)
        levels = summary["output"]["levels"]
        self.assert_level(levels[0], how=how)
        reference = truth
        for i, level in enumerate(levels):
            now = tiffs.openslide_read(out, i)
            self.assertEqual(now.shape, reference.shape)
            exact = how == "copied" or (how == "retiled" and sub == 0)
            if i == 0 and exact:
                self.assertTrue(np.array_equal(now, reference))
            else:
                self.assertGreater(tiffs.psnr(now, reference), 34, f"level {i} of {level}")
            reference = tiffs.mean2x2(reference)
        self.assertEqual(harness.run("verify", "--quiet", out).code, 0)

    def test_the_edge_of_a_jpeg_level_is_not_stained_by_its_padding(self):
        pixels = np.full((300, 300, 3), 230, np.uint8)  # 44 px of a tile of 256 are inside
        path = self.plain(pixels)
        out, summary = self.convert(path, "edge.tif", "--levels", "dyadic", "--tile-px", "64")
        for i in range(len(summary["output"]["levels"])):
            now = tiffs.openslide_read(out, i).astype(int)
            self.assertLessEqual(abs(now - 230).max(), 2, f"level {i}")

    def test_grey(self):
        for w, h in [(1, 1), (300, 200), (257, 255)]:
            for photometric in (1, 0) if w > 128 else (1,):
                with self.subTest(size=(w, h), photometric=photometric):
                    grey = tiffs.tissue(w, h, samples=1)
                    stored = grey if photometric == 1 else 255 - grey
                    path = self.path("grey.tif")
                    tags = tiffs.image_tags(w, h, 1, photometric, tile=(128, 128), samples=1)
                    tiffs.write_tiff(path, [tiffs.Image(
                        tags, [t.tobytes() for t in tiffs.tiles_of(stored, 128, 128)])])
                    self.check_lossless(path, np.repeat(grey, 3, 2), codecs=("zstd",))

    def test_grey_jpeg(self):
        grey = tiffs.tissue(300, 200, samples=1)
        path = self.path("grey.tif")
        tiles = [tiffs.jpeg_encode(t, 95) for t in tiffs.tiles_of(grey, 128, 128)]
        tags = tiffs.image_tags(300, 200, 7, 1, tile=(128, 128), samples=1)
        tiffs.write_tiff(path, [tiffs.Image(tags, tiles)])
        out, _ = self.convert(path, "o.tif", "--levels", "dyadic", "--quality", "95",
                              "--subsampling", "444")
        self.assertGreater(tiffs.psnr(np.repeat(grey, 3, 2), tiffs.openslide_read(out, 0)), 38)

    def test_alpha_is_flattened_on_white(self):
        rng = np.random.default_rng(3)
        rgb = tiffs.tissue(300, 200)
        alpha = rng.integers(0, 256, (200, 300, 1), np.uint8)
        alpha[:50], alpha[50:100] = 0, 255
        a = alpha.astype(float) / 255
        for extra in (1, 2):  # associated, unassociated
            with self.subTest(extra=extra):
                stored = np.rint(rgb * a).astype(np.uint8) if extra == 1 else rgb
                path = self.plain(np.concatenate([stored, alpha], 2), "rgba.tif", 128, extra=extra)
                out, _ = self.convert(path, "o.tif", "--codec", "zstd", "--levels", "source")
                now = self.libtiff.read(out, tiffs.Tiff(out).dirs[0]).astype(float)
                want = (stored if extra == 1 else rgb * a) + 255 * (1 - a)
                self.assertLessEqual(np.abs(now - want).max(), 1.01)
                self.assertTrue((now[:50] == 255).all(), "transparent is white")
                self.assertTrue(np.array_equal(now[50:100], rgb[50:100]), "opaque is itself")

    def test_planes(self):
        pixels = tiffs.tissue(300, 201)
        path = self.path("planar.tif")
        planes = [t[:, :, k].tobytes() for k in range(3) for t in tiffs.tiles_of(pixels, 128, 128)]
        tags = tiffs.image_tags(300, 201, 1, 2, tile=(128, 128), planar=2)
        tiffs.write_tiff(path, [tiffs.Image(tags, planes)])
        self.check_lossless(path, pixels, codecs=("zstd",))
        out, _ = self.convert(path, "o.tif")
        self.assertEqual(tiffs.Tiff(out).dirs[0].one(tiffs.PLANAR), 1)

    def test_strips(self):
        for w, h, rows in [(300, 200, 16), (300, 200, 7), (301, 199, 199), (1, 37, 5), (37, 1, 1),
                           (300, 200, 1)]:
            with self.subTest(size=(w, h), rows=rows):
                pixels = tiffs.tissue(w, h)
                path = self.path("strips.tif")
                strips = [pixels[y:y + rows].tobytes() for y in range(0, h, rows)]
                tags = tiffs.image_tags(w, h, 1, 2, rows_per_strip=rows)
                tiffs.write_tiff(path, [tiffs.Image(tags, strips, tiled=False)])
                self.check_lossless(path, pixels, codecs=("deflate",))

    def test_byte_orders_and_bigtiff(self):
        pixels = tiffs.tissue(300, 200)
        for order in "<>":
            for big in (False, True):
                path = self.path("order.tif")
                tiffs.write_jpeg_tiff(path, pixels, 128, order=order, big=big)
                out, summary = self.convert(path)
                self.assert_level(summary["output"]["levels"][0], how="copied")
                source = tiffs.Tiff(path)
                self.assertEqual((source.order, source.big), (order, big))
                self.assertTrue(np.array_equal(
                    tiffs.decode_jpeg_level(source, source.dirs[0], True),
                    tiffs.openslide_read(out, 0)))

    @unittest.skipUnless(shutil.which("vips"), "vips is not installed")
    def test_what_vips_writes(self):
        pixels = tiffs.tissue(700, 509)
        ppm = self.path("in.ppm")
        with open(ppm, "wb") as f:
            f.write(b"P6 700 509 255\n" + pixels.tobytes())
        for codec in ("none", "lzw", "deflate", "zstd"):
            for shape in (["--tile", "--tile-width", "128", "--tile-height", "64"],
                          ["--tile", "--pyramid", "--bigtiff"], [],
                          ["--tile", "--predictor", "horizontal"]):
                with self.subTest(codec=codec, shape=shape):
                    path = self.path("vips.tif")
                    subprocess.run(["vips", "tiffsave", ppm, path, "--compression", codec, *shape],
                                   check=True)
                    out, _ = self.convert(path, "o.tif", "--codec", "deflate", "--levels", "auto")
                    now = self.libtiff.read(out, tiffs.Tiff(out).dirs[0])
                    self.assertTrue(np.array_equal(now, pixels))
        for shape in (["--tile"], ["--tile", "--pyramid"], []):
            for quality in ("75", "95"):  # 4:2:0 and 4:4:4
                with self.subTest(codec="jpeg", shape=shape, quality=quality):
                    path = self.path("vips.tif")
                    subprocess.run(["vips", "tiffsave", ppm, path, "--compression", "jpeg", "--Q",
                                    quality, *shape], check=True)
                    out, summary = self.convert(path, "o.tif", "--levels", "dyadic", "--codec",
                                                "jpeg")
                    self.assert_level(summary["output"]["levels"][0],
                                      how="copied" if shape else "transcoded")
                    self.assertGreater(tiffs.psnr(pixels, tiffs.openslide_read(out, 0)), 24)

    @unittest.skipUnless(shutil.which("tiffcp"), "libtiff-tools is not installed")
    def test_what_tiffcp_writes(self):
        pixels = tiffs.tissue(517, 300)
        plain = self.plain(pixels)
        for arguments in (["-c", "lzw:2"], ["-c", "lzw"], ["-c", "zip:2"], ["-c", "zstd:2"],
                          ["-c", "none", "-B"], ["-c", "lzw", "-p", "separate"],
                          ["-c", "lzw:2", "-p", "separate"],
                          ["-c", "zip", "-s", "-r", "11"], ["-c", "none", "-s", "-r", "300"],
                          ["-c", "lzw", "-8", "-t", "-w", "80", "-l", "48"]):
            with self.subTest(arguments=arguments):
                path = self.path("cp.tif")
                subprocess.run(["tiffcp", *arguments, plain, path], check=True)
                self.check_lossless(path, pixels, codecs=("zstd",))

    def test_lossless_tiles_are_copied_as_they_are(self):
        pixels = tiffs.tissue(300, 200)
        for codec in LOSSLESS:
            with self.subTest(codec=codec):
                first, _ = self.convert(self.plain(pixels), "first.tif", "--codec", codec,
                                        "--tile-px", "64")
                again, summary = self.convert(first, "again.tif", "--codec", codec)
                self.assertEqual([x["how"] for x in summary["output"]["levels"]],
                                 ["copied"] * len(summary["output"]["levels"]))
                a, b = tiffs.Tiff(first), tiffs.Tiff(again)
                for x, y in zip(a.dirs, b.dirs):
                    for n in range(len(x.offsets)):
                        self.assertEqual(a.tile(x, n), b.tile(y, n))

    def test_icc_profile_goes_to_every_level(self):
        pixels = tiffs.tissue(1100, 600)
        icc = bytes(range(256)) * 50
        path = self.path("icc.tif")
        tags = tiffs.image_tags(1100, 600, 1, 2, tile=(256, 256))
        tags[tiffs.ICC] = (7, list(icc))
        tiffs.write_tiff(path, [tiffs.Image(
            tags, [t.tobytes() for t in tiffs.tiles_of(pixels, 256, 256)])])
        for profile in ("hybrid", "generic"):
            out, _ = self.convert(path, "o.tif", "--levels", "dyadic", "--profile", profile)
            dirs = tiffs.Tiff(out).dirs
            self.assertEqual(len(dirs), 4)
            for d in dirs:
                self.assertEqual(bytes(d.get(tiffs.ICC)), icc)
            self.assertLess(len({d.entries[tiffs.ICC].at for d in dirs}), 2, "stored once")

    def test_what_is_not_8_bit_rgb(self):
        """Refused, or (through OpenSlide) what the picture looks like."""
        for name, bits, samples, photometric in [("16 bits", 16, 3, 2), ("1 bit", 1, 1, 1),
                                                 ("32 bits", 32, 1, 1)]:
            with self.subTest(name):
                path, out = self.path("odd.tif"), self.path("out.tif")
                n = 64 * 64 * samples * bits // 8
                tags = tiffs.image_tags(100, 100, 1, photometric, tile=(64, 64), samples=samples,
                                        bits=bits)
                tiffs.write_tiff(path, [tiffs.Image(tags, [b"\x80" * n] * 4)])
                r = harness.run("convert", "--force", "--codec", "zstd", path, out)
                if r.code != 0:
                    self.assert_refused(r, 65, path)
                else:
                    now = self.libtiff.read(out, tiffs.Tiff(out).dirs[0])
                    self.assertTrue(np.array_equal(now, tiffs.openslide_read(path, 0)))

    @unittest.skipUnless(shutil.which("vips"), "vips is not installed")
    def test_small_levels_through_openslide(self):
        """libtiff draws a level that is smaller than a tile at the wrong place; it must not be kept."""
        pixels = tiffs.tissue(700, 509)
        ppm, path = self.path("in.ppm"), self.path("webp.tif")
        with open(ppm, "wb") as f:
            f.write(b"P6 700 509 255\n" + pixels.tobytes())
        done = subprocess.run(["vips", "tiffsave", ppm, path, "--compression", "webp", "--Q", "95",
                               "--tile", "--tile-width", "256", "--tile-height", "256",
                               "--pyramid"], check=False, capture_output=True)
        if done.returncode != 0:
            raise unittest.SkipTest("no webp in libtiff")
        for mode in ("auto", "source", "dyadic"):
            out, _ = self.convert(path, "o.tif", "--levels", mode, "--codec", "zstd", "--tile-px",
                                  "64")
            reference = pixels
            for i, d in enumerate(tiffs.Tiff(out).dirs):
                now = self.libtiff.read(out, d)
                while reference.shape != now.shape:
                    self.assertGreater(reference.shape[0], 1)
                    reference = tiffs.mean2x2(reference)
                self.assertGreater(tiffs.psnr(reference, now), 28, f"{mode}: level {i}")
        small = tiffs.tissue(100, 80)
        with open(ppm, "wb") as f:
            f.write(b"P6 100 80 255\n" + small.tobytes())
        subprocess.run(["vips", "tiffsave", ppm, path, "--compression", "webp", "--Q", "95",
                        "--tile", "--tile-width", "256", "--tile-height", "256"], check=True)
        r = harness.run("convert", "--force", "--codec", "zstd", "--tile-px", "64", path,
                        self.path("o.tif"))
        if r.code == 0:
            now = self.libtiff.read(self.path("o.tif"), tiffs.Tiff(self.path("o.tif")).dirs[0])
            self.assertGreater(tiffs.psnr(small, now), 28, "smaller than a tile")
        else:
            self.assert_refused(r, 65, path)

    def test_a_huge_grid_of_one_shared_tile(self):
        """100,000 x 100,000 px in a file of a megabyte: bounded memory, and soon done."""
        side, tile = 100000 if harness.LONG else 30000, 512
        n = (-(-side // tile)) ** 2
        white = tiffs.jpeg_encode(np.full((tile, tile, 3), 255, np.uint8), 90, 2)
        path = self.path("huge.tif")
        tags = tiffs.image_tags(side, side, 7, 6, tile=(tile, tile), sampling=(2, 2))
        tiffs.write_tiff(path, [tiffs.Image(tags, [white] * n)], big=True, shared=True)
        out, summary = self.convert(path, "o.tif", "--threads", "2", timeout=120)
        self.assertLess(summary["peak_rss_bytes"], 256 << 20)
        self.assertEqual(summary["output"]["levels"][0]["tiles"], n)


if __name__ == "__main__":
    harness.main()
