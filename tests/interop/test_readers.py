# ctest: labels=interop timeout=600
"""Debian's readers open what slidemill writes: OpenSlide, libtiff, tifffile and libvips see every level,
with the right sizes, pixels and MPP, in both profiles and all codecs."""
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
import pyramids  # noqa: E402
import readers  # noqa: E402
import tiffs  # noqa: E402


class Readers(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.", dir=harness._scratch_base())
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.made = list(pyramids.make(cls("test_openslide"), cls.folder))

    def every(self, check):
        for path, profile, summary in self.made:
            with self.subTest(file=os.path.basename(path)):
                check(path, profile, summary)

    def test_openslide(self):
        def check(path, _profile, summary):
            pyramids.check_openslide(self, readers.seen_by_openslide(path), path, summary)
        self.every(check)

    def test_tifffile(self):
        try:
            import tifffile  # noqa: F401
        except ImportError:
            self.skipTest("python3-tifffile is not installed")

        def check(path, profile, summary):
            pyramids.check_tifffile(self, readers.seen_by_tifffile(path), profile, summary)
        self.every(check)

    def test_tiffinfo_has_nothing_to_warn_of(self):
        if shutil.which("tiffinfo") is None:
            self.skipTest("libtiff-tools is not installed")

        def check(path, profile, summary):
            for options in ([], ["-s"]):
                r = subprocess.run(["tiffinfo", *options, path], capture_output=True, check=False,
                                   timeout=60)
                self.assertEqual(r.stderr, b"", f"tiffinfo {options}")
                self.assertEqual(r.returncode, 0)
            chain = tiffs.Tiff(path)
            n = len(summary["output"]["levels"])
            # It follows a SubIFD's own chain too, so in the hybrid it meets levels more than once.
            listed = {int(x, 16) for x in re.findall(rb"Directory at offset (0x[0-9a-f]+)",
                                                     r.stdout)}
            self.assertEqual(listed, {d.offset for d in chain.dirs})
            self.assertEqual(len(chain.subdirs(0)), n - 1 if profile == "hybrid" else 0)
        self.every(check)

    def test_libtiff_decodes_every_tile_in_silence(self):
        def check(path, profile, summary):
            libtiff, tiff = tiffs.LibTiff(), tiffs.Tiff(path)
            n = len(summary["output"]["levels"])
            for i, d in enumerate(tiff.dirs[:n]):
                pixels = libtiff.read(path, d)
                if tiffs.openslide_can_read(d):
                    self.assertTrue(np.array_equal(pixels, tiffs.openslide_read(path, i)))
            if profile == "hybrid":
                self.assertEqual([d.offset for d in tiff.subdirs(0)],
                                 [d.offset for d in tiff.dirs[1:n]])
            self.assertEqual(libtiff.messages, [])
        self.every(check)

    @unittest.skipUnless(shutil.which("vipsheader"), "libvips-tools is not installed")
    def test_libvips(self):
        ppm = self.path("level.ppm")

        def check(path, profile, summary):
            sizes, libtiff, dirs = pyramids.levels(summary), tiffs.LibTiff(), tiffs.Tiff(path).dirs
            for i, (w, h) in enumerate(sizes):
                names = [f"[page={i}]"]
                if profile == "hybrid":
                    names += [f"[subifd={i - 1}]"]
                for name in names:
                    fields = self.vips("vipsheader", "-a", path + name)
                    self.assertEqual((fields["width"], fields["height"], fields["bands"]),
                                     (str(w), str(h), "3"), name)
                    want = pyramids.mpp(summary)
                    if want[0] is not None:
                        for axis, side in ((0, w), (1, h)):
                            pyramids.close(self, 1000 / float(fields["xy"[axis] + "res"]),
                                           want[axis] * sizes[0][axis] / side, "vips " + name)
                    if profile == "generic" and not harness.LONG:
                        continue
                    r = subprocess.run(["vips", "copy", path + name, ppm], capture_output=True,
                                       check=True, timeout=60)
                    self.assertEqual(r.stderr, b"")
                    self.assertTrue(np.array_equal(tiffs.read_pnm(ppm),
                                                   libtiff.read(path, dirs[i])), name)
        self.every(check)

    def vips(self, *argv):
        r = subprocess.run(argv, capture_output=True, check=False, text=True, timeout=60)
        self.assertEqual((r.returncode, r.stderr), (0, ""), argv)
        fields = dict(line.split(": ", 1) for line in r.stdout.splitlines() if ": " in line)
        self.assertEqual(fields.get("vips-loader"), "tiffload")
        return fields

    @unittest.skipUnless(shutil.which("vips"), "libvips-tools is not installed")
    def test_libvips_through_openslide(self):
        path = self.made[0][0]
        r = subprocess.run(["vips", "openslideload", path, self.path("o.ppm"), "--level", "1"],
                           capture_output=True, check=False, timeout=60)
        if b"openslideload" in r.stderr and b"class" in r.stderr:
            self.skipTest("vips without OpenSlide")
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_slidemill_reads_its_own(self):
        def check(path, _profile, summary):
            info = harness.run("info", "--json", path).json()
            self.assertEqual([[x["width_px"], x["height_px"]] for x in info["levels"]],
                             pyramids.levels(summary))
            for axis, key in enumerate(("mpp_x", "mpp_y")):
                pyramids.close(self, info[key], pyramids.mpp(summary)[axis], key)
            self.assertEqual(info["notes"], [], "tags and streams agree")
            self.assertEqual(info["objective"], summary["source"].get("objective"))
        self.every(check)

    def test_layout(self):
        """Head first, tiles behind it; each structural tag said; levels marked as reduced."""
        def check(path, profile, summary):
            tiff = tiffs.Tiff(path)
            self.assertTrue(tiff.big)
            n = len(summary["output"]["levels"])
            first = min(min(d.offsets) for d in tiff.dirs)
            for i, d in enumerate(tiff.dirs):
                self.assertLess(d.offset, first, "directories stand before tiles")
                for e in d.entries.values():
                    self.assertLess(e.at, first)
                for tag in (tiffs.WIDTH, tiffs.LENGTH, tiffs.BITS, tiffs.COMPRESSION,
                            tiffs.PHOTOMETRIC, tiffs.SAMPLES, tiffs.PLANAR, tiffs.SUBFILE):
                    self.assertIn(tag, d.entries)
                self.assertEqual(sorted(d.entries), list(d.entries), "tags are sorted")
                if i < n:
                    self.assertEqual(d.one(tiffs.SUBFILE), 1 if i > 0 else 0)
                    self.assertEqual((d.one(tiffs.TILE_WIDTH) % 16, d.one(tiffs.TILE_LENGTH) % 16),
                                     (0, 0))
                    self.assertNotIn(0, d.counts)
                    if d.one(tiffs.PHOTOMETRIC) == 2:
                        self.assertNotIn(tiffs.SUBSAMPLING, d.entries)
            text = tiff.dirs[0].one(tiffs.DESCRIPTION).lower()
            self.assertEqual(b"xml" in text, profile == "hybrid")
        self.every(check)


harness.need_slides()
if __name__ == "__main__":
    harness.main()
