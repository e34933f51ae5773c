"""The pyramids that the interop tests show to other readers, and what those must see."""
import os

import harness
import tiffs

# name, options; the source is CMU-1-Small-Region but where another is named
CASES = [
    ("copied", [], None),
    ("dyadic", ["--levels", "dyadic"], None),
    ("retiled", ["--levels", "dyadic", "--tile-px", "512"], None),
    ("transcoded", ["--levels", "dyadic", "--tiles", "transcode", "--quality", "95"], None),
    ("zstd", ["--levels", "dyadic", "--codec", "zstd", "--tile-px", "256"], None),
    ("deflate", ["--levels", "dyadic", "--codec", "deflate", "--tile-px", "256"], None),
    ("lzw", ["--levels", "dyadic", "--codec", "lzw", "--tile-px", "256"], None),
    ("none", ["--codec", "none"], None),
    ("ycbcr", ["--levels", "dyadic"], harness.CMU1_420),
    ("two-mpps", ["--levels", "dyadic"], harness.OS1),
    ("kept", ["--levels", "source"], harness.BREAST),
    ("associated", ["--levels", "dyadic", "--associated", "keep"], None),
]


def make(case, folder):
    """(path, profile, summary) of one case in both profiles."""
    for name, options, source in CASES:
        for profile in ("hybrid", "generic"):
            suffix = ".ome.tiff" if profile == "hybrid" else ".tif"
            out = os.path.join(folder, f"{name}-{profile}{suffix}")
            r = harness.run("convert", "--json", "--quiet", "--profile", profile, *options,
                            harness.slide(source or harness.CMU1), out)
            case.assertEqual(r.code, 0, r)
            yield out, profile, r.json()


def levels(summary):
    return [[x["width"], x["height"]] for x in summary["output"]["levels"]]


def mpp(summary):
    return [summary["source"].get("mpp_x"), summary["source"].get("mpp_y")]


def close(case, got, want, what):
    """MPP is right to 1e-4, or not there where the source has none."""
    if want is None:
        case.assertIsNone(got, what)
    else:
        case.assertIsNotNone(got, what)
        case.assertLessEqual(abs(got / want - 1), 1e-4, f"{what}: {got} for {want}")


def readable_levels(path):
    """How many levels OpenSlide draws right (see tiffs.openslide_can_read)."""
    dirs = [d for d in tiffs.Tiff(path).dirs if d.tiled]
    return sum(1 for d in dirs if tiffs.openslide_can_read(d))


def check_openslide(case, seen, path, summary):
    sizes = levels(summary)
    case.assertEqual(seen["vendor"], "generic-tiff")
    case.assertEqual(seen["sizes"], sizes, "levels in OpenSlide")
    for (w, h), d in zip(sizes, seen["downsamples"]):
        case.assertAlmostEqual(d, (sizes[0][0] / w + sizes[0][1] / h) / 2, delta=0.05 * d)
    nearest = [2 ** round(__import__("math").log2(d)) for d in seen["downsamples"]]
    for d, n in zip(seen["downsamples"], nearest):
        case.assertLess(abs(d / n - 1), 0.05, "downsamples are powers of two")
    for axis in (0, 1):
        close(case, seen["mpp_by_tag"][axis], mpp(summary)[axis], "tiff.XResolution")
        if int(seen["version"].split(".")[0]) >= 4:
            close(case, seen["mpp"][axis], mpp(summary)[axis], "openslide.mpp")
    if readable_levels(path) == len(sizes):
        case.assertTrue(seen["opaque"], "every pixel is there")


def check_tifffile(case, seen, profile, summary):
    sizes = levels(summary)
    case.assertEqual(seen["is_ome"], profile == "hybrid")
    case.assertEqual(seen["page_sizes"][:len(sizes)], sizes, "the main chain")
    if profile == "hybrid":
        case.assertEqual((seen["kind"], seen["n_series"], seen["axes"]), ("ome", 1, "YXS"))
        case.assertEqual(seen["sizes"], sizes, "levels of the OME series")
        case.assertEqual(seen["ome_size"], sizes[0])
        for axis in (0, 1):
            close(case, seen["ome_mpp"][axis], mpp(summary)[axis], "PhysicalSize")
        if mpp(summary)[0] is not None:
            case.assertEqual(seen["ome_unit"], "\u00b5m")
    for i, size in enumerate(sizes):
        for axis in (0, 1):
            want = mpp(summary)[axis]
            got = seen["mpp_by_tag"][i]
            if want is None:
                case.assertIsNone(got)
                continue
            close(case, got[axis], want * sizes[0][axis] / size[axis], f"tags of level {i}")
