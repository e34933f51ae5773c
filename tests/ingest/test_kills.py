#!/usr/bin/env python3
# ctest: labels=ingest timeout=1800
"""Nothing is lost: workers, ranks, mpirun and merges are killed at random moments and between any
two steps; what is started again ends with every slide done, the same bytes, and books that agree.

Short form: 12 moments; SLIDEMILL_LONG=1: 200. SLIDEMILL_SEED repeats the choices of a run (not the
machine's own timing).
"""
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import kills  # noqa: E402

SEED = int(os.environ.get("SLIDEMILL_SEED") or random.SystemRandom().randrange(1 << 32))
MOMENTS = 200 if harness.LONG else 12
N = 60
STEPS = 6  # SM_GENERATION_STEPS
INTERRUPTED = 75
KILLED = -signal.SIGKILL

_corpus = {}


def setUpModule():
    """The slides, and what a run that nobody disturbs makes of them."""
    print(f"SLIDEMILL_SEED={SEED}", flush=True)
    folder = harness.tempfile.mkdtemp(prefix="slidemill-test.", dir=harness._scratch_base())
    _corpus.update(dir=folder, root=os.path.join(folder, "root"))
    _corpus["names"] = kills.draw_slides(_corpus["root"], N)


def tearDownModule():
    shutil.rmtree(_corpus["dir"], True)


class Case(kills.Case):
    def setUp(self):
        self.root, self.names = _corpus["root"], _corpus["names"]
        super().setUp()
        self.random = random.Random(f"{SEED} {self.id()}")
        if "pyramids" not in _corpus:
            self.learn_undisturbed()

    def learn_undisturbed(self):
        """Also: where nobody disturbs, every slide is tried once."""
        self.corpus("undisturbed")
        self.create()
        began = time.monotonic()
        self.ingest("--threads", 1)
        _corpus["seconds"] = time.monotonic() - began
        began = time.monotonic()
        self.merge()
        _corpus["merge_seconds"] = time.monotonic() - began
        pyramids = self.pyramids()
        self.assertEqual(len(pyramids), N)
        self.assert_nothing_lost(pyramids)
        self.assertEqual(self.ask("SELECT count(*), count(DISTINCT slide) FROM attempt"), [(N, N)])
        _corpus["pyramids"] = pyramids
        self.corpus("disturbed")

    def assert_all_is_well(self, also=()):
        self.assert_nothing_lost(_corpus["pyramids"], also)

    def assert_nothing_wrong(self):
        """What holds at any moment, orphans at work or not: what is told as made is there, what is
        there is whole and the right bytes; merged, the catalog has every end that was told."""
        ends = {event_id: e["outcome"] for event_id, e in
                kills.journal_events(self.catalog).items() if e["t"] == "end"}
        told = {o["output"]["path"] for o in ends.values() if o["outcome"] == "ok"}
        found = {path: kills.sha256(os.path.join(self.out, path)) for path in _corpus["pyramids"]
                 if os.path.exists(os.path.join(self.out, path))}
        self.assertLessEqual(told, found.keys(), "recorded, but not published")
        self.assertLessEqual(found.items(), _corpus["pyramids"].items(), "published: other bytes")
        if self.random.random() < 0.5:  # else the next run has the journals to go by
            self.merge()
            rows = self.ask("SELECT run.run || '.' || run.rank || '.' || a.seq FROM attempt a "
                            "JOIN run ON run.id = a.run")
            self.assertLessEqual(ends.keys(), {row[0] for row in rows}, "told, but not merged")

    def run_to_the_end(self, *options, ranks=0):
        """As a person or Slurm would: again until it says that all is done."""
        def once():
            r = self.start_ingest("--threads", 1, *options, ranks=ranks).end()
            if r.code == INTERRUPTED:  # ranks of a dead mpirun may still be about to notice it
                return None
            self.assertEqual(r.code, 0, r)
            return r
        return kills.wait_for("an ingest that ends well", once, 60, 0.2)

    def begun(self):
        """How often each slide was begun, by the journals."""
        return collections.Counter(e["slide"] for e in
                                   kills.journal_events(self.catalog).values()
                                   if e["t"] == "begin")


