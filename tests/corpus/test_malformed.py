# ctest: labels=corpus timeout=1800
"""Broken and odd files out of public fuzz corpora: each ends in a sound pyramid or in one line that names
the file; within 10 s and 1 GiB, and nothing is left behind.

Short form: every fourth file, and all that are known to be TIFF; SLIDEMILL_LONG=1: all of them, in
several modes. SLIDEMILL_ASAN_BIN: programs of an AddressSanitizer build to run as well.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

TIME_S, MEMORY = 10, 1 << 30
MODES = [["--levels", "auto"], ["--levels", "dyadic", "--codec", "zstd", "--tile-px", "256"],
         ["--levels", "source", "--bad-tile", "blank"], ["--tiles", "retile"]]


def files():
    found = []
    top = os.path.join(os.fsencode(harness.slides_dir()), b"malformed")
    for folder, _, names in os.walk(top):
        found += [os.path.join(folder, n) for n in names]
    return sorted(found)


def masked(name):
    """A file name as messages show it: control characters are '?'."""
    out, i = bytearray(), 0
    while i < len(name):
        c1 = name[i] == 0xC2 and i + 1 < len(name) and 0x80 <= name[i + 1] <= 0x9F
        out += b"??" if c1 else b"?" if name[i] < 0x20 or name[i] == 0x7F else name[i:i + 1]
        i += 2 if c1 else 1
    return bytes(out)


def limits():
    import resource
    if not harness.SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def call(folder, bin_dir, program, *args):
    """(exit code or None, stdout, stderr)"""
    slow = harness.SLOWER if bin_dir == harness.BIN else 8
    p = subprocess.Popen([os.path.join(bin_dir, "slidemill-" + program), *args], cwd=folder,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE,
                         preexec_fn=limits if bin_dir == harness.BIN else None)
    try:
        out, err = p.communicate(timeout=TIME_S * slow)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        return None, b"", b""
    return p.returncode, out, err


def wrong(path, bin_dir, mode):
    """What is wrong with how one file was treated; "" if nothing."""
    folder = tempfile.mkdtemp(prefix="slidemill-test.", dir=harness._scratch_base())
    try:
        code, out, err = call(folder, bin_dir, "convert", "--threads", "2", "--quiet", *mode, path,
                              "out.tif")
        if code is None:
            return "hangs"
        if b"Sanitizer" in err or b"runtime error:" in err:
            return "sanitizer: " + err.decode("utf-8", "replace")[:2000]
        if code not in harness.ALLOWED:
            return f"exit {code}: {err[-300:]!r}"
        left = os.listdir(folder)
        if code == 0:
            if left != ["out.tif"] or out or err:
                return f"success with {left} {out!r} {err!r}"
            code, _, err = call(folder, bin_dir, "verify", "--quiet", "out.tif")
            return "" if code == 0 else f"the output does not verify ({code}): {err!r}"
        if left:
            return f"left behind: {left}"
        if err.count(b"\n") != 1 or not err.endswith(b"\n"):
            return f"not one line: {err!r}"
        if masked(os.path.basename(path)) not in err:
            return f"does not name the file: {err!r}"
        return ""
    finally:
        shutil.rmtree(folder, True)


class Malformed(unittest.TestCase):
    def sweep(self, paths, bin_dir, mode):
        # Two at a time: with more, 10 s would measure the machine.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda p: wrong(p, bin_dir, mode), paths))
        bad = [f"{os.path.relpath(p, os.fsencode(harness.slides_dir()))!r}: {w}"
               for p, w in zip(paths, found) if w]
        self.assertEqual(bad, [], f"{len(bad)} of {len(paths)} files, {' '.join(mode)}:\n" +
                         "\n".join(bad[:40]))

    def chosen(self):
        every = files()
        self.assertGreater(len(every), 1000, "the collection is there in full")
        if harness.LONG:
            return every
        return [p for i, p in enumerate(every) if i % 4 == 0 or b"fc-tiff" in p or b"slides" in p]

    def test_each_file_is_converted_or_refused_with_one_line(self):
        self.sweep(self.chosen(), harness.BIN, MODES[0])

    def test_each_file_in_other_modes(self):
        for mode in MODES[1:]:
            with self.subTest(mode=mode):
                self.sweep(self.chosen() if harness.LONG else self.chosen()[::6], harness.BIN, mode)

    def test_info_and_verify_have_a_word_for_each_file(self):
        folder = tempfile.mkdtemp(prefix="slidemill-test.")
        self.addCleanup(shutil.rmtree, folder, True)

        def look(path):
            for program in ("info", "verify"):
                code, _, err = call(folder, harness.BIN, program, path)
                if code not in harness.ALLOWED:
                    return f"{program}: {'hangs' if code is None else code} {err[-300:]!r}"
                if code != 0 and (err.count(b"\n") != 1 or
                                  masked(os.path.basename(path)) not in err):
                    return f"{program}: {err!r}"
            return ""
        paths = self.chosen() if harness.LONG else self.chosen()[::3]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            bad = [f"{p!r}: {w}" for p, w in zip(paths, pool.map(look, paths)) if w]
        self.assertEqual(bad, [], "\n".join(bad[:40]))

    def test_the_same_with_address_sanitizer(self):
        other = os.environ.get("SLIDEMILL_ASAN_BIN")
        if not other:
            self.skipTest("SLIDEMILL_ASAN_BIN is not set")
        for mode in MODES:
            self.sweep(self.chosen(), other, mode)


class Refused(harness.Case):
    def test_what_is_no_slide_is_refused_by_name(self):
        names = ["negative/newCZI_compressed.czi", "negative/vsi-ets-test-jpg2k.vsi"]
        names += [n for n in ("README.md",) if os.path.exists(
            os.path.join(harness.slides_dir(), n))]
        for name in names:
            path, out = harness.slide(name), self.path("out.tif")
            r = harness.run("convert", path, out, timeout=TIME_S)
            self.assert_refused(r, 65, path, out)


harness.need_slides()
if __name__ == "__main__":
    harness.main()
