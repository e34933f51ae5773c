# ctest: labels=corpus timeout=600
"""Retiled levels: the pixels are the source's; with subsampled chroma, but for the lines beside an old
or a new tile edge (the decoder interpolates chroma across what used to be an edge)."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402


def beside_edges(length, sides):
    """True for the first and the last line of every tile of these sides."""
    at = np.arange(length)
    mask = np.zeros(length, bool)
    for side in sides:
        mask |= (at % side == 0) | (at % side == side - 1)
    return mask


class Retiled(harness.Case):
    def retile(self, path, tile_px, *options):
        out, summary = self.convert(path, f"retiled-{tile_px}.tif", "--tiles", "retile",
                                    "--tile-px", str(tile_px), "--levels", "source", *options)
        return out, summary["output"]["levels"]

    def truth(self, path, ycbcr):
        source = tiffs.Tiff(path)
        return tiffs.decode_jpeg_level(source, source.dirs[0], ycbcr)

    def check(self, path, ycbcr, tile_px, old_px, sampling):
        """Retile, and compare pixels as three decoders see them."""
        out, levels = self.retile(path, tile_px)
        self.assert_level(levels[0], how="retiled", tile_width=tile_px, tile_height=tile_px)
        self.assertNotIn("why", levels[0])
        output = tiffs.Tiff(out)
        self.assertEqual(output.dirs[0].one(tiffs.TILE_WIDTH), tile_px)
        self.assertEqual(output.dirs[0].one(tiffs.PHOTOMETRIC), 6 if ycbcr else 2)
        self.assertEqual(tiffs.jpeg_sampling(output.tile(output.dirs[0], 0)), sampling)
        before = self.truth(path, ycbcr)
        now = tiffs.LibTiff().read(out, output.dirs[0])
        self.assertEqual(before.shape, now.shape)
        different = (before != now).any(-1)
        if sampling != (1, 1):
            h, w = different.shape
            columns = beside_edges(w, (old_px, tile_px))
            rows = beside_edges(h, (old_px, tile_px)) if sampling[1] == 2 else np.zeros(h, bool)
            near = rows[:, None] | columns[None, :]
            self.assertGreater(tiffs.psnr(before[near], now[near]), 30, "pixels beside edges")
            different &= ~near
        where = np.argwhere(different)
        self.assertEqual(len(where), 0, f"{len(where)} pixels differ, first {where[:3].tolist()}")
        self.assertTrue(np.array_equal(now, tiffs.openslide_read(out, 0)), "OpenSlide, libtiff")
        return out

    def test_rgb_444_is_identical(self):
        for name, old, new in [(harness.CMU1, 240, 256), (harness.CMU1, 240, 512),
                               (harness.CMU1, 240, 64), (harness.CMU1, 240, 1008),
                               (harness.CMU1, 240, 4096), (harness.BREAST, 256, 512),
                               (harness.BREAST, 256, 240)]:
            with self.subTest(slide=name, tile_px=new):
                self.check(harness.slide(name), False, new, old, (1, 1))

    def test_chroma_420_is_identical_but_beside_edges(self):
        for name, old, new in [(harness.CMU1_420, 256, 512), (harness.CMU1_420, 256, 240),
                               (harness.OS1, 512, 256), (harness.OS1, 512, 1024),
                               (harness.OS1, 512, 240),
                               ("ome-tiff/bfconvert-JPEG.ome.tiff", 128, 512)]:
            with self.subTest(slide=name, tile_px=new):
                self.check(harness.slide(name), True, new, old, (2, 2))

    def test_made_up_slides_of_every_sampling(self):
        for sub, sampling in [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))]:
            for w, h, old, new in [(611, 397, 240, 256), (611, 397, 256, 512), (256, 256, 256, 64),
                                   (257, 1, 128, 64), (1, 300, 64, 256), (512, 512, 128, 512)]:
                with self.subTest(sampling=sampling, size=(w, h), tiles=(old, new)):
                    path = self.path("made.tif")
                    tiffs.write_jpeg_tiff(path, tiffs.tissue(w, h), old, 85, sub)
                    self.check(path, True, new, old, sampling)

    def test_all_levels_of_a_slide_are_retiled(self):
        path = harness.slide(harness.BREAST)
        out, levels = self.retile(path, 512)
        self.assertEqual([x["how"] for x in levels], ["retiled"] * 6)
        for i in range(6):
            self.assertTrue(np.array_equal(tiffs.openslide_read(path, i),
                                           tiffs.openslide_read(out, i)), f"level {i}")

    def test_retiling_there_and_back_gives_the_same_pixels(self):
        path = harness.slide(harness.CMU1)
        there, _ = self.retile(path, 512)
        back, levels = self.retile(there, 240)
        self.assert_level(levels[0], how="retiled")
        self.assertTrue(np.array_equal(tiffs.openslide_read(path, 0),
                                       tiffs.openslide_read(back, 0)))

    def test_what_cannot_be_retiled_falls_back_and_says_why(self):
        mixed, odd, progressive = self.path("mixed.tif"), self.path("odd.tif"), self.path("p.tif")
        pixels = tiffs.tissue(700, 500)
        tiffs.write_jpeg_tiff(mixed, pixels, 256, lambda n: 80 + n, 0)
        tiffs.write_jpeg_tiff(odd, pixels, 200, 90, 2)
        tags = tiffs.image_tags(700, 500, 7, 6, tile=(256, 256), sampling=(1, 1))
        tiffs.write_tiff(progressive, [tiffs.Image(tags, [
            tiffs.jpeg_encode(t, 90, 0, progressive=True) for t in tiffs.tiles_of(pixels, 256, 256)
        ])])
        cases = [(mixed, "table"), (odd, "MCU"), (progressive, "baseline")]
        if harness.slides_dir() is not None:
            cases.append((harness.slide("generic-tiff/CropBreastSlide-flat.tif"), "tiles"))
        for path, word in cases:
            with self.subTest(path=path):
                out, levels = self.retile(path, 512, "--quality", "95", "--subsampling", "444")
                self.assert_level(levels[0], how="transcoded")
                self.assertIn(word, levels[0]["why"])
                text = harness.run("convert", "--force", "--tiles", "retile", "--tile-px", "512",
                                   path, out)
                self.assertIn(levels[0]["why"], text.out)
        out, _ = self.retile(mixed, 512, "--quality", "95", "--subsampling", "444")
        self.assertGreater(tiffs.psnr(self.truth(mixed, True), tiffs.openslide_read(out, 0)), 40)


if __name__ == "__main__":
    harness.main()
