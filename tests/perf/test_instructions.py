# ctest: labels=perf timeout=300
"""Instructions of the hot paths on a small slide, counted by callgrind, against the recorded ones.

Counts do not depend on load or clock, so a change of 5% is a change of the program. They do depend
on compiler, libraries and the CPU that valgrind shows: elsewhere than where they were recorded the
test is skipped. `test_instructions.py --record` writes instructions.json anew.
"""
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.json")
BAND = 0.05     # of the recorded count, either way
SPREAD = 0.005  # between two runs
SIZE = ("--width", 2400, "--height", 1700, "--levels", "1,4")
# What valgrind takes over from the CPU and the libraries choose their code by.
CPU_FLAGS = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "rdrand", "sse4_2")
# Libraries whose code is counted; the C library is the one that valgrind replaces least of.
LIBRARIES = ("libc.so", "libcrypto.so", "libdeflate.so", "libjpeg.so", "libopenslide.so",
             "libtiff.so", "libxxhash.so", "libzstd.so")

CONVERT = {
    "copy": ("--levels", "source"),
    "make": ("--levels", "dyadic"),
    "transcode": ("--tiles", "transcode", "--levels", "source"),
    "retile": ("--tiles", "retile", "--tile-px", "512", "--levels", "source"),
    "zstd": ("--codec", "zstd", "--levels", "source"),
}
TWICE = ("copy", "transcode", "hash")


def text_of(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=60).stdout.decode("utf-8", "replace")


def cache_entry(name):
    path = os.path.join(harness.BUILD_DIR, "CMakeCache.txt")
    with open(path, encoding="utf-8") as f:
        found = re.search(rf"^{name}:[A-Z]+=(.*)$", f.read(), re.M)
    return found.group(1) if found else ""


def cpu_flags():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        found = re.search(r"^flags\s*:(.*)$", f.read(), re.M)
    have = set(found.group(1).split()) if found else set()
    return " ".join(flag for flag in CPU_FLAGS if flag in have)


def build_id(path):
    found = re.search(r"Build ID: ([0-9a-f]+)", text_of("readelf", "-n", path))
    return found.group(1) if found else str(os.path.getsize(path))


def libraries(program):
    """{library: its build} of those that matter; a build id tells packages of one version apart."""
    found = {}
    for name, path in re.findall(r"(\S+) => (\S+)", text_of("ldd", program)):
        for want in LIBRARIES:
            if name.startswith(want):
                found[want] = f"{os.path.basename(os.path.realpath(path))} {build_id(path)[:12]}"
    return found


def key():
    """What the counts depend on beside our own sources."""
    compiler = cache_entry("CMAKE_C_COMPILER")
    return {
        "machine": platform.machine(),
        "cpu flags": cpu_flags(),
        "valgrind": text_of("valgrind", "--version").strip(),
        "compiler": text_of(compiler, "--version").splitlines()[0],
        "build type": cache_entry("CMAKE_BUILD_TYPE"),
        "flags": cache_entry("CMAKE_C_FLAGS"),
        **libraries(os.path.join(harness.BIN, "slidemill-convert")),
    }


