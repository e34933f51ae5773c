"""What the tests that kill share: a corpus of small slides, runs in the background, who belongs to
them, and what must hold after everything that died was started again."""
import collections
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import harness

for _name in list(os.environ):  # what a launcher around this test says is not about ours
    if _name.startswith(("OMPI_COMM_WORLD", "PMIX_", "PMI_", "SLURM_")):
        del os.environ[_name]
os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

HOOK = "SLIDEMILL_TEST_WORKER"
DIE_AT = "SLIDEMILL_TEST_DIE_AT"
TEMPORARY = re.compile(r"\..*\.[0-9A-Za-z]{6}")
ALONE_S = 20  # that mpirun may go on without its ranks


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def wait_for(what, condition, seconds=30, pause=0.01):
    """What condition() returns, once it is true."""
    until = time.monotonic() + seconds * harness.SLOWER
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(pause)


# ---- processes ----

def processes():
    """{pid: (parent, name)} of all that are not zombies."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        except (OSError, IndexError):
            continue
        state, parent = rest.split()[:2]
        if state not in "ZX":
            found[int(pid)] = (int(parent), name)
    return found


def alive(pid):
    return pid in processes()


def state_of(pid):
    """The letter of /proc/PID/stat; "X" of what is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return "X"


def send(pid, number):
    """False: it was gone already. What is a zombie takes a signal as if it lived: see end_process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end_process(pid):
    """SIGKILL; True only where it ended a process that was alive.

    kill() succeeds with a zombie too, and one that is about to exit may end by itself before the
    signal counts. So it is stopped first: what is seen stopped was alive, and ends by SIGKILL alone.
    """
    if state_of(pid) in "ZX" or not send(pid, signal.SIGSTOP):
        return False
    until = time.monotonic() + 60 * harness.SLOWER  # a process that waits for a disk stops late
    while (state := state_of(pid)) not in "TZX" and time.monotonic() < until:
        time.sleep(0)
    return send(pid, signal.SIGKILL) and state == "T"


class Running:
    """A program in the background, perhaps under mpirun."""

    def __init__(self, argv, log, env=None):
        self.log = log
        self.alone_since = None
        with open(log, "wb") as err:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=err,
                                            stdout=subprocess.PIPE, start_new_session=True,
                                            env=dict(os.environ, **(env or {})))

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def family(self):
        """[(pid, name)] of this process and all below it."""
        every = processes()
        found = [self.pid] if self.pid in every else []
        for pid in found:
            found += [p for p, (parent, _) in every.items() if parent == pid]
        return [(pid, every[pid][1]) for pid in found]

    def of_kind(self, kind):
        """Pids of its workers, its ranks, or itself as mpirun."""
        starts = {"worker": "slidemill-work", "rank": "slidemill-inge", "mpirun": "mpirun"}[kind]
        return [pid for pid, name in self.family()
                if name.startswith(starts) or (kind == "mpirun" and name == "orterun")]

    def end_if_hung(self):
        """Open MPI 4.1.4: where a rank is killed while it connects, mpirun may wait for ever for a
        lock in its own finalize. One that has no ranks for long is killed, as a time limit would."""
        if not self.of_kind("mpirun") or any(map(alive, self.of_kind("rank"))):
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > ALONE_S * harness.SLOWER:
            print(f"mpirun hung without ranks and was killed: {self.text()[-200:]}", flush=True)
            end_process(self.pid)

    def end(self, seconds=120):
        until = time.monotonic() + seconds * harness.SLOWER
        while True:
            try:
                out, _ = self.process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > until:
                    raise
                self.end_if_hung()
        return harness.Result(self.process.args, self.process.returncode, out,
                              self.text().encode())

    def stop(self):
        """All of its session, whatever became of the first process."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.running():
            self.process.communicate()


# ---- the corpus ----

def draw_slides(folder, n):
    """n different slides, some several times as large as others, spread over folders. Names."""
    program = os.path.join(harness.BIN, "mosaic")
    names = []
    for i in range(n):
        names.append(f"case {i % 5}/s{i:02}.svs")
        path = os.path.join(folder, names[-1])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        width = 500 + 37 * i if i % 6 else 2500 + 37 * i
        subprocess.run([program, "--synthetic", "--width", str(width), "--height", "700", path],
                       check=True, stdout=subprocess.DEVNULL)
    return names


def journal_events(catalog, also=()):
    """{id: event} of all journals of a catalog; a torn tail is nothing."""
    found = {}
    paths = [os.path.join(folder, f) for folder, _, files in os.walk(catalog + ".d/journal")
             for f in files]
    for path in sorted([*paths, *also]):
        with open(path, "rb") as f:
            lines = f.read().split(b"\n")
        for line in lines[:-1]:
            event = json.loads(line)
            found.setdefault(event["id"], event)
    return found


def ask(catalog, question):
    """Rows of a catalog, read as its contract says."""
    db = sqlite3.connect(f"file:{catalog}?immutable=1", uri=True)
    try:
        return db.execute(question).fetchall()
    finally:
        db.close()


def attempts_told(events):
    """{id: (slide, outcome)} of a journal's events: ends, and beginnings without one as "lost"."""
    told, open_ends = {}, set()
    for event in sorted(events, key=lambda e: -int(e["id"].rsplit(".", 1)[1])):
        of_rank = event["id"].rsplit(".", 1)[0]
        if event["t"] == "end":
            told[event["id"]] = (event["outcome"]["slide"], event["outcome"]["outcome"])
            open_ends.add((of_rank, event["outcome"]["slide"]))
        elif event["t"] == "begin" and (of_rank, event["slide"]) in open_ends:
            open_ends.discard((of_rank, event["slide"]))
        elif event["t"] == "begin":
            told[event["id"]] = (event["slide"], "lost")
    return told


