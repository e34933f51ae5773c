"""What the benchmark programs share: running and timing, spreads, tables, what the machine is."""

import argparse
import contextlib
import datetime
import glob
import json
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
CONVERT = ["--levels", "dyadic", "--tiles", "copy", "--quality", "75", "--subsampling", "420"]
TRANSCODE = ["--levels", "dyadic", "--tiles", "transcode", "--tile-px", "256", "--quality", "75",
             "--subsampling", "420"]
STOP_S = 10  # given to a program that is told to end
UP_S = 90  # the same for tests/cluster/up: it takes down what it has brought up


class Void(Exception):
    """A run that cannot be counted, or a benchmark that cannot start."""


@contextlib.contextmanager
def undisturbed():
    """SIGINT and SIGTERM wait for the end of the block; programs started in it are not told."""
    came = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: came.append(True)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def end_group(child, patience_s):
    """Ends a program that leads a session of its own: SIGTERM, and SIGKILL for what is left."""
    with undisturbed():
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience_s)


def call(argv, patience_s=STOP_S):
    """Standard output of a program, or Void with what it said last in its own name, if anything."""
    name = os.path.basename(argv[0])
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, errors="replace",
                             start_new_session=True)
    try:
        out, err = child.communicate()
    except BaseException:
        end_group(child, patience_s)
        raise
    if child.returncode != 0:
        lines = err.strip().splitlines() or [f"ended with {child.returncode}"]
        own = [line for line in lines if line.startswith(name + ": ")]
        raise Void(own[-1] if own else f"{name}: {lines[-1]}")
    return out.strip()


class Runner:
    """Runs one program at a time and measures it; knows what to kill and to delete."""

    def __init__(self, work_dir):
        self.work_dir = work_dir
        self.child = None

    def close(self):
        self.stop()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def stop(self):
        if self.child is not None:
            end_group(self.child, STOP_S)
            self.child = None

    def run(self, argv):
        """Wall and CPU seconds, peak RSS of the process tree it waited for, standard output."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = time.monotonic()
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          start_new_session=True)
            try:
                _, status, usage = os.wait4(self.child.pid, 0)
            except BaseException:
                self.stop()
                raise
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


class Cluster:
    """A GlusterFS of 4 bricks with its mount, up for as long as this object is open."""

    TOOLS = os.path.join(ROOT, "tests", "cluster")

    def __init__(self, folder, volume_options, *words):
        self.folder = os.path.join(os.path.realpath(folder), "c")
        self.mount = os.path.join(self.folder, "mnt-dist")
        try:
            argv = [os.path.join(self.TOOLS, "up"), "--no-slurm", "--dir", self.folder,
                    "--owner", str(os.getpid()), *words]
            for option in volume_options:
                argv += ["--volume-option", option]
            self.call(argv, UP_S)
            if not os.path.ismount(self.mount):
                raise Void(f"{self.mount} is not mounted")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, argv, patience_s=STOP_S):
        return call(argv, patience_s)

    def cpu_s(self):
        """CPU seconds so far of its GlusterFS processes: bricks, clients, glusterd, self-heal."""
        ticks = 0
        for folder in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                with open(folder + "/stat", encoding="utf-8", errors="replace") as f:
                    name, _, fields = f.read().partition("(")[2].rpartition(")")
                if name not in ("glusterd", "glusterfsd", "glusterfs"):
                    continue
                with open(folder + "/cmdline", encoding="utf-8", errors="replace") as f:
                    if self.folder + "/" in f.read():
                        ticks += sum(int(n) for n in fields.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self, runner, argv):
        """As of the runner, and what the GlusterFS processes needed meanwhile."""
        before = self.cpu_s()
        result = runner.run(argv)
        return {**result, "gluster_cpu_s": self.cpu_s() - before}

    def close(self):
        with undisturbed():
            subprocess.run([os.path.join(self.TOOLS, "down"), self.folder], check=False,
                           stdout=subprocess.DEVNULL, start_new_session=True)


def mpi_environment():
    """Open MPI as root and on fewer cores than ranks is refused unless told."""
    os.environ.update({"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                       "OMPI_MCA_rmaps_base_oversubscribe": "1"})


def make_catalog(args, root, catalog):
    for path in glob.glob(glob.escape(catalog) + "*"):
        (shutil.rmtree if os.path.isdir(path) else os.remove)(path)
    call([program(args, "slidemill"), "catalog", "create", root, "--output", catalog])


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


def check_output(path):
    """Before hours of measuring: can this file be written?"""
    if os.path.isdir(path):
        raise Void(f"{path} is a folder")
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise Void(f"{folder} is not a folder")
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_result(path, what, args, machine, document):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"what": what, "date": datetime.date.today().isoformat(), "machine": machine,
                   "runs_each": args.runs, **document}, f, indent=1)
        f.write("\n")
    say(f"written: {os.path.relpath(path)}")


class Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"bench/{self.prog}: {message}; see --help\n")


def words(choices):
    def parse(text):
        chosen = text.split(",")
        unknown = [w for w in chosen if w not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {','.join(choices)}")
        return chosen
    return parse


def whole(least, most, zero=False):
    def parse(text):
        value = int(text) if re.fullmatch("[0-9]{1,15}", text) else -1
        if not least <= value <= most and not (zero and value == 0):
            isnt = "neither 0 nor" if zero else "not"
            raise argparse.ArgumentTypeError(f"'{text}' is {isnt} a number in {least}..{most}")
        return value
    return parse


positive = whole(1, 1000000)


def key_value(text):
    if not re.fullmatch("[A-Za-z][A-Za-z0-9._-]*=[!-~]+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return text


def add_volume_option(parser):
    parser.add_argument("--volume-option", action="append", default=[], type=key_value,
                        metavar="KEY=VALUE", help="of the volume, set before it is mounted; may be "
                                                  "given several times")


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def one_line(e):
    """Of an OSError: what it is about and why."""
    if isinstance(e, shutil.Error) and isinstance(e.args[0], list):
        _, path, why = e.args[0][0]
        return f"{path}: {why}"
    path = e.filename2 or e.filename
    why = e.strerror or str(e)
    return why if path is None else f"{path}: {why}"


def run_main(name, body):
    """The exit code of a program that does body(); what goes wrong is told in one line."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        body()
    except Void as e:
        say(f"bench/{name}: {e}")
        return 1
    except OSError as e:
        say(f"bench/{name}: {one_line(e)}")
        return 1
    except KeyboardInterrupt:
        say(f"bench/{name}: interrupted; everything removed")
        return 130
    return 0
