"""What the benchmark programs share: running and timing, spreads, tables, what the machine is."""

import argparse
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLIDE_NAME = "CMU-1-Small-Region.svs"


class Void(Exception):
    """A run that cannot be counted, or a benchmark that cannot start."""


class Runner:
    """Runs one program at a time and measures it; knows what to kill and to delete."""

    def __init__(self, work_dir):
        self.work_dir = work_dir
        self.child = None

    def close(self):
        if self.child is not None:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)  # it leads a session of its own
            except ProcessLookupError:
                pass
            self.child.wait()
            self.child = None
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def run(self, argv):
        """Wall and CPU seconds, peak RSS of the process tree it waited for, standard output."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = time.monotonic()
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          start_new_session=True)
            _, status, usage = os.wait4(self.child.pid, 0)
            wall = time.monotonic() - start
            self.child.returncode = os.waitstatus_to_exitcode(status)
            code, self.child = self.child.returncode, None
            out.seek(0)
            err.seek(0)
            text = out.read().decode(errors="replace")
            last = (err.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        if code != 0:
            raise Void(f"{os.path.basename(argv[0])} ended with {code}: {last}")
        return {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime,
                "rss_mib": usage.ru_maxrss / 1024, "stdout": text}

    def fresh_output(self, suffix):
        """An empty folder again, and nobody else's dirty pages on the way to the disk."""
        shutil.rmtree(self.work_dir, ignore_errors=True)
        os.makedirs(self.work_dir)
        os.sync()
        return os.path.join(self.work_dir, "out" + suffix)


def warm(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 24):
            pass


def find_slide(given):
    folder = os.environ.get("SLIDEMILL_SLIDES", os.path.join(ROOT, "..", "shared", "slides"))
    for path in [given] if given else [os.path.join(folder, "aperio", SLIDE_NAME),
                                       os.path.join(ROOT, "build", "demo", SLIDE_NAME)]:
        if os.path.isfile(path):
            return path
    raise Void(f"{given or SLIDE_NAME} is not there: name a JPEG-tiled slide with --slide")


def program(args, name):
    path = os.path.join(args.build, "bin", name)
    if not os.access(path, os.X_OK):
        raise Void(f"{path} is not there: build it first, or choose --build")
    return path


def spread(values):
    known = [v for v in values if v is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def say(text):
    print(text, file=sys.stderr, flush=True)


def number(value, form="{:.2f}", missing="-"):
    return missing if value is None else form.format(value)


def print_table(head, rows):
    widths = [max(len(r[i]) for r in [head] + rows) for i in range(len(head))]
    for row in [head, ["-" * w for w in widths]] + rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    print()


def first_line(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return None
    return (done.stdout.strip().splitlines() or [None])[0] if done.returncode == 0 else None


def matching(path, pattern):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            found = re.search(pattern, f.read(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def filesystem(path):
    """Type of the file system that path lies on: the longest mount point that holds it."""
    best, kind = "", "unknown"
    path = os.path.realpath(path)
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as f:
        for line in f:
            mount, fs = line.split(" ")[1:3]
            inside = path == mount or path.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, fs
    return kind


def describe_machine(args, tools=()):
    """What a result was measured on; args has `dir` and `build`."""
    kib = matching("/proc/meminfo", r"^MemTotal:\s*(\d+)")
    return {
        "cpu": matching("/proc/cpuinfo", r"^(?:model name|Model)\s*:\s*(.*)$"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(kib) / 1048576, 1) if kib else None,
        "kernel": platform.release(),
        "system": matching("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "file_system": filesystem(args.dir),
        "versions": {
            "slidemill": first_line([os.path.join(args.build, "bin", "slidemill"), "--version"]),
            **{tool: first_line([tool, "--version"]) for tool in tools},
            **{name: first_line(["pkg-config", "--modversion", name])
               for name in ("libjpeg", "libtiff-4", "libzstd", "openslide")},
        },
        "commit": first_line(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]),
    }


def words(choices):
    def parse(text):
        chosen = text.split(",")
        unknown = [w for w in chosen if w not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {','.join(choices)}")
        return chosen
    return parse


def positive(text):
    if not text.isdigit() or not 0 < int(text) <= 1000000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number in 1..1000000")
    return int(text)


def interrupt(_number, _frame):
    raise KeyboardInterrupt
