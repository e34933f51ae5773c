# ctest: labels=cli timeout=300
"""slidemill catalog: every sub-command, wrong arguments, hostile lists, interrupted and concurrent changes."""
import csv
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

SUBS = ("create", "scan", "import", "export", "status", "list", "retry", "merge", "verify", "fsck")
ODD = ("plain.svs", "d/with space.svs", "d/new\nline.svs", "d/back\\slash.svs", "d/quote\"comma,.svs",
       "d/'; DROP TABLE slide; --.svs", "d/umlaut-\u00e4.ndpi", "d/=1+1.tif", "d/\r.svs")


class Catalog(harness.Case):
    def setUp(self):
        super().setUp()
        self.root = self.path("root")
        self.catalog = self.path("c.smc")
        os.mkdir(self.root)

    def put(self, name, content=None):
        """A file below the root; its content follows from its name unless it is given."""
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = hashlib.sha512(os.fsencode(name)).digest() if content is None else content
        with open(path, "wb") as f:
            f.write(data)
        return hashlib.sha256(data).hexdigest()

    def run_catalog(self, command, *args, code=0, **how):
        r = harness.run("catalog", command, *args, **how)
        self.assertEqual(r.code, code, r)
        return r

    def create(self, *options, **how):
        return self.run_catalog("create", self.root, "-o", self.catalog, *options, **how)

    def rows(self, *options):
        r = self.run_catalog("list", self.catalog, "--format", "jsonl", *options)
        return [json.loads(line) for line in r.raw.splitlines()]

    def paths(self, *options):
        return [row["path"] for row in self.rows(*options)]

    def status(self):
        return self.run_catalog("status", self.catalog, "--json").json()

    def write_list(self, name, text):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def folder(self):
        return {name: self.sha256(os.path.join(d, name)) for d, _, names in os.walk(self.dir)
                for name in names if not d.startswith(self.root) and ".holder" not in d}


class Help(Catalog):
    def test_each_command_has_help_within_80_columns(self):
        for sub in SUBS:
            r = self.run_catalog(sub, "--help")
            self.assertTrue(r.out.startswith(f"Usage: slidemill catalog {sub} "), r)
            self.assertEqual([x for x in r.out.splitlines() if len(x) > 80], [])
            self.assertEqual(harness.run("catalog", "help", sub).out, r.out)
        overview = harness.run("catalog", "--help").out
        self.assertEqual(harness.run("catalog", "help").out, overview)
        page = harness.run("catalog", "--man-page").out
        for sub in SUBS:
            self.assertIn(f"\n  {sub} ", overview)
            self.assertIn(f'\n.SS "{sub}"\n', page)
        self.assertIn("\\fB\\-o\\fR, \\fB\\-\\-output\\fR", page)

    def test_wrong_command_lines_are_refused_in_one_sentence(self):
        self.put("a.svs")
        self.create()
        cases = (
            ((), "COMMAND is missing"),
            (("scn",), "did you mean scan?"),
            (("frobnicate",), "'frobnicate' is not one of its commands"),
            (("help", "scn"), "did you mean scan?"),
            (("--nonsense",), "--nonsense"),
            (("scan",), "CATALOG is missing"),
            (("scan", self.catalog, "more"), "one argument too many"),
            (("scan", self.path("no.smc")), "no.smc"),
            (("scan", self.catalog, "--under", "../x"), ".."),
            (("scan", self.catalog, "--under", "nope"), "nope"),
            (("create", self.root), "-o corpus.smc"),
            (("create", self.root, "-o"), "CATALOG is missing"),
            (("create", self.root, "-x", "y"), "-x: no such option"),
            (("create", self.root, "-o", self.catalog, "--exclude", "b"), "exists already"),
            (("create", self.root, "-o", self.root), "folder"),
            (("create", self.path("nope"), "-o", self.path("n.smc")), "nope"),
            (("create", self.root, "-o", self.path("n.smc"), "--pattern", "{a"), "without }"),
            (("create", self.root, "-o", self.path("n.smc"), "--no-scan", "--probe"), "--no-scan"),
            (("create", self.root, "-o", self.path("n.smc"), "--from", self.path("nope")), "nope"),
            (("import", self.catalog), "LIST is missing"),
            (("import", self.catalog, self.path("nope")), "nope"),
            (("import", self.catalog, "x", "--kind", "sha1sum"), "sha1sum"),
            (("export", self.catalog, "--format", "xml"), "xml"),
            (("export", self.catalog, "--output", self.catalog), "catalog itself"),
            (("export", self.catalog, "--output", self.path("no/x")), "no"),
            (("list", self.catalog, "--state", "fail"), "'fail' is not one of"),
            (("list", self.catalog, "--limit", "x"), "not a number"),
            (("retry", self.catalog, "--state", "new"), "anyway"),
            (("retry", self.catalog, "--path", "a", "--glob", "b"), "choose one"),
            (("status", self.root), "root"),
        )
        before = self.folder()
        for args, words in cases:
            r = harness.run("catalog", *args)
            self.assertEqual(r.code, 2, r)
            self.assertIn(words, r.err, r)
            self.assertEqual(r.out, "", r)
            self.assertLessEqual(len(r.err.splitlines()), 2, r)
        self.assertEqual(self.folder(), before)

    def test_a_file_that_is_no_catalog_is_refused(self):
        for name, content in (("text", b"hello\n"), ("empty", b""), ("zero", bytes(8192))):
            path = self.write_list(name, content)
            for sub in ("status", "list", "export", "scan"):
                r = harness.run("catalog", sub, path)
                self.assertIn(r.code, (2, 65), r)
                self.assertEqual(len(r.err.splitlines()), 1, r)


