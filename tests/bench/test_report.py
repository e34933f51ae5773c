#!/usr/bin/env python3
# ctest: labels=bench timeout=300
"""slidemill report: the page of a small corpus, parsed, and looked at by a real browser."""
import base64
import html.parser
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

HOSTILE = "<img src=x onerror=alert(1)>&\"'.svs"
BAD = "</td><script>alert(2)</script>.svs".replace("/", "\u2215")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RESULTS = os.path.join(harness.SOURCE_DIR, "bench", "results", "convert-2cpu-ext4.json")
VOID = {"meta", "link", "img", "line", "rect", "path", "circle"}

# Asks the browser for what a person would see: empty boxes, text on text, text that is cut off.
PROBE = """<script>
(function(){var out={charts:[],faults:[],scripts:document.scripts.length,
 wide:document.documentElement.scrollWidth-innerWidth,
 imgs:[].map.call(document.images,function(i){return i.naturalWidth}),
 bg:getComputedStyle(document.body).backgroundColor};
document.querySelectorAll('svg.chart').forEach(function(s){
 var b=s.getBoundingClientRect(),t=[].map.call(s.querySelectorAll('text'),function(e){
  return [e.textContent,e.getBoundingClientRect()]});
 out.charts.push([s.parentNode.id,b.width,b.height,s.querySelectorAll('.pt').length]);
 t.forEach(function(x,i){var r=x[1];
  if(r.left<b.left-1||r.right>b.right+1||r.top<b.top-1||r.bottom>b.bottom+1)
   out.faults.push('cut: '+s.parentNode.id+': '+x[0]);
  for(var k=i+1;k<t.length;k++){var q=t[k][1];
   if(r.left<q.right-1&&q.left<r.right-1&&r.top<q.bottom-2&&q.top<r.bottom-2)
    out.faults.push('overlap: '+s.parentNode.id+': '+x[0]+' / '+t[k][0])}})});
var c=document.querySelector('svg.chart');c.focus();
c.dispatchEvent(new KeyboardEvent('keydown',{key:'ArrowRight',bubbles:true}));
out.focus=document.activeElement.getAttribute('aria-label');
out.tip=document.getElementById('tip').textContent;
document.body.setAttribute('data-probe',JSON.stringify(out))})();</script></body>"""