class Victims(harness.Case):
    """Of the instrument: a kill of what was dead already would prove nothing."""

    def test_only_what_lives_is_killed(self):
        zombie = subprocess.Popen(["true"])
        kills.wait_for("a zombie", lambda: kills.state_of(zombie.pid) == "Z")
        self.assertTrue(kills.send(zombie.pid, signal.SIGKILL), "kill() alone would tell")
        self.assertFalse(kills.end_process(zombie.pid))
        self.assertEqual(zombie.wait(), 0)
        self.assertFalse(kills.end_process(zombie.pid))
        sleeper = subprocess.Popen(["sleep", "60"])
        self.assertTrue(kills.end_process(sleeper.pid))
        self.assertEqual(sleeper.wait(), KILLED)


class AtRandomMoments(Case):
    on_disk = True  # where an fsync takes its time

    def pause(self, most):
        time.sleep(self.random.uniform(0, most))

    def kill_merge(self):
        merge = self.start("catalog", "merge", self.catalog)
        self.pause(1.5 * _corpus["merge_seconds"])
        hit = kills.end_process(merge.pid)
        r = merge.end()
        self.assertEqual(r.code, KILLED if hit else 0, r)
        return hit

    def kill_one(self, running, kind):
        """False: there was none, or it was quicker."""
        if kind == "merge":
            return self.kill_merge()
        victims = running.of_kind(kind)
        return bool(victims) and kills.end_process(self.random.choice(victims))

    def disturb(self, running, kinds, left):
        """Kill until the run ends or enough was killed; how much was, by kind."""
        killed = collections.Counter()
        while running.running() and killed.total() < left:
            self.pause(_corpus["seconds"] / 3)
            running.end_if_hung()
            if not self.deck:
                self.deck = self.random.sample(kinds, len(kinds))
            if self.kill_one(running, self.deck[-1]):
                killed[self.deck.pop()] += 1
        return killed

    def one_corpus(self, kinds, ranks, left):
        """From nothing to a corpus that is done, under fire. How much was killed, by kind."""
        self.create()
        killed = collections.Counter()
        shards = self.random.choice((0, 2))
        if shards:
            self.ok("plan", "--catalog", self.catalog, "--shards", shards)
        codes = []
        while killed.total() < left and 0 not in codes:
            shard = ["--shard", self.random.randrange(shards)] if shards else []
            running = self.start_ingest("--threads", 1, "--quiet", *shard, ranks=ranks)
            killed += self.disturb(running, kinds, left - killed.total())
            r = running.end()
            # 137: mpirun tells of a rank that was killed
            self.assertIn(r.code, (0, INTERRUPTED, KILLED, 137), r)
            self.assert_nothing_wrong()
            codes.append(r.code)
        self.run_to_the_end(ranks=self.random.choice((0, ranks)))
        self.assert_all_is_well()
        return killed

    def under_fire(self, kinds, ranks, moments):
        killed, self.deck = collections.Counter(), []
        for i in range(10 * moments):
            if killed.total() >= moments:
                break
            self.corpus(f"corpus{i}")
            with self.subTest(seed=SEED, corpus=i, killed=dict(killed)):
                killed += self.one_corpus(kinds, ranks, moments - killed.total())
        print(f"{self._testMethodName}: killed {dict(killed)}", flush=True)
        self.assertEqual(killed.keys(), set(kinds), "not every kind was killed")
        self.assertEqual(killed.total(), moments)

    def test_with_one_rank(self):
        self.under_fire(("worker", "rank", "merge"), 0, MOMENTS // 3)

    def test_under_mpirun(self):
        self.under_fire(("worker", "rank", "mpirun", "merge"), 2, MOMENTS - MOMENTS // 3)


class BetweenTwoSteps(Case):
    def temporaries(self):
        return [os.path.join(folder, f) for folder, _, files in os.walk(self.out)
                for f in files if kills.TEMPORARY.fullmatch(f)]

    def test_a_pyramid_half_written_when_all_die(self):
        self.create()
        running = self.start_ingest("--threads", 1)
        kills.wait_for("a temporary", self.temporaries, pause=0)
        workers = running.of_kind("worker")
        for pid in workers:
            kills.send(pid, signal.SIGSTOP)
        left = self.temporaries()
        running.stop()
        kills.wait_for("the worker's end", lambda: not any(map(kills.alive, workers)))
        self.assertGreater(len(left), 0)
        self.assertLess(len(self.pyramids()), N)
        self.run_to_the_end()
        self.assertFalse(set(left) & set(self.temporaries()))
        self.assert_all_is_well()

    def test_a_pyramid_published_but_not_told_when_its_rank_dies(self):
        self.create()
        running = self.start_ingest("--threads", 1)
        worker = kills.wait_for("a worker", lambda: running.of_kind("worker"), pause=0)[0]
        kills.send(running.pid, signal.SIGSTOP)
        kills.wait_for("its end", lambda: not kills.alive(worker))
        running.stop()
        ended = [e for e in kills.journal_events(self.catalog).values() if e["t"] == "end"]
        published = self.pyramids()
        self.assertEqual(len(published), len(ended) + 1, "nothing was published unrecorded")
        self.run_to_the_end()
        self.assertEqual(sum(self.begun().values()), N + 1)
        self.assert_all_is_well()

    def test_a_merge_at_every_step_of_its_publication(self):
        self.create()
        self.ingest("--threads", 1)
        kept = self.path("kept")
        subprocess.run(["cp", "-a", os.path.dirname(self.catalog), kept], check=True)
        for step in range(1, STEPS + 1):
            with self.subTest(step=step):
                shutil.rmtree(os.path.dirname(self.catalog))
                subprocess.run(["cp", "-a", kept, os.path.dirname(self.catalog)], check=True)
                before = self.states()
                self.merge(code=137, env={kills.DIE_AT: str(step)})
                states = self.states()
                if states != before:
                    self.assertEqual(set(states.values()), {"done"})
                self.ok("catalog", "status", self.catalog)
                self.ok("catalog", "fsck", self.catalog)
                self.assertEqual(self.ingest("--log", "json").json()["slides"], 0)
                self.assert_all_is_well()

    def test_a_plan_and_a_new_catalog_at_every_step(self):
        for step in range(1, STEPS + 1):
            with self.subTest(step=step):
                self.corpus(f"step{step}")
                how = {"env": {kills.DIE_AT: str(step)}, "code": 137}
                create = ("catalog", "create", self.root, "--output", self.catalog)
                self.ok(*create, **how)
                if not os.path.exists(self.catalog):  # was the number claimed? Then it is put there
                    claimed = os.path.exists(self.catalog + ".d/gen-0000000001")
                    r = self.ok(*create)
                    self.assertEqual("is there and whole" in r.out, claimed, r)
                self.assertEqual(collections.Counter(self.states().values()), {"new": N})
                plan = ("plan", "--catalog", self.catalog, "--shards", 3)
                self.ok(*plan, **how)
                self.assertIn(collections.Counter(self.states().values()),
                              ({"new": N}, {"planned": N}))
                self.ok(*plan)
                self.assertEqual(self.ask("SELECT count(*) FROM slide WHERE shard IN (0, 1, 2)"),
                                 [(N,)])
                self.ok("catalog", "fsck", self.catalog)
                self.assertEqual(self.left_over(), [])


class TwoAtOnce(Case):
    def two_submissions(self, ranks):
        self.create()
        both = [self.start_ingest("--threads", 1, "--log", "json", ranks=ranks) for _ in "12"]
        ends = [running.end() for running in both]
        codes = sorted(r.code for r in ends)
        self.assertIn(codes, ([0, 0], [0, INTERRUPTED]), "\n".join(map(str, ends)))
        if codes == [0, 0]:  # the second began after the first had ended
            self.assertEqual(sorted(r.json()["slides"] for r in ends), [0, N])
        else:
            refused = next(r for r in ends if r.code == INTERRUPTED)
            self.assertIn("shards.lock: held by", refused.err)
        self.assertEqual(set(self.begun().values()), {1}, "a slide was converted twice")
        self.assert_all_is_well()
        return codes[1] == INTERRUPTED

    def test_the_second_of_two_identical_submissions_refuses(self):
        n_refused = 0
        for i, ranks in enumerate((0, 0, 2, 0, 2)[:5 if harness.LONG else 3]):
            self.corpus(f"try{i}")
            with self.subTest(ranks=ranks):
                n_refused += self.two_submissions(ranks)
        self.assertGreater(n_refused, 0, "the two never met")

    def test_two_merges_at_once_fold_every_event_once(self):
        self.create()
        self.ingest("--threads", 1)
        both = [self.start("catalog", "merge", self.catalog) for _ in "1234"]
        for running in both:
            r = running.end()
            self.assertEqual(r.code, 0, r)
        self.assertEqual(self.ask("SELECT count(*) FROM attempt"), [(N,)])
        self.assertEqual(self.ask("SELECT value FROM meta WHERE name = 'generation'"), [("2",)])
        self.assert_all_is_well()

    def test_a_reader_during_merges_sees_one_whole_generation(self):
        shards = 12
        self.create()
        self.ok("plan", "--catalog", self.catalog, "--shards", shards)
        aside, of_shard = self.path("aside"), {}
        os.mkdir(aside)
        for path, shard in self.ask("SELECT path, shard FROM slide"):
            of_shard.setdefault(shard, set()).add(path)
        for shard in range(shards):
            self.ingest("--threads", 1, "--shard", shard)
            folder = f"{self.catalog}.d/journal/p0001-s{shard:04}"
            shutil.move(folder, os.path.join(aside, str(shard)))
        whole = [set().union(*(of_shard[s] for s in range(n))) for n in range(shards + 1)]
        seen, wrong, over = set(), [], threading.Event()

        def read():
            while not over.is_set() and not wrong:
                r = harness.run("catalog", "list", self.catalog, "--format", "jsonl")
                rows = [json.loads(line) for line in r.out.splitlines()]
                done = {row["path"] for row in rows if row["state"] == "done"}
                if r.code != 0 or len(rows) != N or done not in whole:
                    wrong.append(str(r))
                else:
                    seen.add(whole.index(done))

        readers = [threading.Thread(target=read) for _ in "12"]
        for reader in readers:
            reader.start()
        try:
            for shard in range(shards):
                folder = os.path.join(aside, str(shard))
                self.merge(*(os.path.join(folder, f) for f in os.listdir(folder)))
                time.sleep(self.random.uniform(0, 0.03))
        finally:
            over.set()
            for reader in readers:
                reader.join()
        self.assertEqual(wrong, [])
        self.assertGreaterEqual(len(seen), 4, "the readers hardly met a merge")
        self.assert_all_is_well()


class Journals(Case):
    def setUp(self):
        super().setUp()
        self.create()
        self.ingest("--threads", 1)
        folder = self.catalog + ".d/journal/all"
        names = os.listdir(folder)
        self.assertEqual(len(names), 1)
        self.journal = os.path.join(folder, names[0])
        with open(self.journal, "rb") as f:
            self.bytes = f.read()

    def kept(self):
        """This corpus, its journal not merged yet, under another name."""
        self.n_kept = getattr(self, "n_kept", 0) + 1
        name, before = f"kept{self.n_kept}", os.path.dirname(self.catalog)
        subprocess.run(["cp", "-a", before, self.path(name)], check=True)
        return self.path(name)

    def torn(self, length):
        with open(self.journal, "wb") as f:
            f.write(self.bytes[:length])

    def ended(self, length):
        """Slides whose end stands before a tear."""
        lines = self.bytes[:length].split(b"\n")[:-1]
        return {e["outcome"]["slide"] for e in map(json.loads, lines) if e["t"] == "end"}

    def test_a_torn_tail_costs_the_slides_of_the_tail_alone(self):
        home, first = os.path.dirname(self.catalog), self.bytes.index(b"\n") + 1
        kept = self.kept()
        cuts = [len(self.bytes) - 1, first, first + 1, self.bytes.rindex(b'{"t":"end"') + 30]
        cuts += [self.random.randrange(first, len(self.bytes))
                 for _ in range(40 if harness.LONG else 6)]
        for cut in cuts:
            with self.subTest(cut=cut, of=len(self.bytes)):
                shutil.rmtree(home)
                subprocess.run(["cp", "-a", kept, home], check=True)
                self.torn(cut)
                r = self.merge()
                if self.bytes[cut - 1:cut] != b"\n":
                    self.assertRegex(r.out + r.err, r"(?i)torn|half a line|last line")
                done = {row[0] for row in self.ask("SELECT id FROM slide WHERE state = 'done'")}
                self.assertEqual(done, self.ended(cut))
                self.assert_books_agree()
                self.ok("catalog", "fsck", self.catalog)
        self.run_to_the_end()
        self.assert_all_is_well()

    def test_a_half_journal_and_then_the_whole_one(self):
        whole = self.path("whole.jsonl")
        shutil.copy(self.journal, whole)
        self.torn(self.random.randrange(len(self.bytes) // 2, len(self.bytes) - 1))
        self.merge()
        self.assertNotEqual(self.ended(len(self.bytes)), set())
        self.merge(whole)
        # a slide that was counted lost has its end now; both are events, and both stay
        self.assertEqual(set(self.states().values()), {"done"})
        self.assertEqual(self.ingest("--log", "json").json()["slides"], 0)
        self.ok("catalog", "fsck", self.catalog)
        self.assertEqual(self.pyramids(), _corpus["pyramids"])

    def test_a_journal_twice_and_a_merge_twice_change_nothing_more(self):
        copies = [self.path(f"copy{i}.jsonl") for i in range(2)]
        for copy in copies:
            shutil.copy(self.journal, copy)
        shutil.copy(self.journal, self.journal.replace("-00.jsonl", "-01.jsonl"))
        self.merge(*copies)
        generation = self.ask("SELECT value FROM meta WHERE name = 'generation'")
        self.merge()
        self.merge(*copies)
        self.assertEqual(self.ask("SELECT value FROM meta WHERE name = 'generation'"), generation)
        self.assertEqual(self.ask("SELECT count(*), count(DISTINCT slide) FROM attempt"), [(N, N)])
        self.assertEqual(self.ask("SELECT DISTINCT attempts FROM slide"), [(1,)])
        self.assert_all_is_well(copies)


class SlidesThatKill(Case):
    """A corpus of its own, in which some slides are bad."""

    def setUp(self):
        super().setUp()
        self.root, self.names = self.path("root"), _corpus["names"][:8]
        for name in self.names:
            os.makedirs(os.path.dirname(os.path.join(self.root, name)), exist_ok=True)
            shutil.copy(os.path.join(_corpus["root"], name), os.path.join(self.root, name))

    def assert_good_ones_done(self):
        want = {os.path.relpath(self.output(n), self.out) for n in self.names}
        found = self.pyramids()
        for path in want:
            self.assertEqual(found.get(path), _corpus["pyramids"][path], path)
        self.assertEqual(self.left_over(), [])

    def one_bad(self, how, error_class, *options):
        bad = self.random.choice(self.names)
        self.create()
        running = self.start_ingest("--threads", 1, *options, ranks=2,
                                    env={kills.HOOK: f"{how}@{bad}"})
        r = running.end()
        self.assertEqual(r.code, 1, r)
        self.merge()
        states = self.states()
        self.assertEqual(states.pop(bad), "failed", r)
        self.assertEqual(set(states.values()), {"done"}, r)
        self.assertEqual(self.ask("SELECT path, error_class FROM slide WHERE state = 'failed'"),
                         [(bad, error_class)])
        self.names = [n for n in self.names if n != bad]
        self.assert_good_ones_done()

    def test_a_slide_that_makes_the_worker_segfault(self):
        self.one_bad("crash", "crash")

    def test_a_slide_that_makes_the_worker_spin(self):
        self.one_bad("spin", "timeout", "--slide-timeout", 3 * harness.SLOWER)

    def test_a_slide_that_makes_the_worker_eat_memory(self):
        if harness.SANITIZED:
            self.skipTest("a sanitizer's address space cannot be limited")
        self.one_bad("eat", "memory", "--memory", "256M")

    def test_malformed_files_fail_alone(self):
        top = os.path.dirname(harness.slide("malformed/openslide-testcases.tsv"))
        found = sorted(os.path.join(folder, f) for folder, _, files in os.walk(top)
                       for f in files if f.lower().endswith((".tif", ".tiff", ".svs", ".jp2")))
        for i, path in enumerate(found[::1 if harness.LONG else 8]):
            ending = os.path.splitext(path)[1].lower()
            to = os.path.join(self.root, "bad", f"bad{i}{'.tif' if ending == '.jp2' else ending}")
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copyfile(path, to)
        self.create()
        r = self.start_ingest("--threads", 1, "--slide-timeout", 30 * harness.SLOWER,
                              ranks=2).end(600)
        self.assertEqual(r.code, 1, r)
        self.merge()
        states = collections.Counter(self.states().values())
        self.assertEqual(set(states), {"done", "failed"}, r)
        self.assertGreater(states["failed"], 5)
        self.assertEqual(self.ask("SELECT path FROM slide WHERE state = 'failed' AND "
                                  "(error_class IS NULL OR error IS NULL OR error = '' OR "
                                  "error_class = 'internal')"), [])
        self.assertEqual(self.ask("SELECT path FROM slide WHERE error_class = 'timeout'"), [])
        self.assert_good_ones_done()
        self.assert_books_agree()


if __name__ == "__main__":
    harness.main()