def differences(catalog, also=()):
    """What of the journals the catalog has not, or not once, and what it has from nowhere."""
    events = journal_events(catalog, also).values()
    told = [(event_id, *what) for event_id, what in attempts_told(events).items()]
    rows = ask(catalog, "SELECT run.run || '.' || run.rank || '.' || a.seq, a.slide, a.outcome "
                        "FROM attempt a JOIN run ON run.id = a.run")
    made = {(e["outcome"]["slide"], e["outcome"]["output"]["digest"])
            for e in events if e["t"] == "end" and e["outcome"].get("output")}
    kept = ask(catalog, "SELECT slide, 'sha256:' || lower(hex(sha256)) FROM output")
    found = []
    for what, of_journals, of_catalog in (("attempt", told, rows), ("output", made, kept)):
        a, b = collections.Counter(of_journals), collections.Counter(of_catalog)
        found += [f"{what} {x} is not in the catalog" for x in a - b]
        found += [f"{what} {x} is in no journal" for x in b - a]
    return found


class Case(harness.Case):
    """A catalog of a drawn corpus, and where its pyramids go. A subclass sets root and names."""

    root, names = None, ()

    def setUp(self):
        super().setUp()
        self.n_logs = 0
        self.scratch = self.path("scratch")
        os.mkdir(self.scratch)
        # ours alone, so that whatever stays there is a program's fault
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self.scratch
        self.addCleanup(lambda: os.environ.pop("TMPDIR") if before is None
                        else os.environ.update(TMPDIR=before))
        self.corpus("first")

    def corpus(self, name):
        """From here on: another catalog, another folder of pyramids."""
        os.mkdir(self.path(name))
        self.catalog, self.out = self.path(name + "/corpus.smc"), self.path(name + "/out")

    def ok(self, command, *args, code=0, **how):
        r = harness.run(command, *map(str, args), **how)
        self.assertEqual(r.code, code, r)
        return r

    def create(self, *options):
        self.ok("catalog", "create", self.root, "--output", self.catalog, *options)

    def merge(self, *journals, **how):
        return self.ok("catalog", "merge", self.catalog, *journals, **how)

    def arguments(self, *options):
        return ["--catalog", self.catalog, "--out", self.out, *map(str, options)]

    def ingest(self, *options, code=0, **how):
        return self.ok("ingest", *self.arguments(*options), code=code, **how)

    def start(self, command, *args, ranks=0, env=None):
        launcher = []
        if ranks:
            if shutil.which("mpirun") is None:
                self.skipTest("no mpirun")
            launcher = ["mpirun", "--oversubscribe", "-n", str(ranks)]
        self.n_logs += 1
        running = Running([*launcher, os.path.join(harness.BIN, "slidemill-" + command),
                           *map(str, args)], self.path(f"log{self.n_logs}"), env)
        self.addCleanup(running.stop)
        return running

    def start_ingest(self, *options, **how):
        return self.start("ingest", *self.arguments(*options), **how)

    # ---- what is there ----

    def output(self, name):
        return os.path.join(self.out, os.path.splitext(name)[0] + ".ome.tiff")

    def ask(self, question):
        return ask(self.catalog, question)

    def states(self):
        return dict(self.ask("SELECT path, state FROM slide"))

    def pyramids(self):
        """{path: digest} of all files below the folder of the pyramids."""
        found = {}
        for folder, _, files in os.walk(self.out):
            for f in files:
                path = os.path.join(folder, f)
                found[os.path.relpath(path, self.out)] = sha256(path)
        return found

    def left_over(self):
        """Temporaries and working folders anywhere."""
        found = [os.path.join(self.scratch, f) for f in os.listdir(self.scratch)
                 if f.startswith(("slidemill", "."))]
        for folder, folders, files in os.walk(os.path.dirname(self.catalog)):
            found += [os.path.join(folder, f) for f in folders + files if TEMPORARY.fullmatch(f)]
        return found

    # ---- what must hold ----

    def assert_books_agree(self, also=()):
        self.assertEqual(differences(self.catalog, also), [])

    def assert_nothing_lost(self, pyramids, also=()):
        """All done, these bytes, books in agreement, nothing left lying about. Merges first."""
        self.merge()
        self.assertEqual(collections.Counter(self.states().values()), {"done": len(self.names)})
        self.assertEqual(self.left_over(), [])
        self.assertEqual(self.pyramids(), pyramids)
        self.assert_books_agree(also)
        sums = self.path("outputs.sha256")
        self.ok("catalog", "export", self.catalog, "--what", "outputs", "--output", sums)
        check = subprocess.run(["sha256sum", "--quiet", "-c", sums], cwd=self.out,
                               capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        with open(sums, encoding="utf-8") as f:
            self.assertEqual(len(f.readlines()), len(self.names))
        self.assertEqual(self.ok("catalog", "fsck", self.catalog, "--json").json()["faults"], 0)


if __name__ == "__main__":  # CATALOG...: do its journals and it say the same?
    _found = [d for catalog in sys.argv[1:] for d in differences(catalog)]
    print("\n".join(_found))
    sys.exit(1 if _found else 0)
