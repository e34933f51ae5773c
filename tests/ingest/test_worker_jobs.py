# ctest: labels=ingest timeout=300
"""slidemill-worker by itself: a job in, the outcome out, for every way that a slide can go."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import unittest
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

WORKER = os.path.join(harness.BIN, "slidemill-worker")
if not os.access(WORKER, os.X_OK):
    sys.exit(f"slidemill-worker is not in {harness.BIN}")


def encoded(path):
    return urllib.parse.quote(os.fsencode(path), safe="/ !#$&'()*+,:;<=>?@[]^_`{|}~-.")


def digest(path, kind="sha256"):
    with open(path, "rb") as f:
        return f"{kind}:{hashlib.new(kind, f.read()).hexdigest()}"


class Running:
    """A worker at work on a job."""

    def __init__(self, job, *options, env=None, parent=None):
        answer, theirs = os.pipe()
        self.answer = answer

        def put_answer():
            os.dup2(theirs, 3)
        argv = [WORKER, *options, *([f"--parent={parent}"] if parent else [])]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(os.environ, **(env or {})), preexec_fn=put_answer, pass_fds=(3,))
        os.close(theirs)
        self.process.stdin.write(json.dumps(job).encode() if isinstance(job, dict) else job)
        self.process.stdin.close()

    def end(self):
        """(exit code, the lines before the outcome, the outcome or None, stderr)"""
        with os.fdopen(self.answer, "rb") as f:
            lines = [json.loads(line) for line in f.read().splitlines()]
        code = self.process.wait(60 * harness.SLOWER)
        err = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.stdout.close()
        outcome = lines.pop()["end"] if lines and "end" in lines[-1] else None
        return code, lines, outcome, err


class WorkerCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.root, self.out = self.path("in"), self.path("out")
        os.mkdir(self.root)
        os.mkdir(self.out)

    def file(self, name, size=3_000_000, seed=1):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        block = hashlib.sha256(str(seed).encode()).digest() * 4096
        with open(path, "wb") as f:
            f.write((block * (size // len(block) + 1))[:size])
        return path

    def slide(self, name="a/b/slide.svs"):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return harness.mosaic(path, "--width", 1500, "--height", 1100, "--levels", "1,4")

    def job(self, kind, path, **more):
        main = {"path": encoded(os.path.relpath(path, self.root)),
                **{k: more.pop(k) for k in ("size", "mtime", "digest") if k in more}}
        job = {"kind": kind, "slide": 7, "root": encoded(self.root), "main": main}
        if kind == "convert":
            job.update(out_root=encoded(self.out), out_path="a/b/slide.ome.tiff")
        return {**job, **more}

    def run_job(self, job, *options, env=None):
        code, lines, outcome, err = Running(job, *options, env=env).end()
        self.assertEqual(code, 0, err)
        self.assertIsNotNone(outcome, err)
        self.assertEqual((outcome["slide"], outcome["kind"]), (7, job["kind"]))
        self.assertLessEqual(outcome["began"], outcome["ended"])
        self.lines = lines
        return outcome

    def assert_ended(self, outcome, how, error_class, *texts):
        self.assertEqual((outcome["outcome"], outcome.get("class", "")), (how, error_class), outcome)
        for text in texts:
            self.assertIn(text, outcome["error"])

    def left(self):
        """Every file below the output folder."""
        return sorted(os.path.relpath(os.path.join(d, f), self.out)
                      for d, _, files in os.walk(self.out) for f in files)


class Hashing(WorkerCase):
    def test_learns_the_digest_of_an_unknown_file(self):
        path = self.file("x.svs")
        outcome = self.run_job(self.job("hash", path, size=3_000_000))
        self.assert_ended(outcome, "ok", "")
        self.assertEqual(outcome["source"], {"bytes": 3_000_000, "digests": [digest(path)]})
        self.assertEqual(outcome["bytes_in"], 3_000_000)
        self.assertTrue(outcome["brick"])
        self.assertIn({"read_done": True}, self.lines)
        self.assertIn("hash", [line.get("at") for line in self.lines])

    def test_agrees_with_an_expected_digest_of_each_kind(self):
        path = self.file("x.svs", size=9_000_001)
        self.assert_ended(self.run_job(self.job("hash", path, digest=digest(path))), "ok", "")
        outcome = self.run_job(self.job("hash", path, digest=digest(path, "md5")))
        self.assert_ended(outcome, "ok", "")
        self.assertEqual(outcome["source"]["digests"], [digest(path), digest(path, "md5")])

    def test_an_empty_file_has_a_digest(self):
        path = self.file("x.svs", size=0)
        outcome = self.run_job(self.job("hash", path, size=0))
        self.assertEqual(outcome["source"]["digests"], [digest(path)])

    def test_quarantines_a_digest_that_differs_and_names_both(self):
        path = self.file("x.svs")
        for kind in "sha256", "md5":
            wrong = f"{kind}:{'ab' * (32 if kind == 'sha256' else 16)}"
            outcome = self.run_job(self.job("hash", path, digest=wrong))
            self.assert_ended(outcome, "quarantined", "digest", "x.svs",
                              digest(path, kind).split(":")[1], wrong.split(":")[1])
            self.assertEqual(outcome["source"]["digests"][0], digest(path), "the evidence is kept")

    def test_a_changed_size_or_time_fails_unless_a_digest_decides(self):
        path = self.file("x.svs")
        mtime = os.stat(path).st_mtime_ns
        self.assert_ended(self.run_job(self.job("hash", path, size=1)), "failed", "changed",
                          "3000000", "scan again")
        self.assert_ended(self.run_job(self.job("hash", path, mtime=str(mtime - 1))),
                          "failed", "changed", "scan again")
        self.assert_ended(self.run_job(self.job("hash", path, mtime=str(mtime), size=3_000_000)),
                          "ok", "")
        self.assert_ended(self.run_job(self.job("hash", path, mtime=str(mtime - 1), size=1,
                                                digest=digest(path))), "ok", "")
        self.assert_ended(self.run_job(self.job("hash", path, size=1, digest="md5:" + "00" * 16)),
                          "quarantined", "digest")

    def test_parts_are_hashed_and_compared(self):
        main, one, two = self.file("s.mrxs"), self.file("s/1.dat", seed=2), self.file("s/2.dat", 5)
        parts = [{"path": "s/1.dat", "size": 3_000_000, "digest": digest(one, "md5")},
                 {"path": "s/2.dat"}]
        outcome = self.run_job(self.job("hash", main, parts=parts))
        self.assert_ended(outcome, "ok", "")
        self.assertEqual([(p["path"], p["bytes"], p["digest"]) for p in outcome["parts"]],
                         [("s/1.dat", 3_000_000, digest(one)), ("s/2.dat", 5, digest(two))])
        self.assertEqual(outcome["bytes_in"], 6_000_005)
        parts[0]["digest"] = digest(two, "md5")
        self.assert_ended(self.run_job(self.job("hash", main, parts=parts)),
                          "quarantined", "digest", "s/1.dat")
        os.unlink(two)
        parts[0]["digest"] = digest(one)
        self.assert_ended(self.run_job(self.job("hash", main, parts=parts)),
                          "retry", "missing", "s/2.dat")

    def test_what_is_missing_or_leads_out_is_said(self):
        self.assert_ended(self.run_job(self.job("hash", os.path.join(self.root, "no.svs"))),
                          "retry", "missing", "no.svs")
        os.symlink("/etc/passwd", os.path.join(self.root, "out.svs"))
        self.assert_ended(self.run_job(self.job("hash", os.path.join(self.root, "out.svs"))),
                          "failed", "arg", "leads out")
        os.mkfifo(os.path.join(self.root, "pipe.svs"))
        self.assert_ended(self.run_job(self.job("hash", os.path.join(self.root, "pipe.svs"))),
                          "failed", "arg", "not a regular file")

    def test_names_of_any_bytes(self):
        path = self.file(os.fsdecode(b"new\nline \xff%41\".svs"))
        self.assertEqual(self.run_job(self.job("hash", path))["source"]["digests"], [digest(path)])

    def test_an_output_is_checked(self):
        path = self.file("o.tiff")
        outcome = self.run_job(self.job("check-output", path, digest=digest(path)))
        self.assert_ended(outcome, "ok", "")
        with open(path, "r+b") as f:
            f.seek(1_000_000)
            f.write(b"!")
        self.assert_ended(self.run_job(self.job("check-output", path, size=3_000_000,
                                                digest=outcome["source"]["digests"][0])),
                          "failed", "output", "o.tiff")
        os.unlink(path)
        self.assert_ended(self.run_job(self.job("check-output", path, digest="md5:" + "0" * 32)),
                          "failed", "output", "not there")


class Converting(WorkerCase):
    def test_gives_the_bytes_that_convert_gives(self):
        path = self.slide()
        expected, _ = self.convert(path, "expected.tif", "--tile-px", "512")
        outcome = self.run_job(self.job("convert", path, size=os.path.getsize(path)),
                               "--tile-px=512")
        self.assert_ended(outcome, "ok", "")
        out = os.path.join(self.out, "a/b/slide.ome.tiff")
        self.assertEqual(self.sha256(out), self.sha256(expected))
        self.assertTrue(outcome["output"].pop("brick"), "where it was written")
        self.assertEqual(outcome["output"], {"path": "a/b/slide.ome.tiff", "digest": digest(out),
                                             "bytes": os.path.getsize(out)})
        self.assertEqual(outcome["source"]["digests"], [digest(path)])
        self.assertEqual((outcome["w"], outcome["h"], outcome["pixels"]), (1500, 1100, 1650000))
        self.assertEqual(outcome["vendor"], "aperio")
        self.assertIn("retiled", outcome["how"])
        self.assertGreater(outcome["peak_rss"], 1 << 20)
        self.assertEqual(self.left(), ["a/b/slide.ome.tiff"])
        stages = [line["at"] for line in self.lines if "at" in line]
        self.assertEqual([s for s in ("open", "read", "fsync", "verify", "publish")
                          if s in stages], ["open", "read", "fsync", "verify", "publish"])
        self.assertIn({"read_done": True}, self.lines)

    def test_another_digest_is_taken_in_the_same_pass(self):
        path = self.slide()
        for options in (), ("--codec=zstd", "--levels=source"):
            outcome = self.run_job(self.job("convert", path, digest=digest(path, "md5")), *options)
            self.assert_ended(outcome, "ok", "")
            self.assertEqual(outcome["source"]["digests"], [digest(path), digest(path, "md5")])

    def test_a_wrong_digest_publishes_nothing(self):
        path = self.slide()
        for more in {}, {"size": 12}:
            outcome = self.run_job(self.job("convert", path, digest="md5:" + "ab" * 16, **more))
            self.assert_ended(outcome, "quarantined", "digest", digest(path, "md5")[4:], "ab" * 16)
            self.assertEqual(outcome["source"]["digests"][0], digest(path))
            self.assertEqual(self.left(), [])

    def test_a_flipped_byte_is_quarantined_also_when_it_does_not_decode(self):
        path = self.slide()
        right = digest(path)
        size = os.path.getsize(path)
        for where in range(1, 12):
            with open(path, "r+b") as f:
                f.seek(size * where // 12)
                byte = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte[0] ^ 0xFF]))
            outcome = self.run_job(self.job("convert", path, digest=right, size=size))
            self.assert_ended(outcome, "quarantined", "digest", right[7:])
            with open(path, "r+b") as f:
                f.seek(size * where // 12)
                f.write(byte)
        self.assertEqual(self.left(), [])

    def test_a_slide_that_is_damaged_from_the_start_is_corrupt(self):
        path = self.slide()
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) // 2)
        self.assert_ended(self.run_job(self.job("convert", path, digest=digest(path))),
                          "failed", "corrupt", "slide.svs")
        self.assert_ended(self.run_job(self.job("convert", path)), "failed", "corrupt")
        self.assertEqual(self.left(), [])

    def test_what_is_no_slide_is_of_class_format(self):
        path = self.file("text.svs")
        for more in {}, {"digest": digest(path)}:
            self.assert_ended(self.run_job(self.job("convert", path, **more)), "failed", "format")

    def test_a_slide_that_changed_since_the_scan_fails(self):
        path = self.slide()
        self.assert_ended(self.run_job(self.job("convert", path, mtime="1234567890123456789")),
                          "failed", "changed", "scan again")
        self.assertEqual(self.left(), [])

    def test_parts_are_checked_before_anything_is_published(self):
        path, part = self.slide(), self.file("a/b/part.dat")
        parts = [{"path": "a/b/part.dat", "digest": digest(part)}]
        outcome = self.run_job(self.job("convert", path, parts=parts))
        self.assert_ended(outcome, "ok", "")
        self.assertEqual([p["digest"] for p in outcome["parts"]], [digest(part)])
        os.unlink(os.path.join(self.out, "a/b/slide.ome.tiff"))
        parts[0]["digest"] = digest(path)
        self.assert_ended(self.run_job(self.job("convert", path, parts=parts)),
                          "quarantined", "digest", "part.dat")
        self.assertEqual(self.left(), [])

    def test_only_a_file_of_ours_is_replaced(self):
        path = self.slide()
        out = os.path.join(self.out, "a/b/slide.ome.tiff")
        os.makedirs(os.path.dirname(out))
        with open(out, "w", encoding="ascii") as f:
            f.write("somebody's")
        job = self.job("convert", path)
        self.assert_ended(self.run_job(job), "failed", "exists", "slide.ome.tiff")
        with open(out, encoding="ascii") as f:
            self.assertEqual(f.read(), "somebody's")
        self.assert_ended(self.run_job({**job, "replace": True}), "ok", "")
        self.assert_ended(self.run_job(job, "--quality=60", "--tiles=transcode"), "ok", "")
        os.unlink(out)
        os.symlink(self.path("elsewhere"), out)
        self.assert_ended(self.run_job(job), "failed", "exists", "symbolic link")
        os.unlink(out)
        os.mkdir(out)
        self.assert_ended(self.run_job({**job, "replace": True}), "failed", "exists")

    def test_a_folder_that_is_gone_is_storage_and_tried_again(self):
        path = self.slide()
        job = self.job("convert", path)
        for folder in (self.root, self.out):
            os.rename(folder, folder + ".away")
            self.assert_ended(self.run_job(job), "retry", "io", "the mount seems to be gone", folder)
            os.rename(folder + ".away", folder)
        self.assert_ended(self.run_job(job), "ok", "")
        output = self.job("check-output", os.path.join(self.out, job["out_path"]))
        output["root"], output["main"]["path"] = encoded(self.out), job["out_path"]
        os.rename(self.out, self.out + ".away")
        self.assert_ended(self.run_job(output), "retry", "io", "the mount seems to be gone")

    def test_an_empty_mount_point_is_a_mount_that_is_gone(self):
        mark = ".slidemill-out-" + "0123456789abcdef" * 2
        job = self.job("convert", self.slide(), mark=mark)
        os.makedirs(self.out, exist_ok=True)
        self.assert_ended(self.run_job(job), "retry", "io", "the mount seems to be gone", self.out)
        self.assertEqual(os.listdir(self.out), [])
        os.mkdir(os.path.join(self.out, mark))
        self.assert_ended(self.run_job(job), "ok", "")
        output = self.job("check-output", os.path.join(self.out, job["out_path"]), mark=mark)
        output["root"], output["main"]["path"] = encoded(self.out), job["out_path"]
        self.assert_ended(self.run_job(output), "ok", "")
        os.rmdir(os.path.join(self.out, mark))
        self.assert_ended(self.run_job(output), "retry", "io", "the mount seems to be gone")

    def test_folders_that_lead_out_are_refused(self):
        path = self.slide()
        os.symlink("/tmp", os.path.join(self.out, "a"))
        self.assert_ended(self.run_job(self.job("convert", path)), "failed", "arg", "leads out")

    def test_a_small_memory_limit_is_refused_at_the_start(self):
        outcome = self.run_job(self.job("convert", self.slide()), "--memory=1M")
        self.assert_ended(outcome, "failed", "limit", "--memory")

    def test_wrong_options_and_jobs_end_with_2(self):
        path = self.slide()
        for job, options in ((self.job("convert", path), ["--verify=none"]),
                             (self.job("convert", path), ["--tile-px=100"]),
                             (self.job("convert", path, out_path="../x"), []),
                             (b"{}", []), (b"no json", []), (b"", [])):
            code, _, outcome, err = Running(job, *options).end()
            self.assertEqual((code, outcome), (2, None), err)
            self.assertEqual(len(err.splitlines()), 1, err)


class Ending(WorkerCase):
    def start(self, how, *options, **more):
        path = self.slide()
        return Running(self.job("convert", path), *options,
                       env={"SLIDEMILL_TEST_WORKER": how}, **more)

    def wait_for_temporary(self):
        deadline = time.monotonic() + 30 * harness.SLOWER
        while not any(".slide.ome.tiff." in name for name in self.left()):
            self.assertLess(time.monotonic(), deadline, "no temporary appears")
            time.sleep(0.02)

    def test_misbehaves_when_told(self):
        code, _, outcome, _ = self.start("crash").end()
        self.assertEqual((code, outcome), (-signal.SIGSEGV, None))
        code, _, outcome, _ = self.start("exit:3@slide").end()
        self.assertEqual((code, outcome), (3, None))
        code, _, outcome, _ = self.start("exit:3@another").end()
        self.assertEqual((code, outcome["outcome"]), (0, "ok"))

    def test_term_abandons_and_leaves_nothing(self):
        path = harness.mosaic(os.path.join(self.root, "big.svs"), "--width", 12000,
                              "--height", 9000, "--levels", "1,4")
        worker = Running(self.job("convert", path), "--codec=zstd", "--threads=1")
        self.wait_for_temporary()
        worker.process.terminate()
        code, _, outcome, err = worker.end()
        self.assertEqual(code, 0, err)
        self.assert_ended(outcome, "abandoned", "", "SIGTERM")
        self.assertEqual(self.left(), [])

    def test_dies_with_its_parent(self):
        worker = self.start("hang", parent=os.getpid() + 1)
        self.assertEqual(worker.end()[0], 75, "another parent than it was told of")
        code = ("import sys; sys.path[:0] = sys.argv[1:3]\n"
                "import test_worker_jobs as t, os, json\n"
                "w = t.Running(json.loads(sys.argv[3]), parent=os.getpid())\n"
                "print(w.process.pid, flush=True)\n"
                "sys.stdin.read()\n")
        here = os.path.dirname(os.path.abspath(__file__))
        parent = subprocess.Popen(
            [sys.executable, "-c", code, here, os.path.join(here, "..", "support"),
             json.dumps(self.job("convert", self.slide("p.svs")))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=dict(os.environ, SLIDEMILL_TEST_WORKER="hang", SLIDEMILL_BIN=harness.BIN))
        pid = int(parent.stdout.readline())
        self.wait_for_temporary()
        parent.kill()
        parent.communicate()
        deadline = time.monotonic() + 10
        while alive(pid):
            self.assertLess(time.monotonic(), deadline, "the worker outlives its parent")
            time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    harness.main()
