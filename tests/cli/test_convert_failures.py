# ctest: labels=cli timeout=600
"""What goes wrong around a conversion: disks, folders, signals, a source that changes. Nothing may be left
but what was there before."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402


class Failures(harness.Case):
    """Conversions that cannot end well."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.small = harness.mosaic(os.path.join(cls.folder, "small.svs"), "--width", 2000,
                                   "--height", 1500)

    def refuse(self, *args, codes=2, source=None, target=None, **how):
        r = harness.run("convert", *args, timeout=20, **how)
        self.assert_refused(r, codes, source, target)
        return r

    def test_folders(self):
        out = self.path("out.tif")
        self.refuse(self.small, self.path("no/out.tif"), target=self.path("no/out.tif"))
        self.refuse(self.small, self.dir)
        self.refuse(self.small, self.dir + "/")
        self.refuse(self.small, self.dir, "--force")
        self.refuse(self.dir, out, target=out)
        self.refuse("/dev/zero", out, target=out)
        self.refuse("/dev/null", out, target=out)
        self.refuse(self.path("missing.svs"), out, source="missing.svs", target=out)
        self.assertEqual(os.listdir(self.dir), [])

    def test_what_is_no_file(self):
        out, fifo = self.path("out.tif"), self.path("fifo")
        os.mkfifo(fifo)
        self.refuse(fifo, out, source=fifo, target=out)
        self.refuse(self.small, fifo, "--force")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(self.path("socket"))
        self.refuse(self.path("socket"), out, target=out)
        self.refuse(self.small, self.path("socket"), "--force")
        self.refuse(self.small, "/dev/null", "--force")
        self.refuse(self.small, "/dev/full", "--force")
        self.assertEqual(sorted(os.listdir(self.dir)), ["fifo", "socket"])
        self.assertTrue(os.path.exists("/dev/null"))

    def test_in_and_out_the_same_file(self):
        same = self.path("same.svs")
        shutil.copy(self.small, same)
        os.link(same, self.path("hard.svs"))
        os.symlink(same, self.path("soft.svs"))
        before = self.sha256(same)
        for out in (same, self.path("hard.svs"), self.path("soft.svs"),
                    os.path.join(self.dir, ".", "same.svs")):
            for force in ([], ["--force"]):
                self.refuse(*force, same, out)
        self.assertEqual(self.sha256(same), before)
        self.assertEqual(sorted(os.listdir(self.dir)), ["hard.svs", "same.svs", "soft.svs"])

    def test_force_keeps_the_mode_and_replaces_the_name(self):
        out, other = self.path("out.tif"), self.path("other")
        for p in (out, other):
            with open(p, "w", encoding="ascii") as f:
                f.write("before")
        os.chmod(out, 0o640)
        os.link(out, self.path("second-name"))
        self.convert_over(out)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o640)
        with open(self.path("second-name"), encoding="ascii") as f:
            self.assertEqual(f.read(), "before", "the old file itself is not written to")

    def convert_over(self, out):
        r = harness.run("convert", "--force", "--quiet", self.small, out)
        self.assertEqual(r.code, 0, r)
        self.assertEqual(harness.run("verify", "--quiet", out).code, 0)

    def test_the_mode_of_a_new_file_is_the_umask_s(self):
        before = os.umask(0o027)
        try:
            out, _ = self.convert(self.small)
        finally:
            os.umask(before)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o640)

    def test_a_folder_one_may_not_write(self):
        folder = self.path("read-only")
        os.mkdir(folder, 0o555)
        if os.access(folder, os.W_OK):
            raise unittest.SkipTest("folders do not stop this user")
        out = os.path.join(folder, "out.tif")
        self.refuse(self.small, out, codes=(2, 74), target=out)

    def test_a_read_only_disk(self):
        with harness.mounted_tmpfs("size=1m,ro") as folder:
            out = os.path.join(folder, "out.tif")
            self.refuse(self.small, out, codes=(2, 74), target=out)

    def test_a_full_disk(self):
        for io in ("uring", "threads"):
            for size in ("64k", "300k", "700k"):
                with self.subTest(size=size, io=io), harness.mounted_tmpfs(f"size={size}") as d:
                    out = os.path.join(d, "out.tif")
                    r = self.refuse(self.small, out, codes=74, source=out, target=out,
                                    env={"SLIDEMILL_IO": io} if io == "threads" else None)
                    self.assertIn("space", r.err)
                    self.assertEqual(os.listdir(d), [])
                    with open(out, "w", encoding="ascii") as f:
                        f.write("old")
                    self.refuse("--force", self.small, out, codes=74)
                    with open(out, encoding="ascii") as f:
                        self.assertEqual(f.read(), "old", "the old output stays")
                    self.assertEqual(os.listdir(d), ["out.tif"])

    def test_a_limit_on_the_size_of_files(self):
        out = self.path("out.tif")
        for limit in (1000, 100000, 500000):
            for io in ({}, {"SLIDEMILL_IO": "threads"}):
                self.refuse(self.small, out, codes=74, source=out, target=out, file_size=limit,
                            env=io)

    def test_closed_standard_streams_do_not_become_the_output(self):
        """A file that is opened as descriptor 1 or 2 would take what is printed."""
        program = os.path.join(harness.BIN, "slidemill-convert")
        for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
            with self.subTest(closed):
                out = self.path("out.tif")
                subprocess.run(["sh", "-c", f'exec "$0" --force "$1" "$2" {closed}', program,
                                self.small, out], check=False, capture_output=True, timeout=60)
                self.assertEqual(harness.run("verify", "--quiet", out).code, 0)

    def test_io_back_end_of_another_name(self):
        out = self.path("out.tif")
        r = self.refuse(self.small, out, codes=2, target=out, env={"SLIDEMILL_IO": "carrier"})
        self.assertIn("carrier", r.err)


