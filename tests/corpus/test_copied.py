# ctest: labels=corpus timeout=600
"""Copied levels: compressed bytes and decoded pixels are the source's."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

# slide, --codec, levels it has, what its JPEG streams hold (None: not JPEG),
# whether its own tags tell the truth about that, whether OpenSlide 3.4 opens it
SLIDES = [
    (harness.CMU1, "jpeg", 1, "rgb", True, True),
    (harness.BREAST, "jpeg", 6, "rgb", True, True),
    (harness.CMU1_420, "jpeg", 1, "ycbcr", True, True),
    (harness.OS1, "jpeg", 1, "ycbcr", False, False),
    ("ome-tiff/bfconvert-JPEG.ome.tiff", "jpeg", 1, "ycbcr", False, False),
    ("generic-tiff/BRACS_1640_N_3_cropped.tiff", "none", 3, None, True, True),
    ("synthetic/openslide-python-boxes.tiff", "deflate", 4, None, True, True),
    ("synthetic/openslide-python-small.svs", "jpeg", 1, "rgb", True, True),
    ("ome-tiff/bfconvert-zlib.ome.tiff", "deflate", 1, None, True, False),
]


def levels_of(tiff):
    return [d for d in tiff.dirs if d.tiled] if len(tiff.dirs) > 1 else tiff.dirs + tiff.subdirs(0)


class Copied(harness.Case):
    def check_bytes(self, source, output, jpeg):
        for i, (a, b) in enumerate(zip(levels_of(source), output.dirs)):
            self.assertEqual(len(a.offsets), len(b.offsets), f"tiles of level {i}")
            self.assertEqual(jpeg and tiffs.jpeg_bare(source.tables(a)) if source.tables(a) else b"",
                             output.tables(b), f"tables of level {i}")
            for n in range(len(a.offsets)):
                x, y = source.tile(a, n), output.tile(b, n)
                if jpeg:
                    self.assertFalse(tiffs.jpeg_dropped(y), f"level {i} tile {n}: COM or APPn")
                    x = tiffs.jpeg_bare(x)
                self.assertEqual(x, y, f"level {i} tile {n}")

    def check_pixels(self, path, source, out, output, colour, honest, by_openslide):
        libtiff = tiffs.LibTiff()
        for i, (a, b) in enumerate(zip(levels_of(source), output.dirs)):
            now = libtiff.read(out, b)
            if colour is not None:
                truth = tiffs.decode_jpeg_level(source, a, colour == "ycbcr")
                self.assertTrue(np.array_equal(truth, now), f"level {i}: libtiff, true colours")
            if honest:
                self.assertTrue(np.array_equal(libtiff.read(path, a), now), f"level {i}: libtiff")
            if not tiffs.openslide_can_read(b):
                continue
            seen = tiffs.openslide_read(out, i)
            self.assertTrue(np.array_equal(seen, now), f"level {i}: OpenSlide, libtiff")
            if by_openslide:
                self.assertTrue(np.array_equal(tiffs.openslide_read(path, i), seen),
                                f"level {i}: OpenSlide")

    def test_levels_keep_their_bytes_and_their_pixels(self):
        for name, codec, n_levels, colour, honest, by_openslide in SLIDES:
            with self.subTest(slide=name):
                path = harness.slide(name)
                out, summary = self.convert(path, os.path.basename(name) + ".tif", "--tiles",
                                            "copy", "--levels", "source", "--codec", codec)
                levels = summary["output"]["levels"]
                self.assertEqual(len(levels), n_levels)
                for level in levels:
                    self.assert_level(level, how="copied", codec=codec)
                    if colour is not None:
                        self.assert_level(level, colour=colour)
                source, output = tiffs.Tiff(path), tiffs.Tiff(out)
                self.assertEqual(len(output.dirs), n_levels)
                self.check_bytes(source, output, colour is not None)
                self.check_pixels(path, source, out, output, colour, honest, by_openslide)

    def test_level_0_is_copied_when_a_pyramid_is_made_from_it(self):
        for name, codec, _, colour, _, _ in SLIDES:
            with self.subTest(slide=name):
                path = harness.slide(name)
                out, summary = self.convert(path, os.path.basename(name) + ".tif", "--levels",
                                            "dyadic", "--codec", codec)
                self.assert_level(summary["output"]["levels"][0], how="copied")
                source, output = tiffs.Tiff(path), tiffs.Tiff(out)
                output.dirs = output.dirs[:1]
                self.check_bytes(source, output, colour is not None)

    def test_copy_refuses_what_it_would_have_to_decode(self):
        cases = [
            ("aperio/tcga-cr-7395-01a-01-ts1.svs", [], "OpenSlide"),
            ("generic-tiff/CropBreastSlide-flat.tif", [], "strips"),
            (harness.CMU1, ["--codec", "zstd"], "zstd"),
            (harness.CMU1, ["--tile-px", "256"], "240 x 240"),
            ("generic-tiff/BRACS_1640_N_3_cropped.tiff", [], "none"),
        ]
        for name, options, word in cases:
            with self.subTest(slide=name, options=options):
                path, out = harness.slide(name), self.path("refused.tif")
                r = harness.run("convert", "--tiles", "copy", *options, path, out)
                self.assert_refused(r, (2, 65), path, out)
                self.assertIn(word, r.err)
                self.assertIn("level 0", r.err)

    def test_private_segments_do_not_come_along(self):
        path = self.path("private.tif")
        pixels = tiffs.tissue(300, 200)
        tiles = []
        for t in tiffs.tiles_of(pixels, 128, 128):
            s = tiffs.jpeg_encode(t, 90, 2)
            secret = b"PATIENT NAME 4711"
            extra = b"".join(b"\xff" + bytes([m]) + (len(secret) + 2).to_bytes(2, "big") + secret
                             for m in (0xFE, 0xE1, 0xED))
            tiles.append(s[:2] + extra + s[2:])
        tags = tiffs.image_tags(300, 200, 7, 6, tile=(128, 128), sampling=(2, 2))
        tags[tiffs.DESCRIPTION] = (2, b"PATIENT NAME 4711\0")
        tags[315] = (2, b"PATIENT NAME 4711\0")
        tiffs.write_tiff(path, [tiffs.Image(tags, tiles)])
        out, summary = self.convert(path)
        self.assert_level(summary["output"]["levels"][0], how="copied")
        with open(out, "rb") as f:
            self.assertNotIn(b"PATIENT", f.read())
        source, output = tiffs.Tiff(path), tiffs.Tiff(out)
        output.dirs = output.dirs[:1]
        self.check_bytes(source, output, True)


harness.need_slides()
if __name__ == "__main__":
    harness.main()
