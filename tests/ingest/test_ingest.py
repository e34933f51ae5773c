#!/usr/bin/env python3
# ctest: labels=ingest timeout=400
"""plan and ingest, end to end: real processes, real kills, small slides."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

for _name in list(os.environ):  # what a launcher around this test says is not about ours
    if _name.startswith(("OMPI_COMM_WORLD", "PMIX_", "PMI_", "SLURM_")):
        del os.environ[_name]
os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

N = 6
HOOK = "SLIDEMILL_TEST_WORKER"
_DRAWN = {}


def setUpModule():
    """N different slides, drawn once."""
    _DRAWN["dir"] = harness.tempfile.mkdtemp(prefix="slidemill-test.")
    program = os.path.join(harness.BIN, "mosaic")
    for i in range(N):
        path = os.path.join(_DRAWN["dir"], f"s{i}.svs")
        subprocess.run([program, "--synthetic", "--width", str(700 + 240 * i), path], check=True,
                       stdout=subprocess.DEVNULL)


def tearDownModule():
    shutil.rmtree(_DRAWN["dir"], True)


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def wait_for(what, condition, seconds=30):
    until = time.monotonic() + seconds * harness.SLOWER
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


class Running:
    """A slidemill-ingest in the background, perhaps under mpirun."""

    def __init__(self, argv, env, log):
        self.log = log
        with open(log, "wb") as err:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=err,
                                            stdout=subprocess.PIPE, start_new_session=True,
                                            env=dict(os.environ, **(env or {})))

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def children(self, pid=None):
        """Pids of the processes below one, by name."""
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                    comm, rest = f.read().split("(", 1)[1].rsplit(")", 1)
            except (OSError, IndexError):
                continue
            if int(rest.split()[1]) == (pid or self.process.pid) and rest.split()[0] != "Z":
                found.append((int(name), comm))
        return found

    def workers(self, pid=None):
        """Workers of a rank, or of all ranks below this process."""
        here = self.children(pid)
        found = [p for p, comm in here if comm.startswith("slidemill-work")]
        for p, comm in here:
            if not comm.startswith("slidemill-work"):
                found += self.workers(p)
        return found

    def end(self, seconds=60):
        out, _ = self.process.communicate(timeout=seconds * harness.SLOWER)
        return harness.Result(self.process.args, self.process.returncode, out,
                              self.text().encode())

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


class Case(harness.Case):
    """A corpus, its catalog, and where its pyramids go."""

    def setUp(self):
        super().setUp()
        self.root, self.out = self.path("root"), self.path("out")
        self.catalog = self.path("corpus.smc")
        self.names = [f"{'ab'[i % 2]}/s{i}.svs" for i in range(N)]
        for i, name in enumerate(self.names):
            os.makedirs(os.path.dirname(self.slide(name)), exist_ok=True)
            shutil.copy(os.path.join(_DRAWN["dir"], f"s{i}.svs"), self.slide(name))

    def slide(self, name):
        return os.path.join(self.root, name)

    def output(self, name):
        return os.path.join(self.out, name[:-len(".svs")] + ".ome.tiff")

    def ok(self, command, *args, code=0, **how):
        r = harness.run(command, *map(str, args), **how)
        self.assertEqual(r.code, code, r)
        return r

    def create(self, *options):
        self.ok("catalog", "create", self.root, "--output", self.catalog, *options)

    def merge(self):
        return self.ok("catalog", "merge", self.catalog)

    def rows(self):
        r = self.ok("catalog", "list", self.catalog, "--format", "jsonl")
        return {row["path"]: row for row in map(json.loads, r.out.splitlines())}

    def states(self):
        self.merge()
        return {path: row["state"] for path, row in self.rows().items()}

    def arguments(self, *options):
        return ["--catalog", self.catalog, "--out", self.out, *map(str, options)]

    def ingest(self, *options, code=0, **how):
        return self.ok("ingest", *self.arguments(*options), code=code, **how)

    def mpirun(self, n):
        if shutil.which("mpirun") is None:
            self.skipTest("no mpirun")
        return ["mpirun", "--oversubscribe", "-n", str(n)]

    def start(self, *options, ranks=0, env=None):
        launcher = self.mpirun(ranks) if ranks else []
        if ranks:  # MPI's libraries leak; our own leaks are found with one rank
            env = dict(env or {}, ASAN_OPTIONS="detect_leaks=0")
        program = os.path.join(harness.BIN, "slidemill-ingest")
        log = self.path(f"log{len(os.listdir(self.dir))}")
        running = Running([*launcher, program, *self.arguments(*options)], env, log)
        self.addCleanup(running.stop)
        return running

    def start_hanging(self, name, *options, **how):
        """A run whose worker of slide `name` hangs."""
        running = self.start(*options, env={HOOK: f"hang@{name}"}, **how)
        begun = f'"path":"{name}"'
        wait_for(f"{name} to begin", lambda: begun in self.journals() and running.workers())
        time.sleep(0.2)
        return running

    def start_over(self):
        """As if there had been no run yet."""
        for path in (self.out, self.catalog + ".d/journal"):
            shutil.rmtree(path, True)
        if os.path.exists(self.catalog + ".d/out-mark"):
            os.unlink(self.catalog + ".d/out-mark")

    def journals(self):
        text = ""
        for folder, _, files in os.walk(self.catalog + ".d"):
            for file in files:
                if file.endswith(".jsonl"):
                    with open(os.path.join(folder, file), encoding="utf-8") as f:
                        text += f.read()
        return text

    def temporaries(self):
        return [f for _, _, files in os.walk(self.out) for f in files if f.startswith(".")]

    def assert_whole(self):
        """Every slide is done, byte for byte what convert makes, and nothing else is there."""
        self.assertEqual(set(self.states().values()), {"done"})
        self.assertEqual(self.temporaries(), [])
        for name in self.names:
            alone = self.path("alone.ome.tiff")
            self.ok("convert", "--quiet", "--force", self.slide(name), alone)
            self.assertEqual(sha256(self.output(name)), sha256(alone), name)


class AWholeCorpus(Case):
    def test_shards_of_a_plan_make_all_pyramids_once(self):
        self.create()
        plan = self.ok("plan", "--catalog", self.catalog, "--shards", 2, "--json").json()
        self.assertEqual((plan["slides"], plan["shards"], plan["empty_shards"]), (N, 2, 0))
        self.assertEqual(plan["bytes"], sum(os.path.getsize(self.slide(n)) for n in self.names))
        self.assertLess(plan["shard_bytes_max"] - plan["shard_bytes_min"], plan["bytes"] / 4)
        first = self.ingest("--shard", 0, "--log", "json").json()
        second = self.ingest("--shard", 1, "--log", "json").json()
        self.assertEqual(first["done"] + second["done"], N)
        before = {n: os.stat(self.output(n)).st_mtime_ns for n in self.names}
        again = self.ingest("--shard", 0, "--log", "json").json()
        self.assertEqual((again["slides"], again["recorded_before"]), (0, first["done"]))
        self.assert_whole()
        self.assertEqual(self.ingest("--log", "json").json()["slides"], 0)
        self.assertEqual({n: os.stat(self.output(n)).st_mtime_ns for n in self.names}, before)
        empty = self.ok("plan", "--catalog", self.catalog, "--shards", 3, "--json").json()
        self.assertEqual((empty["slides"], empty["plan"]), (0, plan["plan"] + 1))

    def test_ranks_make_the_same_bytes(self):
        self.create()
        r = self.start("--log", "json", ranks=3).end()
        self.assertEqual(r.code, 0, r)
        self.assertEqual(r.json()["done"], N)
        lines = [json.loads(line) for line in r.err.splitlines()]
        self.assertEqual(sorted(x["slide"] for x in lines if x["event"] == "done"),
                         sorted(self.names))
        self.assertGreater(len({x["rank"] for x in lines if x["event"] == "done"}), 1, r)
        self.assert_whole()

    def test_several_workers_a_rank_make_the_same_bytes(self):
        self.create()
        self.ingest("--workers", 3, "--streams-per-brick", 2)
        self.assert_whole()

    def test_log_and_summary_are_json_where_asked_for(self):
        self.create()
        r = self.ingest("--log", "json")
        for line in r.err.splitlines():
            row = json.loads(line)
            self.assertTrue({"time", "level", "rank", "event"} <= row.keys(), line)
        self.assertEqual(r.json()["status"], "ok")
        self.assertEqual(self.ingest("--quiet").err, "")

    def test_slides_of_one_stem_keep_their_full_names(self):
        shutil.copy(self.slide(self.names[1]), self.slide("a/s0.tif"))
        self.create()
        self.ingest()
        self.assertEqual(sorted(os.listdir(os.path.join(self.out, "a"))),
                         ["s0.svs.ome.tiff", "s0.tif.ome.tiff", "s2.ome.tiff", "s4.ome.tiff"])


class Failures(Case):
    def fails(self, hook, error_class, *options):
        self.create()
        r = self.ingest(*options, code=1, env={HOOK: f"{hook}@a/s2.svs"})
        self.assertIn(f"event=failed slide=a/s2.svs class={error_class}", r.err)
        states = self.states()
        self.assertEqual(states.pop("a/s2.svs"), "failed")
        self.assertEqual(set(states.values()), {"done"})
        self.assertEqual(self.rows()["a/s2.svs"]["error_class"], error_class)
        self.assertEqual(self.temporaries(), [])
        self.assertEqual(self.ingest("--log", "json", code=1).json()["slides"], 0)
        self.ok("catalog", "retry", self.catalog, "--state", "failed")
        self.assertEqual(self.ingest("--log", "json").json()["done"], 1)
        self.assert_whole()

    def test_a_crash_is_one_failed_slide(self):
        self.fails("crash", "crash")

    def test_a_worker_that_says_nothing_is_one_failed_slide(self):
        self.fails("exit:3", "internal")

    def test_a_slide_that_never_ends_is_one_failed_slide(self):
        self.fails("spin", "timeout", "--slide-timeout", 3 * harness.SLOWER, "--stall", 1)

    def test_a_stalled_slide_is_named_with_its_stage(self):
        self.create()
        r = self.ingest("--slide-timeout", 3 * harness.SLOWER, "--stall", 1, code=1,
                        env={HOOK: "hang@a/s2.svs"})
        self.assertRegex(r.err, r"level=warn rank=0 event=stalled slide=a/s2.svs stage=\w+ ")

    def test_a_worker_that_cannot_be_killed_is_set_aside(self):
        group = f"/sys/fs/cgroup/freezer/slidemill-test-{os.getpid()}"
        try:
            os.mkdir(group)
        except OSError:
            self.skipTest("no freezer to make a process unkillable with")

        def write(file, text):
            with open(os.path.join(group, file), "w", encoding="utf-8") as f:
                f.write(text)

        def read(file):
            with open(os.path.join(group, file), encoding="utf-8") as f:
                return f.read()

        def thaw():
            write("freezer.state", "THAWED")
            wait_for("an empty group", lambda: not read("cgroup.procs"))
            os.rmdir(group)
        self.create()
        running = self.start("--slide-timeout", 4, env={HOOK: "hang@a/s4.svs"})
        self.addCleanup(thaw)
        self.addCleanup(running.stop)
        wait_for("it to begin", lambda: '"path":"a/s4.svs"' in self.journals() and
                 running.workers())
        write("cgroup.procs", str(running.workers()[0]))
        write("freezer.state", "FROZEN")
        wait_for("the others", lambda: running.text().count("event=done") == N - 1, 60)
        self.assertIn("level=warn rank=0 event=stuck slide=a/s4.svs stage=", running.text())
        self.assertIsNone(running.process.poll())
        write("freezer.state", "THAWED")
        r = running.end()
        self.assertEqual(r.code, 1, r)
        self.assertIn("event=failed slide=a/s4.svs class=timeout", r.err)

    def test_wrong_bytes_are_quarantined_and_nothing_is_published(self):
        self.create("--no-scan")
        wrong = "b/s3.svs"
        with open(self.path("sums"), "w", encoding="utf-8") as f:
            for name in self.names:
                digest = sha256(self.slide(name)) if name != wrong else "ab" * 32
                f.write(f"{digest}  {name}\n")
        self.ok("catalog", "import", self.catalog, self.path("sums"), "--add")
        r = self.ingest(code=1)
        self.assertIn(f"event=quarantined slide={wrong} class=digest", r.err)
        self.assertFalse(os.path.exists(self.output(wrong)))
        states = self.states()
        self.assertEqual(states.pop(wrong), "quarantined")
        self.assertEqual(set(states.values()), {"done"})
        self.assertEqual(self.temporaries(), [])

    def test_a_file_of_somebody_else_is_not_replaced(self):
        self.create()
        os.makedirs(os.path.dirname(self.output("a/s2.svs")))
        with open(self.output("a/s2.svs"), "wb") as f:
            f.write(b"precious")
        r = self.ingest(code=1)
        self.assertIn("class=exists", r.err)
        with open(self.output("a/s2.svs"), "rb") as f:
            self.assertEqual(f.read(), b"precious")

    def test_a_file_changed_since_the_scan_is_not_converted(self):
        self.create()
        with open(self.slide("a/s2.svs"), "ab") as f:
            f.write(b"more")
        r = self.ingest(code=1)
        self.assertIn("class=changed", r.err)
        self.assertFalse(os.path.exists(self.output("a/s2.svs")))

    def test_an_absent_slide_is_tried_again_until_it_is_there(self):
        self.create()
        os.rename(self.slide("a/s2.svs"), self.path("away"))
        running = self.start("--retry-for", 60)
        wait_for("a retry", lambda: "event=retry slide=a/s2.svs class=missing" in running.text())
        os.rename(self.path("away"), self.slide("a/s2.svs"))
        self.assertEqual(running.end().code, 0)
        self.assert_whole()

    def test_an_absent_slide_is_given_up_in_the_end(self):
        self.create()
        os.unlink(self.slide("a/s2.svs"))
        r = self.ingest("--retry-for", 2, "--log", "json", code=1).json()
        self.assertEqual((r["done"], r["failed"]), (N - 1, 1))
        self.assertGreaterEqual(r["retries"], 1)
        self.states()
        self.assertEqual(self.rows()["a/s2.svs"]["error_class"], "missing")


class Interrupted(Case):
    def test_a_signal_lets_slides_finish_or_hands_them_back(self):
        self.create()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            self.start_over()
            with self.subTest(signal=number):
                running = self.start_hanging("a/s2.svs", "--grace", 0)
                running.process.send_signal(number)
                r = running.end()
                self.assertEqual(r.code, 75, r)
                self.assertIn("event=abandoned slide=a/s2.svs", r.err)
                self.assertEqual(self.ingest("--log", "json").json()["failed_before"], 0)
        self.assert_whole()

    def test_a_signal_to_one_rank_stops_all(self):
        self.create()
        running = self.start("--grace", 0, ranks=2, env={HOOK: "hang@/s"})
        wait_for("two workers", lambda: len(running.workers()) == 2)
        os.kill(running.children()[1][0], signal.SIGUSR1)
        r = running.end()
        self.assertEqual(r.code, 75, r)
        self.assertEqual(r.err.count("event=abandoned"), 2, r)
        self.ingest()
        self.assert_whole()

    def test_a_killed_rank_costs_its_slide_one_try(self):
        self.create()
        for ranks in (0, 2):
            self.start_over()
            with self.subTest(ranks=ranks):
                running = self.start_hanging("a/s2.svs", ranks=ranks)
                workers = running.workers()
                victim = running.process.pid if not ranks else running.children()[-1][0]
                os.kill(victim, signal.SIGKILL)
                running.process.communicate(timeout=60)
                wait_for("its workers' end",
                         lambda w=workers: not any(os.path.exists(f"/proc/{p}") for p in w))
                self.ingest()
        self.assert_whole()

    def test_a_killed_worker_costs_nothing(self):
        self.create()
        running = self.start_hanging("a/s2.svs", "--grace", 0)
        os.kill(running.workers()[0], signal.SIGKILL)
        wait_for("another try", lambda: self.journals().count('"path":"a/s2.svs"') == 2)
        running.process.send_signal(signal.SIGTERM)
        self.assertEqual(running.end().code, 75)
        self.ingest()
        self.assert_whole()

    def test_what_a_killed_run_recorded_counts_until_it_is_retried(self):
        self.create()
        running = self.start("--workers", 1,
                             env={HOOK: "crash@a/s4.svs"})  # large: comes early
        wait_for("the failure", lambda: "event=failed slide=a/s4.svs" in running.text())
        running.stop()
        for _ in range(2):  # the journal has no end: merged, it stays where it is for a while
            self.assertEqual(self.ingest("--log", "json", code=1).json()["failed_before"], 1)
            self.merge()
        self.ok("catalog", "retry", self.catalog, "--state", "failed")
        self.assertEqual(self.ingest("--log", "json").json()["done"], 1)
        self.assert_whole()

    def test_a_journal_that_cannot_be_written_stops_the_run(self):
        self.create()
        r = self.ingest("--retry-for", 1, code=74, env={"SLIDEMILL_TEST_JOURNAL_FAIL": "4+100000"})
        self.assertIn("cannot write the journal", r.err)
        self.ingest()
        self.assert_whole()

    def test_a_journal_that_fails_once_loses_nothing(self):
        self.create()
        self.ingest(env={"SLIDEMILL_TEST_JOURNAL_FAIL": "4"})
        self.assert_whole()


class TwoAtOnce(Case):
    def test_the_second_of_two_runs_is_refused_and_told_by_whom(self):
        self.create()
        running = self.start_hanging("a/s2.svs", "--grace", 0)
        r = self.ingest(code=75)
        self.assertRegex(r.err, rf"shards\.lock: held by .* pid {running.process.pid} \(ingest")
        r = self.ok("plan", "--catalog", self.catalog, "--shards", 2, code=75)
        self.assertIn("held by", r.err)
        running.process.send_signal(signal.SIGTERM)
        self.assertEqual(running.end().code, 75)
        self.ingest()
        self.assert_whole()

    def test_different_shards_run_side_by_side(self):
        self.create()
        self.ok("plan", "--catalog", self.catalog, "--shards", 2)
        shard = self.rows()["a/s2.svs"]["shard"]
        running = self.start_hanging("a/s2.svs", "--grace", 0, "--shard", shard)
        self.ingest("--shard", shard, code=75)
        self.ingest("--shard", 1 - shard)
        self.ingest(code=75)  # all of it, that is: also the other's shard
        running.process.send_signal(signal.SIGTERM)
        self.assertEqual(running.end().code, 75)
        self.ingest("--shard", shard)
        self.assert_whole()

    def test_ranks_with_nothing_to_do_use_no_cpu(self):
        self.create()
        running = self.start("--grace", 0, ranks=2, env={HOOK: "hang@/s"})
        wait_for("two workers", lambda: len(running.workers()) == 2)

        def ticks(pid):
            with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
                words = f.read().rsplit(")", 1)[1].split()
            return int(words[11]) + int(words[12])
        ranks = [p for p, comm in running.children() if comm.startswith("slidemill-inge")]
        self.assertEqual(len(ranks), 2)
        before = [ticks(p) for p in ranks]
        time.sleep(3)
        used = [(ticks(p) - b) / os.sysconf("SC_CLK_TCK") / 3 for p, b in zip(ranks, before)]
        running.stop()
        self.assertLess(max(used), 0.05 * harness.SLOWER)


class Checks(Case):
    def test_hash_only_learns_and_then_finds_a_flipped_bit(self):
        self.create()
        hash_only = ["--catalog", self.catalog, "--hash-only", "--log", "json"]
        self.assertEqual(self.ok("ingest", *hash_only).json()["done"], N)
        self.merge()
        for name, row in self.rows().items():
            self.assertEqual((row["digest"], row["digest_origin"]),
                             (sha256(self.slide(name)), "learned"))
        self.assertEqual(self.ok("ingest", *hash_only).json()["slides"], 0)
        path = self.slide("a/s2.svs")
        times = os.stat(path)
        with open(path, "r+b") as f:
            f.seek(2000)
            byte = f.read(1)[0]
            f.seek(2000)
            f.write(bytes([byte ^ 1]))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assertEqual(self.ok("ingest", *hash_only, "--recheck", code=1).json()["quarantined"],
                         1)
        self.assertEqual(self.states()["a/s2.svs"], "quarantined")

    def test_check_outputs_finds_damage_and_loss(self):
        self.create()
        self.ingest()
        self.merge()
        check = ["--catalog", self.catalog, "--check-outputs", "--recheck", "--log", "json"]
        self.assertEqual(self.ok("ingest", *check).json()["done"], N)
        self.merge()
        with open(self.output("a/s2.svs"), "r+b") as f:
            f.seek(3000)
            f.write(b"damaged")
        os.unlink(self.output("b/s3.svs"))
        self.assertEqual(self.ok("ingest", *check, "--retry-for", 0, code=1).json()["failed"], 2)
        states = self.states()
        self.assertEqual({states.pop("a/s2.svs"), states.pop("b/s3.svs")}, {"failed"})
        self.assertEqual(set(states.values()), {"done"})
        self.ok("catalog", "retry", self.catalog, "--class", "output")
        self.assertEqual(self.ingest("--log", "json").json()["done"], 2)
        self.assert_whole()

    def test_an_empty_mount_point_is_not_the_folder_of_the_outputs(self):
        self.create()
        self.ok("plan", "--catalog", self.catalog, "--shards", 2)
        self.ingest("--shard", 0)
        os.rename(self.out, self.out + ".mounted")
        self.assertIn("is it mounted here?", self.ingest("--shard", 1, code=74).err)
        os.mkdir(self.out)  # what a mount point is without its mount
        r = self.ingest("--shard", 1, code=74)
        self.assertIn(f"{self.out}: is not the folder that the first run, on ", r.err)
        self.assertIn("corpus.smc.d/out-mark", r.err)
        self.merge()
        r = self.ok("catalog", "verify", self.catalog, "--what", "outputs", code=74)
        self.assertIn("is it mounted here?", r.err)
        self.assertEqual(os.listdir(self.out), [])
        self.assertNotIn("failed", self.states().values())
        os.rmdir(self.out)
        os.rename(self.out + ".mounted", self.out)
        self.ingest("--shard", 1)
        self.ok("catalog", "verify", self.catalog, "--what", "outputs")
        self.assert_whole()

    def test_a_copied_catalog_goes_on_by_itself(self):
        self.create()
        self.ingest()
        self.merge()
        os.rename(self.catalog, self.path("copy.smc"))
        self.catalog = self.path("copy.smc")
        with open(self.slide("a/s0.svs"), "ab") as f:
            f.write(b"more")
        self.ok("catalog", "scan", self.catalog)
        shutil.rmtree(self.catalog + ".d")  # and this is a copy without a folder
        self.ingest()
        self.assert_whole()

    def test_who_emptied_the_folder_on_purpose_can_go_on(self):
        self.create()
        self.ingest()
        self.merge()
        shutil.rmtree(self.out)
        os.mkdir(self.out)
        self.ok("catalog", "verify", self.catalog, "--what", "outputs", code=74)
        os.unlink(self.catalog + ".d/out-mark")
        self.ok("ingest", "--catalog", self.catalog, "--check-outputs", "--recheck",
                "--retry-for", 0, code=1)
        self.merge()
        self.ok("catalog", "retry", self.catalog, "--class", "output")
        self.ingest()
        self.assert_whole()


class CommandLine(Case):
    def refused(self, *args, says, code=2):
        r = self.ok("ingest", *args, code=code)
        self.assertIn(says, r.err)
        self.assertEqual(r.out, "")

    def test_wrong_command_lines_are_told_before_any_work(self):
        c, o = ["--catalog", self.catalog], ["--out", self.out]
        self.refused(*o, says="--catalog is missing")
        self.refused(*c, says="--out is missing")
        self.refused(*c, *o, says="no such catalog")
        self.create()
        self.refused(*c, *o, "--hash-only", "--check-outputs", says="exclude each other")
        self.refused(*c, *o, "--recheck", says="--recheck")
        self.refused(*c, *o, "--suffix", "x/y", says="--suffix")
        self.refused(*c, *o, "--shard", "1x", says="'1x'")
        self.refused(*c, *o, "--shard", "0", says="has no plan yet")
        self.refused(*c, "--out", self.path("none/such"), says="none/such")
        self.refused(*c, "--out", os.path.join(self.root, "out"), says="in the tree of the slides")
        self.ok("plan", "--catalog", self.catalog, "--shards", 2)
        self.refused(*c, *o, "--shard", "2", says="shards 0..1")
        for args, says in ((c, "--shards is missing"), (["--shards", "2"], "--catalog is missing"),
                           (["--catalog", self.path("no"), "--shards", "2"], "no such catalog")):
            self.assertIn(says, self.ok("plan", *args, code=2).err)
        self.assertFalse(os.path.exists(self.out))

    def test_another_target_is_refused_before_and_after_a_merge(self):
        self.create()
        self.ingest()
        for _ in range(2):
            self.refused("--catalog", self.catalog, "--out", self.path("elsewhere"),
                         says=f"its outputs are in {self.out}, not in {self.path('elsewhere')}")
            self.refused("--catalog", self.catalog, "--out", self.out, "--quality", "50",
                         says="with --quality=85, not --quality=50")
            self.merge()
        self.assertFalse(os.path.exists(self.path("elsewhere")))
        self.ingest("--threads", 1, "--verify", "cache")  # how, not what


if __name__ == "__main__":
    harness.main()