class Page(html.parser.HTMLParser):
    """A page as a list of (tag, attributes), its texts, and its charts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open, self.charts, self.faults = [], [], [], {}, []
        self.figure = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "figure":
            self.figure = attrs["id"]
            self.charts[self.figure] = {"title": "", "desc": "", "points": 0, "rows": 0}
        elif self.figure:
            chart = self.charts[self.figure]
            chart["points"] += attrs.get("class") == "pt"
            chart["rows"] += tag == "tr"
            if tag == "svg" and attrs.get("class") == "chart":
                chart["svg"] = attrs

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")
        if tag == "figure":
            self.figure = None

    def handle_data(self, data):
        self.texts.append(data)
        if self.figure and self.open[-1:] in (["title"], ["desc"]) and self.open[-2:-1] == ["svg"]:
            self.charts[self.figure][self.open[-1]] += data


class Report(harness.Case):
    """One corpus for all claims: four slides, one of them with a hostile name, and a broken one."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.home = harness.tempfile.mkdtemp(prefix="slidemill-test.")
        cls.addClassCleanup(shutil.rmtree, cls.home, True)
        source = os.path.join(cls.home, "src")
        os.mkdir(source)
        for i, name in enumerate(("a.svs", "b.svs", "c.svs", HOSTILE)):
            subprocess.run([os.path.join(harness.BIN, "mosaic"), "--synthetic", "--width",
                            str(720 + 240 * i), os.path.join(source, name)], check=True,
                           stdout=subprocess.DEVNULL)
        with open(os.path.join(source, "a.svs"), "rb") as whole, \
                open(os.path.join(source, BAD), "wb") as cut:
            cut.write(whole.read(60000))
        cls.catalog = os.path.join(cls.home, "c.smc")
        cls.step(0, "catalog", "create", source, "--output", cls.catalog)
        cls.step(0, "plan", "--catalog", cls.catalog, "--shards", "1")
        cls.step(1, "ingest", "--catalog", cls.catalog, "--out", os.path.join(cls.home, "out"))
        cls.step(0, "catalog", "merge", cls.catalog)
        cls.page_path = os.path.join(cls.home, "report.html")
        cls.step(0, "report", cls.catalog, RESULTS, cls.four_threads(), "-o", cls.page_path,
                 "--thumbnails", "9", "--title", "A & B <c>")
        with open(cls.page_path, encoding="utf-8") as f:
            cls.text = f.read()
        cls.page = Page(cls.text)

    @classmethod
    def step(cls, code, *args):
        r = harness.run(*args, env={"OMPI_ALLOW_RUN_AS_ROOT": "1",
                                    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
        if r.code != code:
            raise AssertionError(r)
        return r

    @classmethod
    def four_threads(cls):
        with open(RESULTS, encoding="utf-8") as f:
            result = json.load(f)
        result["threads"] = 4
        for program in result["summary"].values():
            for key in program["wall_s"]:
                program["wall_s"][key] *= 0.6
        path = os.path.join(cls.home, "four.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(result, f)
        return path

    def test_page_is_well_formed_and_stands_alone(self):
        self.assertEqual(self.page.faults, [])
        self.assertEqual(self.page.open, [])
        for tag, attrs in self.page.tags:
            for key in ("src", "href", "srcset", "data", "action", "poster"):
                value = attrs.get(key)
                if value is not None:
                    self.assertTrue(value.startswith(("data:", "#")), (tag, key, value[:80]))
        for word in ("http://", "https://", "url(", "@import", "fetch("):
            self.assertNotIn(word, self.text)

    def test_every_chart_has_a_name_and_its_numbers(self):
        wanted = {"progress", "throughput", "bricks-time", "stage-work", "stage-waits", "phase-time", "sizes", "times",
                  "failure-classes", "scaling-1", "peers-2", "peers-3"}
        self.assertEqual(set(self.page.charts), wanted)
        for name, chart in self.page.charts.items():
            with self.subTest(name):
                self.assertTrue(chart["title"] and chart["desc"])
                self.assertEqual(chart["svg"]["role"], "img")
                self.assertEqual(chart["svg"]["tabindex"], "0")
                self.assertGreater(chart["points"], 0)
                self.assertEqual(chart["rows"], chart["points"] + 1)
        for wrong in ("nan", "inf", "-nan"):
            self.assertNotIn(f'"{wrong}"', self.text)

    def test_hostile_names_are_text(self):
        texts = "".join(self.page.texts)
        self.assertIn(HOSTILE, texts)
        self.assertIn(BAD, texts)
        self.assertIn("A & B <c>", texts)
        self.assertEqual(sum(tag == "script" for tag, _ in self.page.tags), 1)
        for tag, attrs in self.page.tags:
            self.assertFalse([k for k in attrs if k.startswith("on")], (tag, attrs))

    def test_figures_are_those_of_the_catalog(self):
        status = harness.run("catalog", "status", "--json", self.catalog).json()
        texts = [t.strip() for t in self.page.texts]
        self.assertEqual(status["slides"], 5)
        cards = [texts[i:i + 2] for i, t in enumerate(texts) if t in ("4", "1", "5")]
        self.assertIn(["4", "done (80%)"], cards)
        self.assertIn(["1", "failed (20%)"], cards)
        self.assertTrue(any(t.startswith("slides, ") for t in texts))

    def test_thumbnails_are_whole_jpegs(self):
        images = [a["src"] for tag, a in self.page.tags if tag == "img"]
        self.assertEqual(len(images), 4)
        for image in images:
            data = base64.b64decode(image.partition("base64,")[2], validate=True)
            self.assertEqual((data[:2], data[-2:]), (b"\xff\xd8", b"\xff\xd9"))
        self.assertEqual(len(set(images)), 4)

    def test_damaged_pyramid_is_said_in_its_place(self):
        home = os.path.join(self.home, "out")
        path = os.path.join(home, "b.ome.tiff")
        keep = path + ".keep"
        os.rename(path, keep)
        self.addCleanup(os.rename, keep, path)
        out = self.path("r.html")
        self.step(0, "report", self.catalog, "-o", out, "--thumbnails", "9")
        with open(out, encoding="utf-8") as f:
            page = Page(f.read())
        self.assertEqual(sum(tag == "img" for tag, _ in page.tags), 3)
        self.assertTrue(any(a.get("class") == "none" for _, a in page.tags))

    def test_results_alone_make_a_page(self):
        out = self.path("r.html")
        self.step(0, "report", RESULTS, "-o", out)
        with open(out, encoding="utf-8") as f:
            self.assertEqual(list(Page(f.read()).charts), ["peers-1"])

    def test_json_lines_of_bench_make_charts(self):
        lines = os.path.join(self.dir, "now.jsonl")
        out = os.path.join(self.dir, "lines.html")
        self.step(0, "bench", "ingest", "--quiet", "--slides", "2", "--width", "960", "--height",
                  "960", "--repeats", "1", "--ranks", "1", "--threads", "1,2", "--against", "limit",
                  "--json", lines, self.dir)
        peers = os.path.join(self.dir, "peers.jsonl")
        with open(peers, "w", encoding="utf-8") as f:
            f.write(json.dumps({"what": "peers", "input": {"width_px": 9, "height_px": 9}}) + "\n")
            f.write(json.dumps({"id": "vips", "state": "failed", "why": "<b>it broke"}) + "\n")
        self.step(0, "report", lines, peers, "-o", out)
        with open(out, encoding="utf-8") as f:
            page = Page(f.read())
        self.assertEqual(page.faults, [])
        titles = " ".join(c["title"] for c in page.charts.values())
        for words in ("Ingest, speed over ranks", "Where the time of the fastest went", "Wall time"):
            self.assertIn(words, titles)
        self.assertIn("% of what is possible", " ".join(page.texts))
        self.assertIn("<b>it broke", page.texts)
        with open(lines, "a", encoding="utf-8") as f:
            f.write('{"id": "torn')
        self.step(65, "report", lines, "-o", os.path.join(self.dir, "no.html"))
        self.assertFalse(os.path.exists(os.path.join(self.dir, "no.html")))

    def test_wrong_inputs_are_refused_and_leave_nothing(self):
        out, junk = self.path("r.html"), self.path("junk.json")
        with open(junk, "w", encoding="utf-8") as f:
            f.write('{"summary": [')
        for args, code in (((self.path("no.smc"),), 2), ((junk,), 65), ((self.path("no.json"),), 2),
                           ((self.catalog, self.catalog), 2)):
            with self.subTest(args):
                r = harness.run("report", *args, "-o", out)
                self.assert_refused(r, code, target=out)
        r = harness.run("report", self.catalog, "-o", self.catalog)
        self.assert_refused(r, 2)

    def test_catalog_without_attempts_has_a_page(self):
        catalog, out = self.path("new.smc"), self.path("r.html")
        os.mkdir(self.path("none"))
        self.step(0, "catalog", "create", self.path("none"), "--output", catalog)
        self.step(0, "report", catalog, "-o", out, "--thumbnails", "3")
        with open(out, encoding="utf-8") as f:
            self.assertEqual(Page(f.read()).faults, [])


@unittest.skipUnless(CHROMIUM, "no chromium to look at the page with")
class Browser(Report):
    """What a real browser makes of the page; only its own claims are run here."""

    def chromium(self, page, *options):
        argv = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--enable-logging=stderr", "--window-size=1100,900",
                f"--user-data-dir={self.path('profile')}", *options, "file://" + page]
        return subprocess.run(argv, capture_output=True, timeout=100 * harness.SLOWER, check=True,
                              text=True, errors="replace")

    def probe(self, *options):
        page = self.path("probe.html")
        with open(page, "w", encoding="utf-8") as f:
            f.write(self.text.replace("</body>", PROBE))
        done = self.chromium(page, "--dump-dom", *options)
        self.assertNotIn("CONSOLE", done.stderr)
        found = [a["data-probe"] for _, a in Page(done.stdout).tags if "data-probe" in a]
        return json.loads(found[0])

    def test_browser_draws_every_chart_without_complaint(self):
        seen = self.probe()
        self.assertEqual(len(seen["charts"]), len(self.page.charts))
        for name, width, height, points in seen["charts"]:
            self.assertTrue(width > 400 and height > 20 and points > 0, name)
        self.assertEqual(seen["faults"], [])
        self.assertEqual(seen["wide"], 0)
        self.assertEqual(seen["imgs"], [176] * 4)

    def test_arrow_keys_reach_the_points(self):
        seen = self.probe()
        self.assertTrue(seen["focus"])
        self.assertEqual(seen["tip"], seen["focus"].replace("; ", "\n"))

    def test_narrow_window_needs_no_sideways_scrolling(self):
        self.assertEqual(self.probe("--window-size=500,900")["wide"], 0)

    def test_light_and_dark_differ(self):
        light = self.probe("--blink-settings=preferredColorScheme=1")["bg"]
        dark = self.probe("--blink-settings=preferredColorScheme=0")["bg"]
        self.assertEqual((light, dark), ("rgb(255, 255, 255)", "rgb(20, 24, 29)"))

    def test_page_prints(self):
        pdf = self.path("r.pdf")
        self.chromium(self.page_path, f"--print-to-pdf={pdf}")
        with open(pdf, "rb") as f:
            data = f.read()
        self.assertEqual(data[:5], b"%PDF-")
        self.assertGreater(len(data), 20000)


def load_tests(loader, _tests, _pattern):
    """Browser inherits the corpus, not the claims."""
    suite = loader.loadTestsFromTestCase(Report)
    own = [n for n in loader.getTestCaseNames(Browser) if n in vars(Browser)]
    suite.addTests(Browser(n) for n in own)
    return suite


if __name__ == "__main__":
    harness.main()