class Paths:
    """The runs that are counted, in a folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.slide = harness.mosaic(self.path("in.svs"), *SIZE)
        self.output = self.path("made.tif")
        done = harness.run("convert", "--quiet", "--threads", "1", "--levels", "dyadic", self.slide,
                           self.output)
        if done.code != 0:
            raise AssertionError(done)
        self.startup = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def program(self, name):
        return os.path.join(harness.BIN, "slidemill-" + name)

    def callgrind(self, name, *args, text=b""):
        """Instructions of one run, all threads. Descriptor 3 is where a worker's answer goes."""
        counts = self.path("callgrind.out")
        # The libraries look at these; nothing else of the caller's environment may matter.
        env = {"PATH": os.environ["PATH"], "HOME": self.folder, "LC_ALL": "C",
               "SLIDEMILL_IO": "threads"}
        with open(self.path("answer"), "wb") as answer:
            def give_answer():
                os.dup2(answer.fileno(), 3)
            done = subprocess.run(
                ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + counts,
                 self.program(name), *args],
                input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                preexec_fn=give_answer, pass_fds=(3,), timeout=120, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{name} {args}: exit {done.returncode}: "
                                 f"{done.stdout.decode('utf-8', 'replace')}")
        with open(counts, encoding="utf-8") as f:
            return int(re.search(r"^totals: (\d+)", f.read(), re.M).group(1))

    def work(self, name, *args, text=b""):
        """As callgrind, without what the program needs to start."""
        if name not in self.startup:
            self.startup[name] = self.callgrind(name, "--version")
        return self.callgrind(name, *args, text=text) - self.startup[name]

    def hash_job(self):
        return json.dumps({
            "kind": "hash", "slide": 1, "root": self.folder,
            "main": {"path": os.path.basename(self.slide),
                     "size": os.path.getsize(self.slide)}}).encode()

    def count(self, path):
        if path == "verify":
            return self.work("verify", "--quiet", "--threads", "1", self.output)
        if path == "hash":
            n = self.work("worker", "--threads", "1", text=self.hash_job())
            with open(self.path("answer"), encoding="utf-8") as f:
                end = json.loads(f.read().splitlines()[-1])["end"]
            if end["outcome"] != "ok":
                raise AssertionError(f"the slide was not hashed: {end}")
            return n
        out = self.path("out.tif")
        n = self.work("convert", "--quiet", "--threads", "1", *CONVERT[path], self.slide, out)
        os.unlink(out)
        return n


PATHS = (*CONVERT, "verify", "hash")


class Instructions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, folder, True)
        with open(RECORD, encoding="utf-8") as f:
            cls.recorded = json.load(f)["instructions"]
        cls.paths = Paths(folder)
        cls.counted = {path: cls.paths.count(path) for path in PATHS}

    def test_hot_paths_need_as_many_instructions_as_recorded(self):
        self.assertEqual(set(self.recorded), set(PATHS), "record anew with --record")
        for path, was in self.recorded.items():
            now = self.counted[path]
            with self.subTest(path=path):
                line = f"{path}: {now:,} instructions, {was:,} recorded ({now / was - 1:+.1%})"
                print(line)
                self.assertLess(now, was * (1 + BAND), f"slower: {line}")
                self.assertGreater(now, was * (1 - BAND), f"faster; keep the gain by recording it "
                                   f"with test_instructions.py --record: {line}")

    def test_counts_repeat(self):
        for path in TWICE:
            first, again = self.counted[path], self.paths.count(path)
            with self.subTest(path=path):
                print(f"{path}: {abs(again / first - 1):.4%} between two runs")
                self.assertLess(abs(again / first - 1), SPREAD, "the count is not deterministic")


def record():
    with harness.tempfile.TemporaryDirectory(prefix="slidemill-test.") as folder:
        paths = Paths(folder)
        counted = {path: paths.count(path) for path in PATHS}
    with open(RECORD, "w", encoding="utf-8") as f:
        json.dump({"key": key(), "instructions": counted}, f, indent=2)
        f.write("\n")
    for path, n in counted.items():
        print(f"{path}: {n:,} instructions")


def refusal():
    """Why nothing can be counted here, or None."""
    if harness.SANITIZED:
        return "a sanitizer's build cannot run under valgrind"
    for tool in ("valgrind", "readelf", "ldd"):
        if shutil.which(tool) is None:
            return f"no {tool}"
    for program in ("slidemill-worker", "mosaic"):
        if not os.access(os.path.join(harness.BIN, program), os.X_OK):
            return f"{program} is not in {harness.BIN}"
    if not os.path.exists(os.path.join(harness.BUILD_DIR, "CMakeCache.txt")):
        return f"{harness.BUILD_DIR} does not say how it was built"
    return None


def main():
    reason = refusal()
    if reason is not None:
        harness.skip_all(reason)
    if sys.argv[1:] == ["--record"]:
        record()
        return
    with open(RECORD, encoding="utf-8") as f:
        recorded = json.load(f)["key"]
    here = key()
    differs = [f"{name}: '{here.get(name)}' here, '{recorded.get(name)}' recorded"
               for name in sorted({*here, *recorded}) if here.get(name) != recorded.get(name)]
    if differs:
        harness.skip_all("counts of another place: " + "; ".join(differs))
    harness.main()


if __name__ == "__main__":
    main()
