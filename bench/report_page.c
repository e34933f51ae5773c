/* HTML of a report: escaping, and the frame with its styles and script. One file that needs nothing
 * else: no network, and no script to be read. Owns nothing. */
#include "bench/report_page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

static void put_bytes(sm_page *page, const void *bytes, size_t len)
{
    if (page->status == SM_OK)
        page->status = sm_buf_append(&page->html, bytes, len, page->err);
}

static void put_str(sm_page *page, const char *text)
{
    put_bytes(page, text, strlen(text));
}

void sm_page_put(sm_page *page, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    const int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text)) {
        if (page->status == SM_OK)
            page->status = sm_fail(page->err, SM_ERR_INTERNAL, "markup of %d bytes", len);
        return;
    }
    put_bytes(page, text, (size_t)len);
}

void sm_page_text(sm_page *page, const char *text)
{
    sm_buf clean = {0};
    if (page->status == SM_OK)
        page->status = sm_text_clean(text != NULL ? text : "", true, &clean, page->err);
    for (size_t i = 0; page->status == SM_OK && i + 1 < clean.len; i++) {
        switch (clean.data[i]) {
        case '&':
            put_str(page, "&amp;");
            break;
        case '<':
            put_str(page, "&lt;");
            break;
        case '>':
            put_str(page, "&gt;");
            break;
        case '"':
            put_str(page, "&quot;");
            break;
        case '\'':
            put_str(page, "&#39;");
            break;
        default:
            put_bytes(page, clean.data + i, 1);
        }
    }
    sm_buf_free(&clean);
}

void sm_page_base64(sm_page *page, const uint8_t *bytes, size_t len)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        const size_t n = len - i < 3 ? len - i : 3;
        const uint32_t word = (uint32_t)bytes[i] << 16 | (n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                              (n > 2 ? (uint32_t)bytes[i + 2] : 0);
        char quad[4] = {'=', '=', '=', '='};
        for (size_t k = 0; k <= n; k++)
            quad[k] = DIGITS[word >> (18 - 6 * k) & 63];
        put_bytes(page, quad, 4);
    }
}

void sm_page_section(sm_page *page, const char *id, const char *heading)
{
    sm_page_put(page, "<section id=\"%s\"><h2>", id);
    sm_page_text(page, heading);
    sm_page_put(page, "</h2>\n");
}

void sm_page_end(sm_page *page)
{
    sm_page_put(page, "</section>\n");
}

/* Colours of lines and bars tell apart with every kind of colour blindness (after Okabe and Ito);
 * dashes tell them apart on paper. */
static const char STYLE[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--grid:#d8dee4;"
    "--card:#f6f8fa;--c0:#0072b2;--c1:#d55e00;--c2:#007a5a;--c3:#a8447f;--c4:#8a6d00;"
    "--c5:#2b8cbe;--c6:#6b4fa0;--c7:#555}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e6edf3;--soft:#9aa5b1;"
    "--grid:#333b45;--card:#1d232b;--c0:#56b4e9;--c1:#ff9248;--c2:#2fc99b;--c3:#e59ac8;"
    "--c4:#f0d13c;--c5:#9fd3f2;--c6:#b9a3ee;--c7:#bbb}}\n"
    "*{box-sizing:border-box}body{margin:0 "
    "auto;max-width:64rem;padding:1.5rem;background:var(--bg);"
    "color:var(--fg);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',"
    "sans-serif}\n"
    "h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;"
    "border-bottom:1px solid var(--grid)}p{margin:.4rem 0}.soft{color:var(--soft)}"
    "a{color:var(--c0)}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:.7rem;"
    "margin:1rem 0;padding:0;list-style:none}.cards li{background:var(--card);border-radius:6px;"
    "padding:.6rem .8rem}.cards b{display:block;font-size:1.25rem;font-weight:600}"
    ".cards span{color:var(--soft);font-size:.875rem}\n"
    "figure{margin:1rem 0 1.4rem}figcaption{font-weight:600;margin-bottom:.2rem}"
    "svg{display:block;width:100%;height:auto;max-width:60rem}"
    "svg text{fill:var(--fg);font-size:12px}svg .unit{fill:var(--soft)}"
    "svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}"
    "svg .line{fill:none;stroke-width:2;stroke-linejoin:round}svg .dot{opacity:0}"
    "svg .hit{fill:transparent}svg .pt{outline:none}"
    "svg .pt:focus .dot,svg .pt:hover .dot{opacity:1}"
    "svg .pt:focus .hit,svg .pt:hover .hit{fill:var(--soft);fill-opacity:.16}"
    "svg:focus-visible{outline:2px solid var(--c0);outline-offset:2px}\n"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:7 3}"
    ".s2{stroke:var(--c2);stroke-dasharray:2 3}.s3{stroke:var(--c3);stroke-dasharray:9 3 2 3}"
    ".s4{stroke:var(--c4)}.s5{stroke:var(--c5);stroke-dasharray:7 3}"
    ".s6{stroke:var(--c6);stroke-dasharray:2 3}.s7{stroke:var(--c7);stroke-dasharray:9 3 2 3}"
    ".f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}"
    ".f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;list-style:none;margin:.2rem 0;padding:0;"
    "font-size:.875rem}.legend svg{display:inline-block;width:28px;height:10px;margin-right:.4rem;"
    "vertical-align:middle}.legend li{overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem;"
    "font-variant-numeric:tabular-nums}th,td{padding:.2rem .7rem;text-align:left;"
    "border-bottom:1px solid var(--grid);vertical-align:top}td.n,th.n{text-align:right;"
    "white-space:nowrap}td.path{overflow-wrap:anywhere;min-width:14rem}"
    "details{margin:.2rem 0;font-size:.875rem}summary{cursor:pointer;color:var(--soft)}\n"
    ".warn{border-left:4px solid var(--c1);background:var(--card);padding:.5rem .9rem}"
    ".sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.8rem;"
    "padding:0;list-style:none}.sheet img{display:block;width:100%;height:auto;border:1px solid "
    "var(--grid);border-radius:4px;background:#fff}.sheet li{font-size:.75rem;"
    "overflow-wrap:anywhere}.sheet .none{display:flex;aspect-ratio:1;align-items:center;"
    "padding:.6rem;border:1px dashed var(--soft);border-radius:4px}\n"
    "#tip{position:fixed;z-index:1;max-width:22rem;padding:.35rem .6rem;border-radius:4px;"
    "background:var(--fg);color:var(--bg);font-size:.8125rem;white-space:pre-line;"
    "pointer-events:none}\n"
    "@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--grid:#bbb;--card:#f2f2f2;--c0:#0072b2;"
    "--c1:#d55e00;--c2:#007a5a;--c3:#a8447f;--c4:#8a6d00;--c5:#2b8cbe;--c6:#6b4fa0;--c7:#555}"
    "body{max-width:none;padding:0;font-size:10.5pt}figure,tr,.sheet li,.cards li{"
    "break-inside:avoid}h2{break-after:avoid}figcaption{break-after:avoid}#tip,nav{display:none}"
    "details:not([open]){display:none}}\n";

