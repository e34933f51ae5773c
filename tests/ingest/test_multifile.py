#!/usr/bin/env python3
# ctest: labels=ingest timeout=300
"""Slides of several files (MIRAX, Hamamatsu VMS and VMU) through catalog, ingest and verify: every part is
hashed and recorded, and whatever happens to a part is found and named."""
import hashlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

try:
    import openslide
    import multifile
except ImportError as _e:
    harness.skip_all(f"no slides can be drawn or read without python3-openslide and python3-pil ({_e})")
import numpy as np  # noqa: E402

for _name in list(os.environ):  # what a launcher around this test says is not about ours
    if _name.startswith(("OMPI_COMM_WORLD", "PMIX_", "PMI_", "SLURM_")):
        del os.environ[_name]

SLIDES = {  # name: who draws it, a part of it with pixels, number of parts
    "m/a.mrxs": (multifile.mirax, "m/a/Data0001.dat", 5),
    "v/b.vms": (multifile.vms, "v/b(1,0).jpg", 7),
    "u/c.vmu": (multifile.vmu, "u/c.ngr", 3),
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def level0(path):
    with openslide.OpenSlide(path) as s:
        rgba = np.asarray(s.read_region((0, 0), 0, s.dimensions))
        return s.properties["openslide.vendor"], np.where(rgba[:, :, 3:] == 0, 255, rgba[:, :, :3])


class Multifile(harness.Case):
    def setUp(self):
        super().setUp()
        self.root, self.out, self.catalog = self.path("root"), self.path("out"), self.path("c.smc")
        self.seen = {}
        for name, (draw, _, _) in SLIDES.items():
            os.makedirs(os.path.dirname(self.at(name)))
            self.seen[name] = draw(self.at(name))
        os.mkdir(self.out)

    def at(self, name):
        return os.path.join(self.root, name)

    def ok(self, command, *args, code=0):
        r = harness.run(command, *map(str, args))
        self.assertEqual(r.code, code, r)
        return r

    def create(self):
        return self.ok("catalog", "create", self.root, "-o", self.catalog)

    def ingest(self, *options, code=0):
        r = self.ok("ingest", "--catalog", self.catalog, *options, code=code)
        self.ok("catalog", "merge", self.catalog)
        return r

    def convert(self, code=0):
        return self.ingest("--out", self.out, "--codec", "zstd", "--retry-for", "1", code=code)

    def rows(self):
        r = self.ok("catalog", "list", self.catalog, "--format", "jsonl")
        return {row["path"]: row for row in map(json.loads, r.out.splitlines())}

    def flip(self, name):
        """One byte in the middle, with the size and times as they were: damage below the file system."""
        path, info = self.at(name), os.stat(self.at(name))
        with open(path, "r+b") as f:
            f.seek(info.st_size // 2)
            byte = f.read(1)
            f.seek(info.st_size // 2)
            f.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))

    def test_openslide_sees_what_was_drawn(self):
        for name in SLIDES:
            vendor, pixels = level0(self.at(name))
            self.assertEqual(vendor, "mirax" if name.endswith(".mrxs") else "hamamatsu")
            self.assertTrue(np.array_equal(pixels, self.seen[name]), name)
            shown = subprocess.run(["openslide-show-properties", self.at(name)], capture_output=True,
                                   check=False) if harness.shutil.which("openslide-show-properties") else None
            self.assertTrue(shown is None or shown.returncode == 0, shown)

    def test_each_is_one_slide_with_all_its_parts(self):
        self.assertIn("3 slides", self.create().out)
        rows = self.rows()
        self.assertEqual(set(rows), set(SLIDES))
        for name, (_, _, n) in SLIDES.items():
            folder = os.path.dirname(self.at(name))
            size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files)
            self.assertEqual(rows[name]["parts"], n)
            self.assertEqual(rows[name]["size_bytes"] + rows[name]["parts_bytes"], size)

    def test_converted_pixels_are_those_of_the_slide_and_all_digests_are_recorded(self):
        self.create()
        self.convert()
        for name, row in self.rows().items():
            self.assertEqual(row["state"], "done", row)
            self.assertEqual(row["sha256"], sha256(self.at(name)))
            self.assertEqual([row["width_px"], row["height_px"]], list(self.seen[name].shape[1::-1]))
            _, pixels = level0(os.path.join(self.out, os.path.splitext(name)[0] + ".ome.tiff"))
            self.assertTrue(np.array_equal(pixels, self.seen[name]), name)
        r = self.ok("catalog", "export", self.catalog, "--format", "sha256sum")
        listed = dict(reversed(line.split("  ", 1)) for line in r.out.splitlines())
        for name, (_, part, n) in SLIDES.items():
            self.assertEqual(listed.get(part), sha256(self.at(part)), r.out)
        self.assertEqual(len(listed), 3 + sum(n for _, _, n in SLIDES.values()))
        for what in ("sources", "outputs"):
            self.ok("catalog", "verify", self.catalog, "--what", what)
        self.ok("catalog", "fsck", self.catalog)

    def test_a_flipped_byte_in_a_part_is_found_and_named(self):
        for how in ("verify", "convert"):
            with self.subTest(how):
                self.setUp()
                self.create()
                self.ingest("--hash-only")
                for _, part, _ in SLIDES.values():
                    self.flip(part)
                if how == "verify":
                    self.ok("catalog", "verify", self.catalog, "--what", "sources", code=1)
                else:
                    self.convert(code=1)
                for name, row in self.rows().items():
                    self.assertEqual([row["state"], row["error_class"]], ["quarantined", "digest"], row)
                    self.assertIn(SLIDES[name][1], row["error"])
                self.assertEqual([f for _, _, files in os.walk(self.out) for f in files], [])

    def test_a_missing_part_fails_its_slide_and_is_named(self):
        self.create()
        for _, part, _ in SLIDES.values():
            os.rename(self.at(part), self.path(os.path.basename(part)))
        self.convert(code=1)
        for name, row in self.rows().items():
            self.assertEqual([row["state"], row["error_class"]], ["failed", "missing"], row)
            self.assertIn(SLIDES[name][1], row["error"])
        for _, part, _ in SLIDES.values():
            os.rename(self.path(os.path.basename(part)), self.at(part))
        self.ok("catalog", "retry", self.catalog)
        self.convert()
        self.assertEqual({row["state"] for row in self.rows().values()}, {"done"})

    def test_a_changed_part_makes_the_slide_new_at_the_next_scan(self):
        self.create()
        for _, part, _ in SLIDES.values():
            os.utime(self.at(part), (10 ** 9, 10 ** 9))
        self.convert(code=1)
        for name, row in self.rows().items():
            self.assertEqual([row["state"], row["error_class"]], ["failed", "changed"], row)
            self.assertIn(SLIDES[name][1], row["error"])
        self.ok("catalog", "scan", self.catalog)
        self.assertEqual({row["state"] for row in self.rows().values()}, {"new"})
        self.convert()
        self.assertEqual({row["state"] for row in self.rows().values()}, {"done"})


if __name__ == "__main__":
    harness.main()
