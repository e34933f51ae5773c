"""What the Python tests share: where things are, running the programs, and skipping with a reason.

Tests are unittest classes whose methods are named as claims. A module ends in `harness.main()`; its
exit code is 77 when nothing could run.
"""
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE_DIR = os.environ.get("SLIDEMILL_SOURCE_DIR", os.path.dirname(os.path.dirname(HERE)))
BIN = os.environ.get("SLIDEMILL_BIN", os.path.join(SOURCE_DIR, "build", "release", "bin"))
BUILD_DIR = os.environ.get("SLIDEMILL_BUILD_DIR", os.path.dirname(BIN))
LONG = os.environ.get("SLIDEMILL_LONG", "") not in ("", "0")


# A sanitizer's build is several times slower and keeps shadow memory.
def _sanitized():
    path = os.path.join(BIN, "slidemill-convert")
    if not os.path.exists(path):
        return False
    with open(path, "rb") as f:
        data = f.read()
    return b"__asan_init" in data or b"__tsan_init" in data


SANITIZED = _sanitized()
# Of libraries that were built without it ThreadSanitizer sees the races but not the locks.
os.environ.setdefault("TSAN_OPTIONS", "ignore_noninstrumented_modules=1")
SLOWER = 8 if SANITIZED else 1

ALLOWED = (0, 2, 65, 74)


def skip_all(reason):
    """End this test program as skipped."""
    print(f"skipped: {reason}")
    sys.exit(77)


for _program in ("slidemill-convert", "slidemill-info", "slidemill-verify"):
    if not os.access(os.path.join(BIN, _program), os.X_OK):
        sys.exit(f"{_program} is not in {BIN} (SLIDEMILL_BIN)")
try:
    import numpy as np  # noqa: F401
except ImportError:
    skip_all("no slides can be compared without python3-numpy")


def slides_dir():
    named = os.environ.get("SLIDEMILL_SLIDES")
    path = named if named else os.path.join(SOURCE_DIR, "..", "shared", "slides")
    return os.path.realpath(path) if os.path.isdir(path) else None


def slide(name):
    """Path of a slide of the collection; the test is skipped where the collection is absent."""
    folder = slides_dir()
    if folder is None:
        raise unittest.SkipTest("no slides")
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise unittest.SkipTest(f"no slide {name}")
    return path


def need_slides():
    if slides_dir() is None:
        skip_all("no slides")


CMU1 = "aperio/CMU-1-Small-Region.svs"
CMU1_420 = "derived/CMU-1-Small-Region.jpeg.tiff"
OS1 = "ome-tiff/OS-1-detail.ome.tif"
BREAST = "generic-tiff/CropBreastSlide-v2.tiff"


class Result:
    """How a program ended."""

    def __init__(self, args, code, out, err):
        self.args, self.code, self.raw = args, code, out
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def json(self):
        """Its output as JSON, which is UTF-8 whatever the file names are."""
        return json.loads(self.raw.decode("utf-8"))

    def __str__(self):
        return f"{' '.join(map(str, self.args))}\n  exit {self.code}\n  stdout: {self.out}\n" \
               f"  stderr: {self.err}"


def _limits(address_space, file_size):
    def apply():
        if address_space and not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    return apply if address_space or file_size is not None else None


def run(command, *args, env=None, timeout=60, memory=None, file_size=None, cwd=None, stdout=None):
    """slidemill-COMMAND ARGS... to its end. A program that hangs is a failure, as is a signal."""
    argv = [os.path.join(BIN, "slidemill-" + command), *[os.fspath(a) for a in args]]
    environment = dict(os.environ, **(env or {}))
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.PIPE,
                         stderr=subprocess.PIPE, env=environment, cwd=cwd,
                         preexec_fn=_limits(memory, file_size))
    try:
        out, err = p.communicate(timeout=timeout * SLOWER)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise AssertionError(f"{argv} has not ended after {timeout * SLOWER} s") from None
    result = Result(argv, p.returncode, out or b"", err)
    if p.returncode < 0:
        raise AssertionError(f"died of signal {-p.returncode}: {result}")
    if "Sanitizer" in result.err or "runtime error:" in result.err:
        raise AssertionError(f"sanitizer: {result}")
    return result


def _scratch_base():
    """Memory where there is enough of it: most tests would only wait for fsync otherwise."""
    if "TMPDIR" in os.environ or not os.access("/dev/shm", os.W_OK):
        return None
    room = os.statvfs("/dev/shm")
    return "/dev/shm" if room.f_bavail * room.f_frsize > 1 << 30 else None


