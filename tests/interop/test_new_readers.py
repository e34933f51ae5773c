# ctest: labels=interop,slow timeout=900
"""The same with OpenSlide 4 and the newest tifffile out of PyPI, in a virtual environment that is kept in
the build folder. Skipped where PyPI cannot be reached."""
import json
import os
import shutil
import subprocess
import sys
import venv

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import pyramids  # noqa: E402
import tiffs  # noqa: E402

PACKAGES = ["openslide-bin", "openslide-python", "tifffile", "imagecodecs", "numpy"]
FOLDER = os.path.join(harness.BUILD_DIR, "new-readers")
PYTHON = os.path.join(FOLDER, "bin", "python")
INSTALL_S = 400


def works():
    probe = "import openslide, tifffile, imagecodecs; openslide.__library_version__"
    return os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-c", probe], capture_output=True, check=False, timeout=60).returncode == 0


def install():
    """True when the environment is ready."""
    if works():
        return True
    shutil.rmtree(FOLDER, True)
    try:
        venv.create(FOLDER, with_pip=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--retries", "1", "--timeout", "15", "--only-binary", ":all:", *PACKAGES],
                       check=True, capture_output=True, timeout=INSTALL_S)
    except (subprocess.SubprocessError, OSError, SystemExit):  # Debian: no python3-venv
        shutil.rmtree(FOLDER, True)
        return False
    return works()


class NewReaders(harness.Case):
    def test_all_pyramids(self):
        made = list(pyramids.make(self, self.dir))
        report = self.path("report.json")
        program = os.path.join(os.path.dirname(harness.__file__), "readers.py")
        subprocess.run([PYTHON, "-B", program, report, *[p for p, _, _ in made]], check=True,
                       timeout=300, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
        with open(report, encoding="utf-8") as f:
            seen = json.load(f)
        for path, profile, summary in made:
            with self.subTest(file=os.path.basename(path)):
                new = seen[path]
                self.assertGreaterEqual(int(new["openslide"]["version"].split(".")[0]), 4)
                pyramids.check_openslide(self, new["openslide"], path, summary)
                pyramids.check_tifffile(self, new["tifffile"], profile, summary)
                self.check_pixels(path, profile, new, summary)

    def check_pixels(self, path, profile, new, summary):
        """Lossless levels bit for bit in all three; a JPEG decoder may differ in the last bit."""
        import hashlib
        libtiff = tiffs.LibTiff()
        for i, d in enumerate(tiffs.Tiff(path).dirs[:len(summary["output"]["levels"])]):
            if summary["output"]["levels"][i]["codec"] == "jpeg":
                continue
            digest = hashlib.sha256(libtiff.read(path, d).tobytes()).hexdigest()
            if profile == "hybrid":
                self.assertEqual(new["tifffile"]["digests"][i], digest, f"tifffile, level {i}")
            if tiffs.openslide_can_read(d):
                self.assertEqual(new["openslide"]["digests"][i], digest, f"OpenSlide, level {i}")


harness.need_slides()
if __name__ == "__main__":
    if not install():
        harness.skip_all("PyPI cannot be reached")
    harness.main()
