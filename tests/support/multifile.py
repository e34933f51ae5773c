"""Slides of several files as their scanners write them: 3DHISTECH's MIRAX (.mrxs and a folder), Hamamatsu's
VMS (an index and JPEGs with restart markers) and VMU (an index and NGR files). After the readers of
OpenSlide 3.4.1, src/openslide-vendor-mirax.c and openslide-vendor-hamamatsu.c.

Each function writes a slide and returns the pixels of its level 0 (rows, columns, RGB) as a reader must
see them. Nothing here uses slidemill.
"""
import io
import os
import struct

import numpy as np
from PIL import Image

QUALITY = 90


def drawing(width, height, seed):
    """Soft shapes that differ everywhere, so that a tile in the wrong place is seen."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin((x * (3 + seed % 5) + y * i) / (19.0 + 7 * i) + seed) for i in range(3)]
    return np.stack([(w * 100 + 140).clip(0, 255) for w in waves], axis=2).astype(np.uint8)


def half(pixels):
    """2 x 2 means."""
    p = pixels.astype(np.uint16)
    return ((p[0::2, 0::2] + p[1::2, 0::2] + p[0::2, 1::2] + p[1::2, 1::2] + 2) // 4).astype(np.uint8)


def jpeg(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def put(path, *pieces):
    with open(path, "wb") as f:
        for piece in pieces:
            f.write(piece if isinstance(piece, bytes) else piece.encode())


# ---- MIRAX ----

TILE_W, TILE_H = 96, 64
MIRAX_ID = "6F9619FF8B86D011B42D00C04FC964FF"


class Mirax:
    """Slidedat.ini, Index.dat, Data*.dat, filled in the order of the scan."""

    def __init__(self, folder, across, down, n_levels, n_files):
        self.folder, self.across, self.down = folder, across, down
        self.files = [bytearray(b"01.02" + MIRAX_ID.encode() + bytes(256)) for _ in range(n_files)]
        self.levels = [[] for _ in range(n_levels)]
        self.others = []  # (layer, value, section, [lines])

    def store(self, data, fileno):
        at = len(self.files[fileno])
        self.files[fileno] += data
        return at, len(data), fileno

    def add_image(self, level, col, row, data, fileno):
        place = self.store(data, fileno)
        self.levels[level].append((row * self.across + col, *place))

    def add_other(self, layer, value, lines, data, fileno):
        self.others.append((layer, value, lines, self.store(data, fileno)))

    def index(self):
        """Tables of pointers to pages, as the reader walks them."""
        out = bytearray(b"01.02" + MIRAX_ID.encode())
        roots = len(out)
        out += bytes(8)

        def table(root, n):
            struct.pack_into("<i", out, root, len(out))
            start = len(out)
            out.extend(bytes(4 * n))
            return start

        def page(slot, fields):
            struct.pack_into("<i", out, slot, len(out))
            out.extend(struct.pack("<2i", 0, len(out) + 8))
            out.extend(struct.pack(f"<{len(fields)}i", *fields))

        slots = table(roots, len(self.levels))
        for i, images in enumerate(self.levels):
            page(slots + 4 * i, [len(images), 0, *[n for image in images for n in image]])
        slots = table(roots + 4, len(self.others))
        for i, (_, _, _, place) in enumerate(self.others):
            page(slots + 4 * i, [1, 0, 0, 0, *place])
        return bytes(out)

    def ini(self):
        lines = ["[GENERAL]", "SLIDE_VERSION = 01.02", f"SLIDE_ID = {MIRAX_ID}",
                 f"IMAGENUMBER_X = {self.across}", f"IMAGENUMBER_Y = {self.down}",
                 "OBJECTIVE_MAGNIFICATION = 20", "CameraImageDivisionsPerSide = 1",
                 "[HIERARCHICAL]", "INDEXFILE = Index.dat", "HIER_COUNT = 1",
                 "HIER_0_NAME = Slide zoom level", f"HIER_0_COUNT = {len(self.levels)}"]
        for i in range(len(self.levels)):
            lines += [f"HIER_0_VAL_{i} = ZoomLevel_{i}", f"HIER_0_VAL_{i}_SECTION = LAYER_0_LEVEL_{i}_SECTION"]
        layers = list(dict.fromkeys(layer for layer, _, _, _ in self.others))
        lines.append(f"NONHIER_COUNT = {len(layers)}")
        sections = []
        for i, layer in enumerate(layers):
            mine = [o for o in self.others if o[0] == layer]
            lines += [f"NONHIER_{i}_NAME = {layer}", f"NONHIER_{i}_COUNT = {len(mine)}"]
            for j, (_, value, more, _) in enumerate(mine):
                section = f"NONHIERLAYER_{i}_LEVEL_{j}_SECTION"
                lines += [f"NONHIER_{i}_VAL_{j} = {value}", f"NONHIER_{i}_VAL_{j}_SECTION = {section}"]
                sections += [f"[{section}]", *more]
        lines += sections + ["[DATAFILE]", f"FILE_COUNT = {len(self.files)}"]
        lines += [f"FILE_{i} = Data{i:04}.dat" for i in range(len(self.files))]
        for i in range(len(self.levels)):
            lines += [f"[LAYER_0_LEVEL_{i}_SECTION]", f"IMAGE_CONCAT_FACTOR = {min(i, 1)}",
                      "OVERLAP_X = 0", "OVERLAP_Y = 0", f"MICROMETER_PER_PIXEL_X = {0.25 * 2 ** i}",
                      f"MICROMETER_PER_PIXEL_Y = {0.25 * 2 ** i}", "IMAGE_FORMAT = JPEG",
                      "IMAGE_FILL_COLOR_BGR = 16777215", f"DIGITIZER_WIDTH = {TILE_W}",
                      f"DIGITIZER_HEIGHT = {TILE_H}"]
        return "\ufeff" + "\r\n".join(lines) + "\r\n"

    def write(self):
        os.makedirs(self.folder)
        put(os.path.join(self.folder, "Slidedat.ini"), self.ini())
        put(os.path.join(self.folder, "Index.dat"), self.index())
        for i, data in enumerate(self.files):
            put(os.path.join(self.folder, f"Data{i:04}.dat"), bytes(data))


def mirax(path, seed=1, across=8, down=12, n_levels=3, n_files=3):
    """path ends in .mrxs. One image of level 0 is missing, as where a scanner saw no tissue."""
    m = Mirax(path[:-len(".mrxs")], across, down, n_levels, n_files)
    pixels, seen = drawing(across * TILE_W, down * TILE_H, seed), None
    positions = b"".join(struct.pack("<Bii", 0, c * TILE_W, r * TILE_H)
                         for r in range(down) for c in range(across))
    m.add_other("VIMSLIDE_POSITION_BUFFER", "default", ["DUMMY = 0"], positions, 0)
    for value, key in (("ScanDataLayer_SlideThumbnail", "THUMBNAIL_IMAGE_TYPE"),
                       ("ScanDataLayer_SlideBarcode", "BARCODE_IMAGE_TYPE")):
        m.add_other("Scan data layer", value, [f"{key} = JPEG"], jpeg(pixels[:64, :96]), 0)
    for level in range(n_levels):
        step, shown = 2 ** level, np.full_like(pixels, 255)
        for row in range(0, down, step):
            for col in range(0, across, step):
                if level == 0 and (col, row) == (across - 2, 1):
                    continue
                y, x = row // step * TILE_H, col // step * TILE_W
                data = jpeg(np.ascontiguousarray(pixels[y:y + TILE_H, x:x + TILE_W]))
                m.add_image(level, col, row, data, (row + col // step) % n_files)
                shown[y:y + TILE_H, x:x + TILE_W] = decoded(data)
        seen = shown if seen is None else seen
        pixels = half(pixels)
    m.write()
    put(path, jpeg(drawing(64, 64, seed)))  # a small JPEG, for file managers
    return seen


# ---- Hamamatsu VMS ----

RESTART_PX = 64  # width of the pieces between two restart markers, each 8 rows high


def _parts_of(data):
    """(all before the entropy-coded bytes, where SOF begins in it, those bytes) of a baseline JPEG."""
    at, sof = 2, None
    while True:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0]
        if marker == 0xC0:
            sof = at
        at += 2 + length
        if marker == 0xDA:
            return data[:at], sof, data[at:-2]


def restarted_jpeg(pixels):
    """A JPEG with a restart marker after every RESTART_PX x 8 pixels: each piece is coded alone, with the
    same tables, which is what a restart interval means (ITU-T T.81 E.1.4). Also the places after the
    first marker of each row of pieces, as an optimisation file tells them."""
    rows, cols = pixels.shape[0] // 8, pixels.shape[1] // RESTART_PX
    head, body, starts = None, bytearray(), []
    for i in range(rows * cols):
        y, x = i // cols * 8, i % cols * RESTART_PX
        piece = jpeg(np.ascontiguousarray(pixels[y:y + 8, x:x + RESTART_PX]))
        before, sof, coded = _parts_of(piece)
        if head is None:
            head = bytearray(before)
            struct.pack_into(">HH", head, sof + 5, pixels.shape[0], pixels.shape[1])
            head[sof:sof] = struct.pack(">HHH", 0xFFDD, 4, RESTART_PX // 8)  # DRI
        if i > 0:
            body += bytes([0xFF, 0xD0 + (i - 1) % 8])
        if i % cols == 0:
            starts.append(len(head) + len(body))
        body += coded
    return bytes(head) + bytes(body) + b"\xff\xd9", starts


def vms(path, seed=2, widths=(576, 448), heights=(384, 256)):
    """path ends in .vms; a JPEG for each of the widths and heights, a map 1/16 as large, a macro image and
    an optimisation file, named as a NanoZoomer does."""
    stem, folder = os.path.basename(path)[:-len(".vms")], os.path.dirname(path)
    pixels = drawing(sum(widths), sum(heights), seed)
    seen, optimisation, names = np.zeros_like(pixels), bytearray(), []
    for row, height in enumerate(heights):
        for col, width in enumerate(widths):
            y, x = sum(heights[:row]), sum(widths[:col])
            tile = pixels[y:y + height, x:x + width]
            data, starts = restarted_jpeg(tile)
            name = f"{stem}({col},{row}).jpg" if col + row > 0 else f"{stem}.jpg"
            names.append((f"ImageFile({col},{row})" if col + row > 0 else "ImageFile", name))
            put(os.path.join(folder, name), data)
            seen[y:y + height, x:x + width] = decoded(data)
            optimisation += b"".join(struct.pack("<q32x", start) for start in starts)
    data, _ = restarted_jpeg(half(half(half(half(pixels)))))
    put(os.path.join(folder, f"{stem}_map.jpg"), data)
    put(os.path.join(folder, f"{stem}_macro.jpg"), jpeg(drawing(120, 60, seed)))
    put(os.path.join(folder, f"{stem}.opt"), bytes(optimisation))
    put(path, "\r\n".join([
        "[Virtual Microscope Specimen]", "NoLayers=1", f"NoJpegColumns={len(widths)}",
        f"NoJpegRows={len(heights)}",
        *[f"{key}={name}" for key, name in names], f"MapFile={stem}_map.jpg",
        f"OptimisationFile={stem}.opt", f"MacroImage={stem}_macro.jpg", "SourceLens=20",
        f"PhysicalWidth={pixels.shape[1] * 460}", f"PhysicalHeight={pixels.shape[0] * 460}", ""]))
    return seen


# ---- Hamamatsu VMU ----

def ngr(pixels, column):
    """12 bits a sample in 16, columns of `column` pixels one after the other, from top to bottom."""
    height, width, _ = pixels.shape
    head = struct.pack("<2s2xiii8xi", b"GN", width, height, column, 28)
    words = pixels.astype("<u2") << 4
    return head + b"".join(words[:, x:x + column].tobytes() for x in range(0, width, column))


def vmu(path, seed=3, width=640, height=576):
    """path ends in .vmu; the slide and its map as NGR files."""
    stem, folder = os.path.basename(path)[:-len(".vmu")], os.path.dirname(path)
    pixels = drawing(width, height, seed)
    put(os.path.join(folder, f"{stem}.ngr"), ngr(pixels, 128))
    put(os.path.join(folder, f"{stem}_map.ngr"), ngr(half(half(pixels)), 32))
    put(os.path.join(folder, f"{stem}_macro.jpg"), jpeg(drawing(120, 60, seed)))
    put(path, "\r\n".join([
        "[Uncompressed Virtual Microscope Specimen]", "NoLayers=1", f"ImageFile={stem}.ngr",
        f"MapFile={stem}_map.ngr", f"MacroImage={stem}_macro.jpg", "BitsPerPixel=36", "PixelOrder=RGB",
        "SourceLens=20", f"PhysicalWidth={width * 460}", f"PhysicalHeight={height * 460}", ""]))
    return pixels
