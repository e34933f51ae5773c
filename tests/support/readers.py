"""What other programs see of a pyramid. Library of the interop tests; as a program it is run by another
Python (that of a virtual environment with newer readers):

    python readers.py REPORT FILE...    writes what OpenSlide and tifffile see, as JSON
"""
import json
import sys
import xml.etree.ElementTree as ET


def seen_by_openslide(path):
    """Levels, downsamples and MPP as OpenSlide has them; a digest of each level's pixels."""
    import hashlib

    import numpy as np
    import openslide
    with openslide.OpenSlide(path) as s:
        p = s.properties
        unit = {"centimeter": 1e4, "inch": 25400}.get(p.get("tiff.ResolutionUnit"))
        by_tag = [unit / float(p[f"tiff.{a}Resolution"]) if unit else None for a in "XY"]
        digests, opaque = [], True
        for level, (w, h) in enumerate(s.level_dimensions):
            pixels = np.asarray(s.read_region((0, 0), level, (w, h)))
            opaque = opaque and bool((pixels[:, :, 3] == 255).all())
            digests.append(hashlib.sha256(pixels[:, :, :3].tobytes()).hexdigest())
        return {"vendor": p["openslide.vendor"], "sizes": [list(x) for x in s.level_dimensions],
                "downsamples": list(s.level_downsamples), "mpp_by_tag": by_tag,
                "mpp": [float(p["openslide.mpp-" + a]) if "openslide.mpp-" + a in p else None
                        for a in "xy"],
                "version": openslide.__library_version__, "digests": digests, "opaque": opaque,
                "associated": sorted(s.associated_images)}


def seen_by_tifffile(path, decode=False):
    """Series, levels and MPP as tifffile has them."""
    import hashlib

    import tifffile
    with tifffile.TiffFile(path) as t:
        series = t.series
        out = {"is_ome": t.is_ome, "is_bigtiff": t.is_bigtiff, "n_series": len(series),
               "kind": series[0].kind, "axes": series[0].axes,
               "sizes": [list(x.shape[1::-1]) for x in series[0].levels],
               "version": tifffile.__version__, "page_sizes": [], "mpp_by_tag": []}
        for page in t.pages:
            page = page.aspage() if hasattr(page, "aspage") else page
            out["page_sizes"].append([page.imagewidth, page.imagelength])
            mpp = []
            for tag in ("XResolution", "YResolution"):
                value = page.tags.get(tag)
                mpp.append(1e4 * value.value[1] / value.value[0] if value is not None else None)
            unit = page.tags.get("ResolutionUnit")
            out["mpp_by_tag"].append(mpp if unit is not None and int(unit.value) == 3 else None)
        if t.is_ome:
            pixels = ET.fromstring(t.ome_metadata).find(".//{*}Pixels")
            out["ome_mpp"] = [float(pixels.get("PhysicalSize" + a))
                              if pixels.get("PhysicalSize" + a) else None for a in "XY"]
            out["ome_unit"] = pixels.get("PhysicalSizeXUnit")
            out["ome_size"] = [int(pixels.get("SizeX")), int(pixels.get("SizeY"))]
        if decode:
            out["digests"] = [hashlib.sha256(x.asarray().tobytes()).hexdigest()
                              for x in series[0].levels]
        return out


def main(argv):
    report = {}
    for path in argv[2:]:
        report[path] = {"openslide": seen_by_openslide(path),
                        "tifffile": seen_by_tifffile(path, decode=True)}
    with open(argv[1], "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)


if __name__ == "__main__":
    main(sys.argv)