class Scan(Catalog):
    def test_new_changed_missing_and_back(self):
        for name in ("a.svs", "b/c.ndpi", "b/d.svs"):
            self.put(name)
        self.assertIn("3 slides", self.create().out)
        self.assertEqual(self.paths(), ["a.svs", "b/c.ndpi", "b/d.svs"])
        self.put("a.svs", b"other")
        self.put("e.tif")
        os.rename(os.path.join(self.root, "b/d.svs"), os.path.join(self.root, "b/d.gone"))
        found = self.run_catalog("scan", self.catalog, "--json").json()
        for key, value in dict(found=3, new=1, changed=1, same=1, missing=1, back=0, complete=True,
                               generation=2, bytes=5 + 64 + 64).items():
            self.assertEqual(found[key], value, key)
        self.assertEqual(self.paths("--missing"), ["b/d.svs"])
        os.rename(os.path.join(self.root, "b/d.gone"), os.path.join(self.root, "b/d.svs"))
        found = self.run_catalog("scan", self.catalog, "--json").json()
        self.assertEqual((found["back"], found["missing"]), (1, 0))
        self.assertEqual(self.paths("--missing"), [])

    def test_a_folder_that_is_excluded_and_one_that_is_looked_at_alone(self):
        self.put("a/x.svs")
        self.put("b/x.svs")
        self.create("--exclude", "b,*.tmp")
        self.assertEqual(self.paths(), ["a/x.svs"])
        self.run_catalog("scan", self.catalog, "--under", "b")
        self.assertEqual(self.paths(), ["a/x.svs", "b/x.svs"])

    def test_a_pattern_makes_columns_that_keep_leading_zeros(self):
        name = "v1/svs/gastro/000001/00123456/0a001_lvl0001_s000.svs"
        self.put(name)
        self.put("other.svs")
        self.create("--pattern", "{release}/svs/{organ}/{group}/{patient}/{name}_lvl{level}_s{slice}.svs")
        rows = {r["path"]: r["fields"] for r in self.rows()}
        self.assertEqual(rows[name], dict(release="v1", organ="gastro", group="000001",
                                          patient="00123456", name="0a001", level="0001", slice="000"))
        self.assertEqual(set(rows["other.svs"].values()), {None})
        self.put(name.replace("00123456", "00000007"))
        self.run_catalog("scan", self.catalog)
        text = self.run_catalog("export", self.catalog, "--format", "csv").raw.decode()
        self.assertEqual(sorted(r["patient"] for r in csv.DictReader(io.StringIO(text))),
                         ["", "00000007", "00123456"])

    def test_a_probe_knows_slides_and_survives_what_is_none(self):
        harness.mosaic(os.path.join(self.root, "good.svs"), "--width", 700, "--height", 500)
        self.put("bad.svs", b"II*\0" + bytes(100))
        self.put("evil\n.svs", b"no slide")
        r = self.create("--probe")
        self.assertIn("bad.svs", r.err)
        rows = {row["path"]: row for row in self.rows()}
        self.assertEqual((rows["good.svs"]["width_px"], rows["good.svs"]["height_px"]), (700, 500))
        self.assertIsNone(rows["bad.svs"]["width_px"])
        self.assertEqual(len(rows), 3)

    def test_links_that_lead_out_are_refused(self):
        outside = self.write_list("outside.svs", b"secret")
        self.put("a.svs")
        os.symlink(outside, os.path.join(self.root, "abs.svs"))
        os.symlink("../outside.svs", os.path.join(self.root, "rel.svs"))
        os.symlink("/", os.path.join(self.root, "top"))
        r = self.create()
        self.assertEqual(self.paths(), ["a.svs"])
        self.assertIn("rel.svs", r.err)

    def test_a_scan_that_is_stopped_leaves_the_catalog_as_it_was(self):
        for i in range(3000):
            self.put(f"{i % 7}/{i}.svs", b"x")
        self.create()
        for i in range(300):
            self.put(f"new/{i}.svs", b"x")
        before = self.folder()
        program = os.path.join(harness.BIN, "slidemill-catalog")
        stopped = 0
        for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
            p = subprocess.Popen([program, "scan", self.catalog], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            time.sleep(delay)
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=60 * harness.SLOWER)
            if p.returncode == 75:
                stopped += 1
                self.assertIn(b"interrupted by SIGINT; nothing was published", err)
            self.assertIn(p.returncode, (75, 0, -signal.SIGINT))
            if p.returncode == 0:  # it had ended before
                before = self.folder()
            self.assertEqual(self.folder(), before)
        self.assertEqual(self.run_catalog("fsck", self.catalog).code, 0)
        self.run_catalog("scan", self.catalog)
        self.assertEqual(self.status()["slides"], 3300)

    def test_a_create_that_is_stopped_leaves_no_catalog(self):
        for i in range(2000):
            self.put(f"{i % 7}/{i}.svs", b"x")
        program = os.path.join(harness.BIN, "slidemill-catalog")
        p = subprocess.Popen([program, "create", self.root, "-o", self.catalog],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.02)
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=60 * harness.SLOWER)
        if p.returncode != 0:
            self.assertFalse(os.path.exists(self.catalog))
            self.create()
        self.assertEqual(self.status()["slides"], 2000)

    def test_a_create_that_dies_is_made_good_by_repeating_it(self):
        self.put("a.svs", b"x")
        self.put("b/b.svs", b"y")
        for step in range(1, 7):
            r = harness.run("catalog", "create", self.root, "-o", self.catalog,
                            env={"SLIDEMILL_TEST_DIE_AT": str(step)})
            self.assertEqual(r.code, 137, r)
            r = self.create()
            # once it was claimed it is whole, and says so
            self.assertEqual("by the same command" in r.out, step >= 3, (step, r))
            self.assertIn("generation 1", r.out)
            self.assertEqual(self.status()["slides"], 2)
            self.assertEqual(self.run_catalog("fsck", self.catalog).code, 0)
            self.assertIn("same command", self.create().out)
            other = self.create("--exclude", "b", code=2)
            self.assertIn(f"generation 1 of {os.path.realpath(self.root)}, 2 slides", other.err)
            self.run_catalog("scan", self.catalog)
            self.assertIn("generation 2", self.create(code=2).err)
            shutil.rmtree(self.catalog + ".d")
            os.remove(self.catalog)

    def test_two_writers_wait_for_each_other_or_are_told(self):
        for i in range(200):
            self.put(f"{i}.svs", b"x")
        self.create()
        program = os.path.join(harness.BIN, "slidemill-catalog")
        both = [subprocess.Popen([program, "scan", self.catalog, "--wait", "60"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
        for p in both:
            _, err = p.communicate(timeout=60 * harness.SLOWER)
            self.assertEqual(p.returncode, 0, err)
        self.assertEqual(self.status()["generation"], 4)
        self.hold_lock()
        r = self.run_catalog("scan", self.catalog, "--wait", "0", code=75)
        self.assertIn("held", r.err)
        self.assertEqual(self.status()["generation"], 4)

    def hold_lock(self):
        """Somebody else changes the catalog: an open file description lock."""
        import fcntl
        import struct
        f = open(self.catalog + ".d/lock", "r+b")
        self.addCleanup(f.close)
        fcntl.fcntl(f, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK


class Lists(Catalog):
    def test_every_kind_of_list_gives_its_digest(self):
        sha = self.put("a.svs")
        with open(os.path.join(self.root, "a.svs"), "rb") as f:
            md5 = hashlib.md5(f.read()).hexdigest()
        cases = (
            ("sha256sum", f"{sha}  a.svs\n", ("sha256", sha)),
            ("sha256sum", f"{sha} *./a.svs\n", ("sha256", sha)),
            ("md5sum", f"{md5}  a.svs\n", ("md5", md5)),
            ("gdc", f"id\tfilename\tmd5\tsize\tstate\n0007-x\ta.svs\t{md5}\t64\treleased\n", ("md5", md5)),
            ("csv", f"\ufeffpath,size,sha256,id\r\na.svs,64,{sha.upper()},007\r\n", ("sha256", sha)),
            ("tsv", f"path\tmd5\na.svs\t{md5}\n", ("md5", md5)),
        )
        for n, (kind, text, (digest_kind, digest)) in enumerate(cases):
            self.catalog = self.path(f"{n}.smc")
            self.create()
            r = self.run_catalog("import", self.catalog, self.write_list("list", text))
            self.assertIn(f"({kind})", r.out)
            row = self.rows()[0]
            self.assertEqual((row["digest_kind"], row["digest"], row["digest_origin"]),
                             (digest_kind, digest, "given"), text)
            self.assertEqual(row["id"], {"gdc": "0007-x", "csv": "007"}.get(kind))

    def test_unknown_paths_are_counted_and_added_only_when_asked(self):
        sha = self.put("a.svs")
        self.create()
        text = f"{sha}  a.svs\n{sha}  b.svs\n{sha}  notes.txt\n"
        r = self.run_catalog("import", self.catalog, self.write_list("l", text))
        self.assertRegex(r.out, r"matched +1 .*\n +unknown +2 ")
        self.assertEqual(self.paths(), ["a.svs"])
        r = self.run_catalog("import", self.catalog, self.write_list("l", text), "--add")
        self.assertRegex(r.out, r"added +1\n +no slides +1 ")
        self.assertEqual(self.paths(), ["a.svs", "b.svs"])
        r = self.run_catalog("import", self.catalog, self.write_list("l", f"{sha}  x.svs\n"), code=65)
        self.assertIn("nothing was changed", r.out)

    def test_hostile_lines_are_refused_and_the_others_taken(self):
        sha = self.put("a.svs")
        self.create()
        bad = [b"../a.svs", b"/etc/passwd", b"a/../../b.svs", b"..", b"a.svs/", b"x/" * 3000 + b"a.svs",
               b"y" * 300 + b".svs"]
        lines = [sha.encode() + b"  " + name + b"\n" for name in bad]
        lines += [b"not a line\n", b"zz" * 32 + b"  a.svs\n", sha.encode() + b"  nul\0.svs\n",
                  b"0" * (1 << 20) + b"\n"]
        lines.insert(0, sha.encode() + b"  '; DROP TABLE slide; --.svs\n")
        lines.append(sha.encode() + b"  a.svs\n")
        r = self.run_catalog("import", self.catalog, self.write_list("l", b"".join(lines)), "--add",
                             "--kind", "sha256sum", code=65)
        self.assertRegex(r.out, rf"bad +{len(lines) - 2} ")
        self.assertNotIn("\0", r.err)
        self.assertEqual(self.paths(), ["a.svs", "'; DROP TABLE slide; --.svs"])
        self.run_catalog("fsck", self.catalog)

    def test_a_contradiction_is_refused(self):
        sha = self.put("a.svs")
        self.create("--from", self.write_list("l", f"{sha}  a.svs\n"))
        r = self.run_catalog("import", self.catalog, self.write_list("m", f"{'0' * 64}  a.svs\n"), code=65)
        self.assertIn("a.svs", r.err)
        self.assertEqual(self.rows()[0]["digest"], sha)

    def test_a_catalog_may_come_from_a_list_alone(self):
        text = "path,size,id\n" + "".join(f"d/{i:06}.svs,{i},{i:04}\n" for i in range(1000))
        self.create("--no-scan", "--from", self.write_list("l.csv", text))
        s = self.status()
        self.assertEqual((s["slides"], s["bytes"], s["missing"]), (1000, 499500, 0))
        self.assertEqual(self.rows("--limit", "2")[1]["id"], "0001")

    def test_what_is_listed_and_not_there_is_missing(self):
        sha = self.put("a.svs")
        self.create("--from", self.write_list("l", f"{sha}  a.svs\n{sha}  gone.svs\n"))
        self.assertEqual(self.paths("--missing"), ["gone.svs"])

    def test_files_of_a_slide_of_many_get_their_digests(self):
        names = ("m.mrxs", "m/Slidedat.ini", "m/Data0.dat")
        sums = {name: self.put(name) for name in names}
        listed = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        r = self.create("--from", self.write_list("l", listed))
        self.assertRegex(r.out, r"matched +2 .*\n +added +1\n")
        self.assertEqual(self.paths(), ["m.mrxs"])
        out = self.run_catalog("export", self.catalog).out
        self.assertEqual(sorted(out.splitlines()), sorted(listed.splitlines()))


class Export(Catalog):
    def test_sha256sum_checks_what_is_exported_whatever_the_names(self):
        listed = "path,sha256\n"
        for name in ODD:
            digest = self.put(name)
            listed += '"' + name.replace('"', '""') + f'",{digest}\n'
        self.put(b"d/\xff\xfe.svs")
        self.create()
        self.run_catalog("import", self.catalog, self.write_list("l.csv", listed))
        sums = self.path("SHA256SUMS")
        r = self.run_catalog("export", self.catalog, "-o", sums)
        self.assertIn("left out: 1 file without", r.err)
        done = subprocess.run(["sha256sum", "-c", "--strict", sums], cwd=self.root, check=False,
                              capture_output=True)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(done.stdout.count(b": OK"), len(ODD))
        self.put("plain.svs", b"flipped")
        self.assertNotEqual(subprocess.run(["sha256sum", "-c", sums], cwd=self.root, check=False,
                                           capture_output=True).returncode, 0)
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith(".")], [])

    def test_csv_and_json_lines_read_back(self):
        for name in ODD:
            self.put(name)
        self.put(b"d/\xff\xfe.svs")
        self.create()
        raw = self.run_catalog("export", self.catalog, "--format", "csv").raw
        rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8", "surrogateescape"), newline="")))
        names = sorted([*ODD, os.fsdecode(b"d/\xff\xfe.svs")])
        self.assertEqual(sorted(r["path"] for r in rows), names)
        self.assertEqual({r["size_bytes"] for r in rows}, {"64"})
        raw = self.run_catalog("export", self.catalog, "--format", "jsonl").raw
        found = [json.loads(line) for line in raw.decode("utf-8").splitlines()]
        self.assertEqual(sorted(r["path"] for r in found if "path_percent" not in r), sorted(ODD))
        self.assertEqual([r["path_percent"] for r in found if "path_percent" in r], ["d/%FF%FE.svs"])
        self.assertEqual(set(rows[0]), set(found[0]) | {"path"})

    def test_a_full_disk_is_told(self):
        self.put("a.svs")
        self.create()
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb") as full:
                for args in (("list",), ("status",), ("export", "--format", "csv")):
                    r = harness.run("catalog", args[0], self.catalog, *args[1:], stdout=full)
                    self.assertEqual(r.code, 74, r)

    def test_states_limit_what_is_listed(self):
        for i in range(5):
            self.put(f"{i}.svs")
        self.create()
        self.assertEqual(self.paths("--state", "done,failed"), [])
        self.assertEqual(self.paths("--glob", "[12].svs"), ["1.svs", "2.svs"])
        self.assertEqual(len(self.paths("--state", "new", "--limit", "3")), 3)
        self.assertEqual(self.paths("--brick", "nowhere"), [])
        text = self.run_catalog("list", self.catalog).out.splitlines()
        self.assertEqual(len(text), 5)
        self.assertRegex(text[0], r"^new +64 B  0\.svs$")


class Whole(Catalog):
    def test_outputs_are_exported_and_checked(self):
        if not os.access(os.path.join(harness.BIN, "slidemill-ingest"), os.X_OK):
            self.skipTest("no slidemill-ingest")
        os.mkdir(os.path.join(self.root, "d"))
        for name in ("a.svs", "d/b c.svs"):
            harness.mosaic(os.path.join(self.root, name), "--width", 700, "--height", 500)
        self.put("bad.svs")
        self.create()
        out = self.path("out")
        os.mkdir(out)
        r = harness.run("ingest", "--catalog", self.catalog, "--out", out, "--quiet")
        self.assertEqual(r.code, 1, r)
        self.assertGreater(self.status()["journals"]["finished"], 0)
        self.assertIn("catalog merge", self.status()["next"])
        self.run_catalog("merge", self.catalog)
        rows = {row["path"]: row for row in self.rows()}
        self.assertEqual(rows["d/b c.svs"]["output"], "d/b c.ome.tiff")
        self.assertEqual(rows["a.svs"]["output_state"], "good")
        self.assertIsNone(rows["bad.svs"]["output"])
        r = self.run_catalog("export", self.catalog, "--what", "outputs")
        self.assertIn("left out: 1 slide without", r.err)
        done = subprocess.run(["sha256sum", "-c", "--strict"], cwd=out, input=r.raw, check=False,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stdout.count(b": OK")), (0, 2), done)
        raw = self.run_catalog("export", self.catalog, "--what", "outputs", "--format", "csv").raw
        found = {r["path"]: r for r in csv.DictReader(io.StringIO(raw.decode()))}
        self.assertEqual(found["a.svs"]["sha256"], self.sha256(os.path.join(out, "a.ome.tiff")))
        self.assertEqual(found["a.svs"]["source_sha256"], rows["a.svs"]["sha256"])
        s = self.status()
        self.assertEqual((s["states"]["done"]["slides"], s["states"]["failed"]["slides"]), (2, 1))
        self.assertEqual(s["failures"][0]["example_path"], "bad.svs")
        text = self.run_catalog("status", self.catalog).out
        self.assertIn("2 of 3 slides done", text)
        self.assertIn("list", s["next"])
        self.run_catalog("verify", self.catalog, "--what", "outputs")
        with open(os.path.join(out, "a.ome.tiff"), "r+b") as f:
            f.seek(-1, 2)
            f.write(b"!")
        self.run_catalog("verify", self.catalog, "--what", "outputs", code=1)
        self.assertEqual(self.paths("--class", "output"), ["a.svs"])

    def test_a_copied_catalog_takes_a_journal_without_its_folder(self):
        if not os.access(os.path.join(harness.BIN, "slidemill-ingest"), os.X_OK):
            self.skipTest("no slidemill-ingest")
        self.put("bad.svs")
        self.create()
        os.mkdir(self.path("out"))
        r = harness.run("ingest", "--catalog", self.catalog, "--out", self.path("out"), "--quiet")
        self.assertEqual(r.code, 1, r)
        os.mkdir(self.path("copy"))
        copy = shutil.copy(self.catalog, self.path("copy"))
        folder = self.path("c.smc.d/journal/all")
        journals = [shutil.copy(os.path.join(folder, name), self.path("copy"))
                    for name in os.listdir(folder)]
        self.assertEqual(len(journals), 1)
        self.assertIn("nothing new", self.run_catalog("merge", copy).out)
        self.assertFalse(os.path.exists(copy + ".d"))
        r = self.run_catalog("merge", copy, *journals)
        self.assertRegex(r.out, r"events +1 +were new")
        self.assertEqual(r.err, "")
        rows = self.run_catalog("list", copy, "--format", "jsonl").raw.splitlines()
        self.assertEqual([json.loads(row)["state"] for row in rows], ["failed"])
        self.assertEqual(len(os.listdir(copy + ".d/journal/merged")), 1)
        self.assertIn("nothing new", self.run_catalog("merge", copy, *journals).out)

    def test_status_says_what_to_do_next(self):
        self.create()
        self.assertIn("catalog scan", self.status()["next"])
        self.put("a.svs")
        self.put("b.svs")
        self.run_catalog("scan", self.catalog)
        s = self.status()
        self.assertIn("slidemill plan --catalog", s["next"])
        self.assertEqual(s["states"]["new"], dict(slides=2, bytes=128))
        self.assertEqual(len(s["bricks"]), 1)
        self.assertEqual(s["journals"], dict(finished=0, live=0))
        text = self.run_catalog("status", self.catalog).out
        self.assertEqual([x for x in text.splitlines() if len(x) > 80 and self.dir not in x], [])
        self.assertNotIn("\033", text)
        self.assertIn("0 of 2 slides done", text)

    def test_retry_and_merge_without_work_change_nothing(self):
        self.put("a.svs")
        self.create()
        before = self.folder()
        self.assertIn("0 slides", self.run_catalog("retry", self.catalog).out)
        self.assertIn("nothing new", self.run_catalog("merge", self.catalog).out)
        self.assertEqual(self.folder(), before)
        r = self.run_catalog("merge", self.catalog, self.write_list("j.jsonl", "{}\n{}\n"), code=65)
        self.assertIn("j.jsonl", r.err + r.out)

    def test_fsck_finds_what_is_wrong(self):
        self.put("a.svs")
        self.create()
        self.assertTrue(self.run_catalog("fsck", self.catalog, "--json").json()["ok"])
        kept = self.catalog + ".d/gen-0000000001"
        with open(kept, "rb") as f:
            data = f.read()
        os.unlink(self.catalog)
        with sqlite3.connect(self.path("tmp")) as db:
            with open(self.path("tmp"), "wb") as f:
                f.write(data)
            db.execute("UPDATE slide SET path = '../out'")
        os.rename(self.path("tmp"), self.catalog)
        r = self.run_catalog("fsck", self.catalog, code=65)
        self.assertRegex(r.out, r"fault: .*no clean relative path")
        self.assertIn("note: ", r.out)
        found = self.run_catalog("fsck", self.catalog, "--json", code=65).json()
        self.assertGreater(found["faults"], 0)
        self.assertEqual({f["severity"] for f in found["found"]}, {"fault", "note"})
        with open(kept, "r+b") as f:
            f.seek(5000)
            f.write(b"flip")
        r = self.run_catalog("fsck", self.catalog, code=65)
        self.assertIn("not those that were published", r.out)

    def test_a_torn_catalog_is_not_read(self):
        for i in range(500):
            self.put(f"{i}.svs", b"")
        self.create()
        with open(self.catalog, "rb") as f:
            data = f.read()
        for cut in (100, 4096, len(data) // 2):
            path = self.write_list("torn.smc", data[:cut])
            for sub in ("status", "list", "fsck"):
                r = harness.run("catalog", sub, path)
                self.assertIn(r.code, (2, 65), r)

    def test_verify_learns_digests_and_finds_a_flipped_byte(self):
        if not os.access(os.path.join(harness.BIN, "slidemill-ingest"), os.X_OK):
            self.skipTest("no slidemill-ingest")
        sums = {name: self.put(name) for name in ("a.svs", "b.svs", "c.svs")}
        self.create("--from", self.write_list("l", f"{sums['a.svs']}  a.svs\n"))
        self.run_catalog("verify", self.catalog)
        self.assertEqual({r["path"]: r["sha256"] for r in self.rows()}, sums)
        self.assertEqual({r["digest_origin"] for r in self.rows()}, {"given", "learned"})
        path = os.path.join(self.root, "a.svs")
        stat = os.stat(path)
        self.put("a.svs", b"\0" * 64)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.run_catalog("verify", self.catalog, code=1)
        self.assertEqual(self.paths("--state", "quarantined", "--class", "digest"), ["a.svs"])
        self.assertEqual(self.status()["failures"][0]["class"], "digest")
        text = self.run_catalog("list", self.catalog, "--state", "quarantined").out
        self.assertIn("quarantined digest", text)
        self.put("a.svs")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        r = self.run_catalog("retry", self.catalog, "--state", "quarantined", "--path", "a.svs")
        self.assertIn("1 slide will", r.out)
        self.run_catalog("verify", self.catalog)
        self.assertEqual(self.paths("--state", "quarantined"), [])


if __name__ == "__main__":
    harness.main()
