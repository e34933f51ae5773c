"""TIFF files seen from outside: an own small parser (so that a damaged file can be made and compressed
tiles compared), libtiff and libjpeg as second opinions, and arithmetic on pixels.

Nothing here uses slidemill.
"""
import ctypes
import ctypes.util
import io
import struct

import numpy as np

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 270, 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
SUBIFDS, JPEG_TABLES, SUBSAMPLING, ICC = 330, 347, 530, 34675

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii",
          11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}


class Entry:
    """One tag: its values and where they stand in the file."""

    def __init__(self, tag, kind, values, at, size):
        self.tag, self.kind, self.values, self.at, self.size = tag, kind, values, at, size


class Directory:
    """One image file directory."""

    def __init__(self, offset, entries):
        self.offset, self.entries = offset, entries

    def get(self, tag, default=None):
        entry = self.entries.get(tag)
        return default if entry is None else entry.values

    def one(self, tag, default=None):
        values = self.get(tag)
        return default if values is None else values[0]

    @property
    def tiled(self):
        return TILE_WIDTH in self.entries

    @property
    def offsets(self):
        return self.get(TILE_OFFSETS if self.tiled else STRIP_OFFSETS)

    @property
    def counts(self):
        return self.get(TILE_COUNTS if self.tiled else STRIP_COUNTS)

    @property
    def cols(self):
        return -(-self.one(WIDTH) // self.one(TILE_WIDTH)) if self.tiled else 1

    @property
    def rows(self):
        h = self.one(LENGTH)
        return -(-h // (self.one(TILE_LENGTH) if self.tiled else self.one(ROWS_PER_STRIP, h)))


class Tiff:
    """A parsed file: .dirs is the main chain, .subdirs(i) what tag 330 of directory i points at."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = bytearray(f.read())
        self.order = {b"II": "<", b"MM": ">"}[bytes(self.data[:2])]
        self.big = self._at("H", 2) == 43
        self.first_at = 8 if self.big else 4
        self.dirs, seen = [], set()
        offset = self._at("Q" if self.big else "I", self.first_at)
        while offset != 0 and offset not in seen:
            seen.add(offset)
            directory, offset = self._directory(offset)
            self.dirs.append(directory)

    def _at(self, fmt, offset):
        return struct.unpack_from(self.order + fmt, self.data, offset)[0]

    def _directory(self, offset):
        n = self._at("Q" if self.big else "H", offset)
        at, size = (offset + 8, 20) if self.big else (offset + 2, 12)
        entries = {}
        for i in range(n):
            entry = self._entry(at + i * size)
            if entry is not None:
                entries[entry.tag] = entry
        return Directory(offset, entries), self._at("Q" if self.big else "I", at + n * size)

    def _entry(self, at):
        tag, kind = self._at("H", at), self._at("H", at + 2)
        if kind not in _TYPES:
            return None
        count = self._at("Q" if self.big else "I", at + 4)
        fmt = _TYPES[kind]
        each = 1 if fmt == "s" else struct.calcsize("=" + fmt)
        inline = 8 if self.big else 4
        value_at = at + (12 if self.big else 8)
        if each * count > inline:
            value_at = self._at("Q" if self.big else "I", value_at)
        raw = bytes(self.data[value_at:value_at + each * count])
        if fmt == "s":
            values = (raw.rstrip(b"\0"),)
        else:
            values = struct.unpack(self.order + fmt * count, raw)
        if kind in (5, 10):
            values = tuple(a / b if b else float("nan") for a, b in zip(values[::2], values[1::2]))
        return Entry(tag, kind, values, value_at, each)

    def subdirs(self, i):
        return [self._directory(o)[0] for o in self.dirs[i].get(SUBIFDS, ())]

    def tile(self, directory, n):
        """The compressed bytes of tile (strip) n."""
        offset, count = directory.offsets[n], directory.counts[n]
        return bytes(self.data[offset:offset + count])

    def tables(self, directory):
        values = directory.get(JPEG_TABLES)
        return bytes(values) if values is not None else b""

    def patch(self, directory, tag, n, value):
        """Overwrite value n of a tag in .data."""
        e = directory.entries[tag]
        struct.pack_into(self.order + _TYPES[e.kind], self.data, e.at + n * e.size, value)

    def save(self, path, data=None):
        with open(path, "wb") as f:
            f.write(self.data if data is None else data)


# ---- JPEG streams ----

def jpeg_segments(stream):
    """(marker, bytes) of each segment before the entropy-coded data, then (None, the rest)."""
    assert stream[:2] == b"\xff\xd8", "no SOI"
    at = 2
    while True:
        assert stream[at] == 0xFF, f"no marker at {at}"
        while stream[at + 1] == 0xFF:
            at += 1
        marker = stream[at + 1]
        if marker in (0xD9, 0xDA):
            break
        length = struct.unpack_from(">H", stream, at + 2)[0]
        yield marker, stream[at:at + 2 + length]
        at += 2 + length
    yield None, stream[at:]


def jpeg_bare(stream):
    """The stream without COM and APPn (but APP14): what a copy must keep."""
    kept = [s for m, s in jpeg_segments(stream)
            if m is None or not (m == 0xFE or (0xE0 <= m <= 0xEF and m != 0xEE))]
    return b"\xff\xd8" + b"".join(kept)


def jpeg_dropped(stream):
    """True if the stream holds a COM or an APPn other than APP14."""
    return any(m is not None and (m == 0xFE or (0xE0 <= m <= 0xEF and m != 0xEE))
               for m, _ in jpeg_segments(stream))


def jpeg_sampling(stream):
    """(h, v) of luma over chroma, from SOF."""
    for marker, s in jpeg_segments(stream):
        if marker in (0xC0, 0xC1, 0xC2):
            n = s[9]
            factors = [(s[11 + 3 * i] >> 4, s[11 + 3 * i] & 15) for i in range(n)]
            return factors[0][0] // factors[-1][0], factors[0][1] // factors[-1][1]
    raise AssertionError("no SOF")


def jpeg_decode(stream, tables, ycbcr):
    """RGB pixels of a tile, its colour taken from the caller and not from any tag or marker."""
    from PIL import Image
    app14 = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + (b"\x01" if ycbcr else b"\x00")
    head = b"".join(s for m, s in jpeg_segments(tables) if m is not None) if tables else b""
    kept = [s for m, s in jpeg_segments(stream) if m is None or not 0xE0 <= m <= 0xEF]
    image = Image.open(io.BytesIO(b"\xff\xd8" + app14 + head + b"".join(kept)))
    return np.asarray(image.convert("RGB"))


def decode_jpeg_level(tiff, directory, ycbcr):
    """A whole tiled JPEG level by libjpeg."""
    w, h = directory.one(WIDTH), directory.one(LENGTH)
    tw, th = directory.one(TILE_WIDTH), directory.one(TILE_LENGTH)
    out = np.zeros((directory.rows * th, directory.cols * tw, 3), np.uint8)
    tables = tiff.tables(directory)
    for n in range(directory.rows * directory.cols):
        y, x = n // directory.cols * th, n % directory.cols * tw
        out[y:y + th, x:x + tw] = jpeg_decode(tiff.tile(directory, n), tables, ycbcr)
    return out[:h, :w]


# ---- libtiff ----

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
JPEGCOLORMODE = 65538


class LibTiff:
    """The few calls that read a level; every warning and error is kept in .messages."""

    def __init__(self):
        name = ctypes.util.find_library("tiff")
        if name is None:
            raise ImportError("no libtiff")
        self.lib = lib = ctypes.CDLL(name)
        lib.TIFFOpen.restype = ctypes.c_void_p
        lib.TIFFOpen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        lib.TIFFClose.argtypes = [ctypes.c_void_p]
        lib.TIFFSetSubDirectory.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        lib.TIFFTileSize.argtypes = [ctypes.c_void_p]
        lib.TIFFTileSize.restype = ctypes.c_int64
        lib.TIFFReadEncodedTile.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p,
                                            ctypes.c_int64]
        lib.TIFFReadEncodedTile.restype = ctypes.c_int64
        lib.TIFFReadRGBAImageOriented.argtypes = [ctypes.c_void_p, ctypes.c_uint32,
                                                  ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int,
                                                  ctypes.c_int]
        self.messages = []
        keep = lambda module, fmt, _: self.messages.append((module, fmt))  # noqa: E731
        self._handler = _HANDLER(keep)
        for setter in (lib.TIFFSetWarningHandler, lib.TIFFSetErrorHandler):
            setter.restype = ctypes.c_void_p
            setter.argtypes = [_HANDLER]
            setter(self._handler)

    def read(self, path, directory):
        """Pixels of a tiled chunky 8-bit level, as libtiff decodes it."""
        lib = self.lib
        w, h = directory.one(WIDTH), directory.one(LENGTH)
        tw, th = directory.one(TILE_WIDTH), directory.one(TILE_LENGTH)
        samples = directory.one(SAMPLES, 1)
        out = np.zeros((directory.rows * th, directory.cols * tw, samples), np.uint8)
        tile = np.zeros((th, tw, samples), np.uint8)
        handle = lib.TIFFOpen(path.encode(), b"r")
        assert handle, f"libtiff does not open {path}: {self.messages}"
        try:
            assert lib.TIFFSetSubDirectory(handle, directory.offset) == 1, self.messages
            if directory.one(COMPRESSION) == 7 and directory.one(PHOTOMETRIC) == 6:
                lib.TIFFSetField(ctypes.c_void_p(handle), ctypes.c_uint32(JPEGCOLORMODE),
                                 ctypes.c_int(1))
            assert lib.TIFFTileSize(handle) == tile.nbytes, (path, directory.offset)
            for n in range(directory.rows * directory.cols):
                got = lib.TIFFReadEncodedTile(handle, n, tile.ctypes.data, tile.nbytes)
                assert got == tile.nbytes, f"{path}: tile {n}: {self.messages}"
                y, x = n // directory.cols * th, n % directory.cols * tw
                out[y:y + th, x:x + tw] = tile
        finally:
            lib.TIFFClose(handle)
        return out[:h, :w]


# ---- OpenSlide ----

def openslide_can_read(directory):
    """False where OpenSlide on libtiff 4.5 shows a level shifted and partly transparent: not JPEG, and
    smaller than one tile. (TIFFRGBAImageGet then writes fewer rows than OpenSlide asks for.)"""
    return directory.one(COMPRESSION) == 7 or (
        directory.one(WIDTH) >= directory.one(TILE_WIDTH) and
        directory.one(LENGTH) >= directory.one(TILE_LENGTH))


def openslide_read(path, level):
    """RGB of a whole level; every pixel must be opaque."""
    import openslide
    with openslide.OpenSlide(path) as s:
        w, h = s.level_dimensions[level]
        factor = s.level_downsamples[level]
        out = np.zeros((h, w, 3), np.uint8)
        step = max(1, (1 << 24) // w)
        for y in range(0, h, step):
            n = min(step, h - y)
            rgba = np.asarray(s.read_region((0, round(y * factor)), level, (w, n)))
            assert (rgba[:, :, 3] == 255).all(), f"{path}: level {level} is not opaque"
            out[y:y + n] = rgba[:, :, :3]
        return out


# ---- pixels ----

def mean2x2(image):
    """Half size by rounded 2x2 means, floor of the exact half, sides of one pixel kept."""
    a = image.astype(np.uint32)
    if a.shape[0] == 1:
        a = np.repeat(a, 2, 0)
    if a.shape[1] == 1:
        a = np.repeat(a, 2, 1)
    h, w = a.shape[0] // 2, a.shape[1] // 2
    a = a[:2 * h, :2 * w].reshape(h, 2, w, 2, -1)
    return ((a.sum((1, 3)) + 2) // 4).astype(np.uint8)


def psnr(a, b):
    """dB; infinite when equal."""
    assert a.shape == b.shape, f"{a.shape} and {b.shape}"
    mse = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if mse == 0 else 10 * np.log10(255 ** 2 / mse)


def read_pnm(path):
    """Pixels of a binary PGM or PPM."""
    with open(path, "rb") as f:
        data = f.read()
    fields, at = [], 0
    while len(fields) < 4:
        while data[at:at + 1].isspace():
            at += 1
        if data[at:at + 1] == b"#":
            at = data.index(b"\n", at)
            continue
        end = at
        while not data[end:end + 1].isspace():
            end += 1
        fields.append(data[at:end])
        at = end
    samples = {b"P5": 1, b"P6": 3}[fields[0]]
    w, h = int(fields[1]), int(fields[2])
    return np.frombuffer(data, np.uint8, w * h * samples, at + 1).reshape(h, w, samples)


# ---- writing small TIFFs, sound or odd ----

class Image:
    """One directory to be written: tags (tag -> (type, values)) and the bytes of its tiles."""

    def __init__(self, tags, tiles, tiled=True):
        self.tags, self.tiles, self.tiled = dict(tags), tiles, tiled


def image_tags(w, h, compression, photometric, tile=None, rows_per_strip=None, samples=3,
               subfile=None, **more):
    """The usual tags; more: sampling=(2, 2), tables=bytes, planar=2, extra=2, predictor=2, bits=8."""
    tags = {WIDTH: (4, [w]), LENGTH: (4, [h]), BITS: (3, [more.get("bits", 8)] * samples),
            COMPRESSION: (3, [compression]), PHOTOMETRIC: (3, [photometric]),
            SAMPLES: (3, [samples]), PLANAR: (3, [more.get("planar", 1)])}
    if tile is not None:
        tags[TILE_WIDTH], tags[TILE_LENGTH] = (4, [tile[0]]), (4, [tile[1]])
    else:
        tags[ROWS_PER_STRIP] = (4, [rows_per_strip or h])
    if subfile is not None:
        tags[SUBFILE] = (4, [subfile])
    if "sampling" in more:
        tags[SUBSAMPLING] = (3, list(more["sampling"]))
    if "tables" in more:
        tags[JPEG_TABLES] = (7, list(more["tables"]))
    if "predictor" in more:
        tags[PREDICTOR] = (3, [more["predictor"]])
    if "extra" in more:
        tags[338] = (3, [more["extra"]])
    return tags


def write_tiff(path, images, order="<", big=False, shared=False):
    """Write images as a chain of directories: all tiles first, directories behind them. shared: tiles
    of the same bytes are stored once."""
    word, size, entry = ("Q", 8, 20) if big else ("I", 4, 12)
    out = bytearray(b"II" if order == "<" else b"MM")
    if big:
        out += struct.pack(order + "HHHQ", 43, 8, 0, 0)
    else:
        out += struct.pack(order + "HI", 42, 0)
    link = 8 if big else 4
    for image in images:
        offsets, stored = [], {}
        for tile in image.tiles:
            if not shared or tile not in stored:
                stored[tile] = len(out)
                out += tile + b"\0" * (len(tile) % 2)
            offsets.append(stored[tile])
        tags = dict(image.tags)
        kind = 16 if big else 4
        tags[TILE_OFFSETS if image.tiled else STRIP_OFFSETS] = (kind, offsets)
        tags[TILE_COUNTS if image.tiled else STRIP_COUNTS] = (kind, [len(t) for t in image.tiles])
        fields = bytearray()
        for tag in sorted(tags):
            kind, values = tags[tag]
            raw = values if kind == 2 else struct.pack(
                order + _TYPES[kind] * (len(values) // (2 if kind in (5, 10) else 1)), *values)
            n = len(raw) if kind == 2 else len(values) // (2 if kind in (5, 10) else 1)
            fields += struct.pack(order + "HH" + word, tag, kind, n)
            if len(raw) > size:
                out += b"\0" * (len(out) % 2)
                fields += struct.pack(order + word, len(out))
                out += raw
            else:
                fields += raw + b"\0" * (size - len(raw))
        out += b"\0" * (len(out) % 2)
        struct.pack_into(order + word, out, link, len(out))
        out += struct.pack(order + ("Q" if big else "H"), len(tags)) + fields
        link = len(out)
        out += b"\0" * size
    with open(path, "wb") as f:
        f.write(out)


def tiles_of(image, tw, th):
    """Full tiles of an image, row by row; the edge is continued beyond it."""
    h, w = image.shape[:2]
    rows, cols = -(-h // th), -(-w // tw)
    padded = np.pad(image, ((0, rows * th - h), (0, cols * tw - w), (0, 0)), mode="edge")
    return [padded[r * th:(r + 1) * th, c * tw:(c + 1) * tw] for r in range(rows)
            for c in range(cols)]


def jpeg_encode(pixels, quality=90, subsampling=0, **more):
    """A complete JFIF stream; subsampling 0, 1, 2: 4:4:4, 4:2:2, 4:2:0. Grey if one sample."""
    from PIL import Image as Pil
    out = io.BytesIO()
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    image = Pil.fromarray(np.ascontiguousarray(pixels.reshape(pixels.shape[:2]) if grey
                                               else pixels))
    if grey:
        image.save(out, "JPEG", quality=quality, **more)
    else:
        image.save(out, "JPEG", quality=quality, subsampling=subsampling, **more)
    return out.getvalue()


def write_jpeg_tiff(path, pixels, tile=256, quality=90, subsampling=2, **more):
    """A tiled TIFF of complete JPEG streams; quality may be a function of the tile's number."""
    tiles = [jpeg_encode(t, quality(i) if callable(quality) else quality, subsampling)
             for i, t in enumerate(tiles_of(pixels, tile, tile))]
    h, w = pixels.shape[:2]
    sampling = {0: (1, 1), 1: (2, 1), 2: (2, 2)}[subsampling]
    write_tiff(path, [Image(image_tags(w, h, 7, 6, tile=(tile, tile), sampling=sampling), tiles)],
               **more)


def tissue(w, h, seed=1, samples=3):
    """A picture with smooth and busy parts, the same for the same seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = []
    for k in range(samples):
        f = 0.02 + 0.013 * k + 0.003 * seed
        plane = 150 + 60 * np.sin(f * x + k) * np.cos(0.7 * f * y) + 25 * np.sin(0.3 * (x + y) + k)
        planes.append(plane + rng.normal(0, 4, (h, w)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