/* Arrow keys walk the points of a chart; what a point says is shown beside it. Without script the
 * browser shows the same text as a title, and the table below each chart has all numbers. */
static const char SCRIPT[] =
    "(function(){var tip=document.createElement('div');tip.id='tip';tip.hidden=true;"
    "document.body.appendChild(tip);"
    "function show(p){var r=p.getBoundingClientRect();tip.textContent=p.getAttribute('aria-label')"
    ".replace(/; /g,'\\n');tip.hidden=false;var x=r.left+r.width/2+12,w=tip.offsetWidth;"
    "if(x+w>innerWidth-8)x=r.left+r.width/2-w-12;tip.style.left=Math.max(4,x)+'px';"
    "tip.style.top=Math.max(4,r.top+8)+'px'}"
    "function hide(){tip.hidden=true}"
    "document.querySelectorAll('svg.chart').forEach(function(svg){"
    "var pts=[].slice.call(svg.querySelectorAll('.pt'));"
    "pts.forEach(function(p){var t=p.querySelector('title');if(t)t.remove();"
    "p.addEventListener('mouseenter',function(){show(p)});p.addEventListener('mouseleave',hide);"
    "p.addEventListener('focus',function(){show(p)});p.addEventListener('blur',hide)});"
    "svg.addEventListener('keydown',function(e){var i=pts.indexOf(document.activeElement),"
    "n=pts.length,k=e.key;if(!n)return;if(k==='ArrowRight'||k==='ArrowDown')i=Math.min(n-1,i+1);"
    "else if(k==='ArrowLeft'||k==='ArrowUp')i=Math.max(0,i-1);else if(k==='Home')i=0;"
    "else if(k==='End')i=n-1;else if(k==='Escape'){svg.focus();return}else return;"
    "e.preventDefault();pts[i].focus()})})})();";

void sm_page_head(sm_page *page, const char *title)
{
    sm_page_put(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                      "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
                      "<link rel=\"icon\" href=\"data:,\">\n<title>");
    sm_page_text(page, title);
    sm_page_put(page, "</title>\n<style>\n");
    put_str(page, STYLE);
    sm_page_put(page, "</style>\n</head>\n<body>\n<header><h1>");
    sm_page_text(page, title);
    sm_page_put(page, "</h1>\n");
}

void sm_page_tail(sm_page *page, const char *version)
{
    sm_page_put(page, "</main>\n<footer class=\"soft\"><p>Made by ");
    sm_page_text(page, version);
    sm_page_put(page, ". Charts: Tab to one, then arrow keys; every chart has its numbers in a "
                      "table below it.</p></footer>\n<script>");
    put_str(page, SCRIPT);
    sm_page_put(page, "</script>\n</body>\n</html>\n");
}
