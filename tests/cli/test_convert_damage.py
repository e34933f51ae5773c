# ctest: labels=cli,corpus timeout=600
"""Sound slides that were damaged on purpose: each damage is found, placed and told, or, where asked for,
replaced by background and listed."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

TILE = 17  # the one that is damaged: column 7, row 1 of the 10 columns of CMU-1-Small-Region
LEVELS = ("--levels", "dyadic")


def garble(tiff, directory, n):
    """Cut the entropy-coded data short with an early end of image."""
    offset, count = directory.offsets[n], directory.counts[n]
    half = count - count // 2
    tiff.data[offset + count - half:offset + count] = (b"\xff\xd9" * half)[:half]


class Damage(harness.Case):
    def setUp(self):
        super().setUp()
        self.source = harness.slide(harness.CMU1)
        self.tiff = tiffs.Tiff(self.source)
        self.base = self.tiff.dirs[0]
        self.assertEqual((self.base.cols, self.base.rows), (10, 13))
        self.bad = self.path("damaged.svs")
        self.out = self.path("out.tif")

    def refused(self, *options, codes=65, words=()):
        self.tiff.save(self.bad)
        for more in (LEVELS, ("--levels", "auto", "--tiles", "transcode"), ("--codec", "zstd"),
                     ("--tile-px", "512")):
            r = harness.run("convert", *more, *options, self.bad, self.out, timeout=30)
            self.assert_refused(r, codes, self.bad, self.out)
            for word in words:
                self.assertRegex(r.err, word, f"{r}")

    place = (r"level 0", r"column 7", r"row 1\b")

    def replaced(self, options, path=None):
        """Converted with background in place of the tile; all the rest is as it was."""
        out, summary = self.convert(path or self.bad, "replaced.tif", *options)
        now = tiffs.openslide_read(out, 0)
        before = tiffs.openslide_read(self.source, 0)
        x, y = 240 * (TILE % 10), 240 * (TILE // 10)
        self.assertTrue((now[y:y + 240, x:x + 240] == 255).all(), "the tile is white")
        before[y:y + 240, x:x + 240] = 255
        return now, before, summary

    def test_a_file_cut_short_anywhere(self):
        whole = bytes(self.tiff.data)
        cuts = [0, 1, 2, 4, 7, 8, 9, 15, 16, 100, 1000, self.base.offset - 1, self.base.offset,
                self.base.offset + 1, self.base.offset + 2, self.base.offset + 30]
        cuts += [len(whole) * k // 13 for k in range(1, 13)]
        derived = harness.slide(harness.CMU1_420)  # its directory stands first
        with open(derived, "rb") as f:
            other = f.read()
        cases = [(whole, c) for c in cuts] + [(other, len(other) * k // 9) for k in range(1, 9)]
        cases += [(other, len(other) - 1), (other, 16), (other, 40)]
        for data, n in cases:
            with self.subTest(file="svs" if data is whole else "tiff", bytes=n):
                self.tiff.save(self.bad, data[:n])
                r = harness.run("convert", self.bad, self.out, timeout=10)
                self.assert_refused(r, 65, self.bad, self.out)
                r = harness.run("convert", "--levels", "source", "--bad-tile", "blank", self.bad,
                                self.out, timeout=10)
                self.assert_refused(r, 65, self.bad, self.out)

    def test_a_tile_beyond_the_end_of_the_file(self):
        size = len(self.tiff.data)
        for tag, value in [(tiffs.TILE_OFFSETS, size + 1000), (tiffs.TILE_OFFSETS, size - 1),
                           (tiffs.TILE_OFFSETS, 0xFFFFFFFF), (tiffs.TILE_COUNTS, size),
                           (tiffs.TILE_COUNTS, 0xFFFFFFFF)]:
            with self.subTest(tag=tag, value=value):
                self.tiff = tiffs.Tiff(self.source)
                self.tiff.patch(self.base, tag, TILE, value)
                self.refused(words=self.place)

    def test_a_garbled_tile(self):
        garble(self.tiff, self.base, TILE)
        self.refused(words=self.place + (rf"byte {self.base.offsets[TILE]}\b",))

    def test_a_tile_whose_header_is_garbled(self):
        offset = self.base.offsets[TILE]
        for what, new in [("no SOI", b"\0\0"), ("zeros", b"\0" * 200), ("text", b"hello world" * 9)]:
            with self.subTest(what):
                self.tiff = tiffs.Tiff(self.source)
                self.tiff.data[offset:offset + len(new)] = new
                self.refused(words=self.place)

    def test_a_tile_of_another_size_than_the_tag_says(self):
        offset = self.base.offsets[TILE]
        at = bytes(self.tiff.data).index(b"\xff\xc0", offset)
        self.tiff.data[at + 5:at + 9] = b"\x00\xe0\x00\xe0"
        self.refused(words=self.place)

    def test_a_bad_tile_becomes_background_when_asked(self):
        garble(self.tiff, self.base, TILE)
        self.tiff.save(self.bad)
        for options, exact in [(LEVELS, True), (("--tile-px", "512"), True),
                               (("--codec", "zstd"), True), (("--codec", "none"), True)]:
            with self.subTest(options=options):
                now, before, summary = self.replaced(("--bad-tile", "blank", *options))
                self.assertTrue(np.array_equal(now, before), "all the other pixels")
                self.assertEqual(summary["bad_tiles"], 1)
                listed = summary["bad_tile_list"]
                self.assertEqual(len(listed), 1)
                for key, value in [("level", 0), ("column", 7), ("row", 1),
                                   ("offset", self.base.offsets[TILE]),
                                   ("bytes", self.base.counts[TILE])]:
                    self.assertEqual(listed[0][key], value, key)
                self.assertTrue(listed[0]["message"])
        r = harness.run("convert", "--force", "--bad-tile", "blank", *LEVELS, self.bad, self.out)
        self.assertEqual(r.code, 0, r)
        self.assertRegex(r.out, r"1 bad tile")
        self.assertRegex(r.out, r"level 0, column 7, row 1")

    def test_many_bad_tiles_are_all_counted(self):
        bad = list(range(3, len(self.base.offsets), 4))
        for n in bad:
            garble(self.tiff, self.base, n)
        self.tiff.save(self.bad)
        out, summary = self.convert(self.bad, "many.tif", "--bad-tile", "blank", *LEVELS)
        self.assertEqual(summary["bad_tiles"], len(bad))
        self.assertEqual(sorted((x["row"], x["column"]) for x in summary["bad_tile_list"]),
                         [(n // 10, n % 10) for n in bad])
        self.assertEqual(harness.run("verify", out).code, 0)

    def test_a_missing_tile_becomes_background_and_is_told(self):
        self.tiff.patch(self.base, tiffs.TILE_COUNTS, TILE, 0)
        self.tiff.save(self.bad)
        for options in (LEVELS, ("--levels", "source"), ("--tile-px", "512"),
                        ("--codec", "zstd")):
            with self.subTest(options=options):
                now, before, summary = self.replaced(options)
                self.assertTrue(np.array_equal(now, before), "all the other pixels")
                self.assertEqual(summary["source"]["missing_tiles"], 1)
                self.assertEqual(summary["bad_tiles"], 0)
                for d in tiffs.Tiff(self.path("replaced.tif")).dirs:
                    self.assertNotIn(0, d.counts, "no tile without bytes is written")
        r = harness.run("convert", *LEVELS, self.bad, self.out)
        self.assertRegex(r.out, r"1 tile.*missing")

    def test_all_tiles_missing(self):
        for n in range(len(self.base.counts)):
            self.tiff.patch(self.base, tiffs.TILE_COUNTS, n, 0)
        self.tiff.save(self.bad)
        r = harness.run("convert", "--json", self.bad, self.out)
        self.assertIn(r.code, (0, 65), r)
        if r.code == 0:
            self.assertTrue((tiffs.openslide_read(self.out, 0) == 255).all())

    def test_arrays_too_short_for_the_grid_are_missing_tiles(self):
        self.tiff.patch(self.base, tiffs.WIDTH, 0, 2401)
        self.tiff.save(self.bad)
        _, summary = self.convert(self.bad)
        self.assertEqual(summary["source"]["missing_tiles"], 13, "11 x 13 tiles, 130 are there")
        r = harness.run("convert", "--force", self.bad, self.out)
        self.assertRegex(r.out, r"13 tiles missing")

    def test_tiles_that_share_bytes_are_converted(self):
        self.tiff.patch(self.base, tiffs.TILE_OFFSETS, TILE, self.base.offsets[18])
        self.tiff.patch(self.base, tiffs.TILE_COUNTS, TILE, self.base.counts[18])
        self.tiff.save(self.bad)
        for options in (LEVELS, ("--levels", "source"), ("--tile-px", "512"), ("--codec", "zstd")):
            with self.subTest(options=options):
                out, _ = self.convert(self.bad, "shared.tif", *options)
                self.assertTrue(np.array_equal(tiffs.openslide_read(out, 0),
                                               tiffs.openslide_read(self.bad, 0)))

    def test_tiles_that_overlap_are_read_each_for_itself(self):
        self.tiff.patch(self.base, tiffs.TILE_COUNTS, TILE,
                        self.base.counts[TILE] + self.base.counts[TILE + 1] // 2)
        self.tiff.save(self.bad)
        r = harness.run("convert", *LEVELS, self.bad, self.out)
        self.assertIn(r.code, (0, 65), r)

    def test_odd_directories(self):
        def no_tag(tag):
            entry = self.base.entries[tag]
            n = self.tiff._at("H", self.base.offset)
            for i in range(n):
                at = self.base.offset + 2 + 12 * i
                if self.tiff._at("H", at) == entry.tag:
                    self.tiff.data[at:at + 2] = b"\x99\x99"
        cases = {
            "the chain loops": lambda: self.tiff.data.__setitem__(
                slice(self.tiff.dirs[-1].offset + 2 + 12 * len(self.tiff.dirs[-1].entries),
                      self.tiff.dirs[-1].offset + 6 + 12 * len(self.tiff.dirs[-1].entries)),
                self.base.offset.to_bytes(4, "little")),
            "no tile width": lambda: no_tag(tiffs.TILE_WIDTH),
            "no tables": lambda: no_tag(tiffs.JPEG_TABLES),
            "no width": lambda: no_tag(tiffs.WIDTH),
            "no compression": lambda: no_tag(tiffs.COMPRESSION),
            "no offsets": lambda: no_tag(tiffs.TILE_OFFSETS),
            "width 0": lambda: self.tiff.patch(self.base, tiffs.WIDTH, 0, 0),
            "tile width 0": lambda: self.tiff.patch(self.base, tiffs.TILE_WIDTH, 0, 0),
            "tile width 65520": lambda: self.tiff.patch(self.base, tiffs.TILE_WIDTH, 0, 65520),
            "tile width 100": lambda: self.tiff.patch(self.base, tiffs.TILE_WIDTH, 0, 100),
            "compression 200": lambda: self.tiff.patch(self.base, tiffs.COMPRESSION, 0, 200),
            "compression 42": lambda: self.tiff.patch(self.base, tiffs.COMPRESSION, 0, 42),
            "2 samples": lambda: self.tiff.patch(self.base, tiffs.SAMPLES, 0, 2),
            "12 bits": lambda: self.tiff.patch(self.base, tiffs.BITS, 0, 12),
            "planar 7": lambda: self.tiff.patch(self.base, tiffs.PLANAR, 0, 7),
        }
        for name, damage in cases.items():
            with self.subTest(name):
                self.tiff = tiffs.Tiff(self.source)
                damage()
                self.tiff.save(self.bad)
                if os.path.exists(self.out):
                    os.unlink(self.out)
                r = harness.run("convert", self.bad, self.out, timeout=10, memory=1 << 30)
                if r.code == 0 and name == "the chain loops":
                    os.unlink(self.out)
                    continue
                self.assert_refused(r, 65, self.bad, self.out)


if __name__ == "__main__":
    harness.main()