class Signals(harness.Case):
    """A conversion that is stopped in its course."""

    on_disk = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.big = harness.mosaic(os.path.join(cls.folder, "big.svs"), "--width", 15000, "--height",
                                 10000)

    def start(self, out, *options, source=None):
        """Running, and far enough to have made its temporary file; returns (process, that file)."""
        before = self.temps(out)
        p = subprocess.Popen([os.path.join(harness.BIN, "slidemill-convert"), "--tiles",
                              "transcode", "--levels", "dyadic", *options, source or self.big, out],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        end = time.monotonic() + 20 * harness.SLOWER
        while time.monotonic() < end:
            self.assertIsNone(p.poll(), "it ended before it could be stopped")
            for name in self.temps(out):
                temp = os.path.join(os.path.dirname(out), name)
                if name not in before and os.path.exists(temp) and os.path.getsize(temp) > 1 << 20:
                    return p, temp
            time.sleep(0.01)
        raise AssertionError("no temporary file came")

    def temps(self, out):
        return [n for n in os.listdir(os.path.dirname(out))
                if n.startswith("." + os.path.basename(out) + ".")]

    def stopped(self, p):
        out, err = p.communicate(timeout=20 * harness.SLOWER)
        return p.returncode, out.decode(), err.decode()

    def test_signals_end_it_and_leave_nothing(self):
        out = self.path("out.tif")
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            with self.subTest(signal=sig.name):
                p, _ = self.start(out)
                p.send_signal(sig)
                since = time.monotonic()
                code, said, err = self.stopped(p)
                self.assertEqual(code, 75, err)
                self.assertLess(time.monotonic() - since, 5 * harness.SLOWER, "at once")
                self.assertEqual(said, "")
                self.assertEqual(len(err.splitlines()), 1, err)
                self.assertIn(sig.name, err)
                self.assertEqual(os.listdir(self.dir), [])

    def test_an_interrupted_run_keeps_the_old_output(self):
        out = self.path("out.tif")
        with open(out, "w", encoding="ascii") as f:
            f.write("old")
        p, _ = self.start(out, "--force")
        p.terminate()
        self.assertEqual(self.stopped(p)[0], 75)
        self.assertEqual(os.listdir(self.dir), ["out.tif"])
        with open(out, encoding="ascii") as f:
            self.assertEqual(f.read(), "old")

    def test_json_says_interrupted(self):
        out = self.path("out.tif")
        p, _ = self.start(out, "--json")
        p.send_signal(signal.SIGTERM)
        code, said, _ = self.stopped(p)
        self.assertEqual(code, 75)
        self.assertEqual(harness.json.loads(said)["status"], "interrupted")

    def test_a_killed_run_leaves_one_hidden_file_that_the_next_one_removes(self):
        out = self.path("out.tif")
        p, temp = self.start(out)
        p.kill()
        self.stopped(p)
        self.assertEqual(os.listdir(self.dir), [os.path.basename(temp)])
        keep = [self.path(n) for n in (".out.tif.keep", ".out.tif.toolong7", ".out.tif")]
        for name in keep:
            with open(name, "w", encoding="ascii") as f:
                f.write("mine")
        p, second = self.start(out)
        self.assertFalse(os.path.exists(temp), "the dead one is gone")
        third, _ = self.start(out, "--force")
        self.assertTrue(os.path.exists(second), "the living one is left alone")
        for q in (p, third):
            q.terminate()
            self.assertEqual(self.stopped(q)[0], 75)
        self.assertEqual(sorted(os.listdir(self.dir)), sorted(map(os.path.basename, keep)))

    def test_a_killed_run_never_shows_its_output(self):
        out = self.path("out.tif")
        small = harness.mosaic(self.path("in.svs"), "--width", 3000, "--height", 3000)
        for n in range(30 if harness.LONG else 8):
            p = subprocess.Popen([os.path.join(harness.BIN, "slidemill-convert"), "--quiet",
                                  "--force", small, out])
            time.sleep(0.005 * n * harness.SLOWER)
            p.kill()
            p.wait()
            if os.path.exists(out):
                r = harness.run("verify", "--quiet", out)
                self.assertEqual(r.code, 0, r)
        self.convert(small)
        self.assertEqual(self.temps(out), [], "what the dead left is gone")

    def test_a_source_that_changes_meanwhile(self):
        def append(path):
            with open(path, "ab") as f:
                f.write(b"more")

        def overwrite(path):
            with open(path, "r+b") as f:
                f.seek(-10, os.SEEK_END)
                f.write(b"0123456789")

        def shorten(path):
            os.truncate(path, os.path.getsize(path) // 3)

        def replace(path):
            shutil.copy(path, path + ".new")
            os.rename(path + ".new", path)
        out = self.path("out.tif")
        for change in (append, overwrite, shorten, replace, os.unlink):
            with self.subTest(change.__name__):
                source = self.path("in.svs")
                shutil.copy(self.big, source)
                p, _ = self.start(out, source=source)
                change(source)
                code, _, err = self.stopped(p)
                self.assertIn(code, (65, 74), err)
                self.assertEqual(len(err.splitlines()), 1, err)
                self.assertIn("in.svs", err)
                self.assertEqual([n for n in os.listdir(self.dir) if n != "in.svs"], [])

    def test_an_output_that_appears_meanwhile_is_not_overwritten(self):
        out = self.path("out.tif")
        p, _ = self.start(out)
        with open(out, "w", encoding="ascii") as f:
            f.write("somebody else's")
        code, _, err = self.stopped(p)
        self.assertEqual(code, 2, err)
        with open(out, encoding="ascii") as f:
            self.assertEqual(f.read(), "somebody else's")
        self.assertEqual(os.listdir(self.dir), ["out.tif"])

    def test_a_temporary_file_that_is_changed_meanwhile_is_not_published(self):
        out = self.path("out.tif")
        p, temp = self.start(out)
        with open(temp, "r+b") as f:
            f.seek(1 << 19)
            f.write(b"\0" * 64)
        code, _, err = self.stopped(p)
        self.assertNotEqual(code, 0)
        self.assertIn(code, (65, 74), err)
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    harness.main()
