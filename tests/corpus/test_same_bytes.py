# ctest: labels=corpus timeout=900
"""Same slide and options, same bytes: for any number of threads, either I/O back end, and again."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import numpy as np  # noqa: E402
import tiffs  # noqa: E402

MODES = {
    "copied, dyadic": ["--levels", "dyadic"],
    "source levels": ["--levels", "source"],
    "retiled": ["--levels", "dyadic", "--tile-px", "512"],
    "retiled to smaller tiles": ["--levels", "dyadic", "--tiles", "retile", "--tile-px", "128"],
    "transcoded": ["--levels", "dyadic", "--tiles", "transcode", "--quality", "80"],
    "zstd": ["--levels", "dyadic", "--codec", "zstd"],
    "deflate": ["--levels", "auto", "--codec", "deflate", "--profile", "generic"],
    "lzw, nothing shared": ["--codec", "lzw", "--blank", "full"],
    "none": ["--codec", "none", "--tile-px", "256"],
}
WAYS = [("1", {}), ("2", {}), ("7", {}), ("1", {"SLIDEMILL_IO": "threads"}),
        ("2", {"SLIDEMILL_IO": "threads"}), ("7", {"SLIDEMILL_IO": "threads"}),
        ("7", {"TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8", "HOSTNAME": "elsewhere"})]


class SameBytes(harness.Case):
    on_disk = True  # where writes take their time

    def check(self, source, modes=tuple(MODES), ways=tuple(WAYS)):
        for mode in modes:
            with self.subTest(source=os.path.basename(source), mode=mode):
                digests = {}
                for n, (threads, env) in enumerate(ways):
                    out, summary = self.convert(source, f"way-{n}.tif", "--threads", threads,
                                                *MODES[mode], env=env)
                    self.assertEqual(summary["threads"], int(threads))
                    if "SLIDEMILL_IO" in env and summary["streamed"]:
                        self.assertIn("threads", summary["io"])
                    digest = self.sha256(out)
                    self.assertEqual(summary["output"]["sha256"], digest, "the digest it tells")
                    self.assertEqual(summary["source"]["sha256"], self.sha256(source))
                    self.assertEqual(summary["output"]["bytes"], os.path.getsize(out))
                    digests[threads, str(env)] = digest
                    os.unlink(out)
                self.assertEqual(len(set(digests.values())), 1, digests)

    def test_a_real_slide(self):
        self.check(harness.slide(harness.CMU1), ways=WAYS if harness.LONG else WAYS[1:4])

    def test_a_slide_with_levels_in_each_order_of_tiles(self):
        for order in ("rows", "columns", "shuffled"):
            path = harness.mosaic(self.path(f"{order}.svs"), "--width", 3100, "--height", 2300,
                                  "--levels", "1,4,16", "--order", order)
            modes = MODES if harness.LONG or order == "shuffled" else list(MODES)[:4]
            self.check(path, modes, WAYS if harness.LONG else WAYS[::2])

    def test_slides_through_openslide(self):
        ways = WAYS if harness.LONG else (WAYS[0], WAYS[5])
        for name in ("aperio/tcga-cr-7395-01a-01-ts1.svs", "hamamatsu/test3-DAPI-2-387.ndpi"):
            self.check(harness.slide(name), ["copied, dyadic"] +
                       (["zstd"] if harness.LONG else []), ways)

    def test_many_threads_on_few_tiles(self):
        path = self.path("one.tif")
        tiffs.write_jpeg_tiff(path, tiffs.tissue(200, 100), 256)
        self.check(path, ["copied, dyadic", "zstd"], WAYS + [("64", {})])

    def test_the_order_of_the_source_tiles_does_not_change_the_pixels(self):
        levels = {}
        for order in ("rows", "columns", "shuffled"):
            path = harness.mosaic(self.path(f"{order}.svs"), "--width", 2900, "--height", 2100,
                                  "--order", order)
            out, summary = self.convert(path, f"{order}.tif", "--levels", "dyadic", "--codec",
                                        "zstd")
            libtiff = tiffs.LibTiff()
            levels[order] = [libtiff.read(out, d) for d in tiffs.Tiff(out).dirs]
            self.assertEqual(len(levels[order]), len(summary["output"]["levels"]))
        for order in ("columns", "shuffled"):
            for i, (a, b) in enumerate(zip(levels["rows"], levels[order])):
                self.assertTrue(np.array_equal(a, b), f"{order}: level {i}")

    def test_nothing_in_the_file_says_where_it_was_made(self):
        path = harness.mosaic(self.path("unmistakable-source-name.svs"))
        out, _ = self.convert(path, "unmistakable-target-name.tif")
        with open(out, "rb") as f:
            data = f.read()
        words = [b"unmistakable", self.dir.encode(), os.uname().nodename.encode()]
        for word in [w for w in words if len(w) > 6]:
            self.assertNotIn(word, data)


if __name__ == "__main__":
    harness.main()