class Case(unittest.TestCase):
    """A test case with a scratch folder."""

    on_disk = False  # True: the scratch folder is on a disk, where the page cache has work to do

    maxDiff = None
    longMessage = True

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="slidemill-test.",
                                    dir=None if self.on_disk else _scratch_base())
        self.addCleanup(shutil.rmtree, self.dir, True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def convert(self, source, name="out.tif", *options, **how):
        """Convert into the scratch folder; returns (path, the JSON summary)."""
        out = self.path(name)
        if os.path.exists(out):
            os.unlink(out)
        r = run("convert", "--json", "--quiet", *options, source, out, **how)
        self.assertEqual(r.code, 0, r)
        self.assertEqual(r.err, "", r)
        summary = r.json()
        self.assertEqual(summary["status"], "ok", r)
        return out, summary

    def assert_refused(self, r, codes, source=None, target=None):
        """It failed as it should: one line on stderr that names the file, nothing left behind."""
        self.assertIn(r.code, codes if isinstance(codes, tuple) else (codes,), r)
        lines = r.err.splitlines()
        self.assertEqual(len(lines), 1, f"one line on stderr: {r}")
        self.assertTrue(lines[0].startswith("slidemill "), r)
        if source is not None:
            self.assertIn(os.path.basename(os.fspath(source)), lines[0], r)
        if target is not None:
            self.assertFalse(os.path.exists(target), f"left behind: {target}")
            folder = os.path.dirname(target)
            if os.path.isdir(folder):
                name = os.path.basename(target)
                left = [f for f in os.listdir(folder) if f.startswith("." + name)]
                self.assertEqual(left, [], "temporary files left behind")

    def sha256(self, path):
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def assert_level(self, level, **expected):
        for key, value in expected.items():
            self.assertEqual(level.get(key), value, f"{key} of {level}")


def users_of(text):
    """Command lines of processes that have `text` in them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


class BenchCase(Case):
    """A benchmark that works in self.work and writes self.json; both are empty at the start."""

    def setUp(self):
        super().setUp()
        self.work = self.path("work")
        self.json = self.path("out.jsonl")
        os.mkdir(self.work)

    def lines(self):
        with open(self.json, encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def assert_nothing_stays(self):
        self.assertEqual(os.listdir(self.work), [])

    def interrupt(self, *args, when):
        """Ctrl-C once when(self.work) holds; then nothing may be left, and nobody running."""
        p = subprocess.Popen([os.path.join(BIN, "slidemill-bench"), *args], text=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + 60 * SLOWER
        while not when(self.work) and p.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=60 * SLOWER)[1]
        self.assertEqual(p.returncode, 75, err)
        self.assertIn("interrupted; all that was made was removed", err)
        self.assert_nothing_stays()
        self.assertEqual(users_of(self.work), [])


def mosaic(path, *options):
    """A slide in SVS layout, of any size, out of the tiles of a drawn one (bench/mosaic)."""
    program = os.path.join(BIN, "mosaic")
    if not os.access(program, os.X_OK):
        raise unittest.SkipTest("no mosaic program")
    how = {"check": True, "stdout": subprocess.DEVNULL, "timeout": 120 * SLOWER}
    with tempfile.TemporaryDirectory(prefix="slidemill-test.", dir=_scratch_base()) as folder:
        drawn = os.path.join(folder, "drawn.svs")
        subprocess.run([program, "--synthetic", drawn], **how)
        subprocess.run([program, *map(str, options), drawn, path], **how)
    return path


@contextlib.contextmanager
def mounted_tmpfs(options):
    """A small file system of one's own; skips where that is not allowed."""
    folder = tempfile.mkdtemp(prefix="slidemill-mount.")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False) \
        if shutil.which("mount") else None
    if done is None or done.returncode != 0:
        os.rmdir(folder)
        raise unittest.SkipTest("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=False)
        os.rmdir(folder)


def main():
    """As unittest.main, with ctest's idea of skipping."""
    program = unittest.main(exit=False, verbosity=2 if LONG else 1)
    result = program.result
    for test, reason in result.skipped:
        print(f"skipped: {reason} ({test.id()})")
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun == 0 or len(result.skipped) >= result.testsRun:
        sys.exit(77)
    sys.exit(0)
