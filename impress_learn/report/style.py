"""The style of the page: one sheet, light, dark and printed. Every text has a contrast of 4.5 or more."""

from __future__ import annotations

from collections.abc import Sequence

from impress_learn.report.colours import DARK, DARK_BOTH, LIGHT, LIGHT_BOTH, hexadecimal, ink_on
from impress_learn.report.png import Colour

LIGHT_THEME = {
    "paper": "#fdfcf9", "sheet": "#f4f1ea", "ink": "#1b1a17", "quiet": "#57534c", "rule": "#ddd8cd",
    "blue": "#1f5f8b", "orange": "#a84310", "pale": "#e6e1d6",
}  # fmt: skip
DARK_THEME = {
    "paper": "#16181b", "sheet": "#1e2125", "ink": "#ece9e2", "quiet": "#aeaaa1", "rule": "#383c42",
    "blue": "#86c1ec", "orange": "#f2a26b", "pale": "#2a2e33",
}  # fmt: skip

_SHEET = """
*{box-sizing:border-box}
html{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;background:var(paper);
color:var(ink);color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:66rem;padding:2.5rem 1.25rem 4rem}
h1{font-size:2.3rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.4rem;letter-spacing:-.01em;margin:0 0 .5rem}
h3{font-size:1rem;margin:1.2rem 0 .4rem;overflow-wrap:anywhere}
section{border-top:1px solid var(rule);margin-top:2.2rem;padding-top:1.4rem}
p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}
.says{font-size:1.08rem}
.how,figcaption,caption,.scale,small{color:var(quiet);font-size:.86rem}
.note{border-left:4px solid var(orange);padding:.4rem .8rem;background:var(sheet)}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem 1.2rem;margin:1.6rem 0 0}
.numbers div{border-top:3px solid var(blue);padding-top:.35rem;display:flex;flex-direction:column-reverse;
justify-content:flex-end}
dt{font-size:.86rem;color:var(quiet)}dd{margin:0;font-size:1.45rem;white-space:nowrap;font-weight:600;font-variant-numeric:tabular-nums}
figure{margin:0 0 .6rem}figcaption{margin-top:.35rem;max-width:46rem}
.frames{display:grid;gap:1rem .9rem;margin:1.1rem 0}
.few{grid-template-columns:repeat(5,1fr)}.many{grid-template-columns:repeat(8,1fr)}
.frames figure,.strip figure{margin:0;min-width:0}.frames figcaption,.strip figcaption{overflow-wrap:anywhere}
.p{display:block;width:100%;height:auto;image-rendering:pixelated;border-radius:3px;border:1px solid var(rule)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem 2.4rem;align-items:start;margin:.8rem 0}
.pair.matrix{grid-template-columns:minmax(0,max-content) minmax(13rem,1fr)}
.pair>*{min-width:0}.pair h3{margin-top:0}
.middle{max-width:38rem;margin:.8rem 0}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(5.2rem,1fr));gap:.7rem;margin:.4rem 0 1rem}
.wrong .p{border:3px solid var(orange)}
.wide{overflow-x:auto;margin:.7rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem;max-width:calc(100vw - 2rem)}
th,td{text-align:right;padding:.22rem .6rem;border-bottom:1px solid var(rule);font-weight:400}
.l{text-align:left;overflow-wrap:anywhere}tbody th{font-weight:600}
thead th{color:var(quiet);vertical-align:bottom}thead .l{overflow-wrap:normal}
.h{border-collapse:separate;border-spacing:1px}
.h th,.h td{border:0;padding:.22rem .3rem;text-align:center;min-width:2.6rem;font-size:.8rem}
.h td{border-radius:2px}.h .l{text-align:left;max-width:12rem;white-space:nowrap;padding-right:.6rem}
.v{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.large{max-width:40rem}.scale{display:flex;gap:.5rem;align-items:center}
.ramp{display:flex;width:12rem;border:1px solid var(rule)}.ramp i{flex:1;height:.8rem}
details{margin:.6rem 0}summary{cursor:pointer;color:var(blue);font-size:.92rem}
b{font-weight:600;color:var(ink)}
pre{background:var(sheet);padding:.8rem 1rem;border-radius:4px;overflow-x:auto;font-size:.85rem;line-height:1.5}
code{font-size:.92em}
svg{display:block;width:100%;height:auto;max-width:38rem}
.t{font-size:12px;fill:var(ink)}.m{fill:var(quiet)}.b{font-weight:600}text.o{fill:var(orange)}
.g{stroke:var(rule);stroke-width:1;fill:none}.g2{fill:var(pale)}
.k{fill:var(blue)}.o{fill:var(orange)}circle.h{fill:var(paper);stroke:var(blue);stroke-width:1.6}
circle.k,rect.o{stroke:var(paper);stroke-width:.8}
.lk{stroke:var(blue);stroke-width:2.6;fill:none}.lm{stroke:var(quiet);stroke-width:1.1;fill:none}
.ld{stroke:var(orange);stroke-width:1;stroke-dasharray:3 3;fill:none}.lx{stroke:var(quiet);stroke-width:2;fill:none}
footer{margin-top:3rem;border-top:1px solid var(rule);color:var(quiet);font-size:.86rem}
:focus-visible{outline:2px solid var(blue);outline-offset:2px}
@media (max-width:46rem){body{padding:1.4rem .9rem 3rem}h1{font-size:1.7rem}
.pair,.pair.matrix{grid-template-columns:1fr}
.few{grid-template-columns:repeat(3,1fr)}.many{grid-template-columns:repeat(4,1fr)}
.numbers{grid-template-columns:1fr 1fr}}
@media print{:root{PAPER}html{font-size:13px}body{max-width:none;padding:0}
section{margin-top:1rem;padding-top:.7rem}
h2,h3,.says,summary{break-after:avoid}figure,tr,pre,.says,.numbers,.h,svg{break-inside:avoid}.wide{overflow:visible}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
details::details-content{content-visibility:visible;display:block;height:auto}summary{color:var(quiet);list-style:none}
.few{grid-template-columns:repeat(5,1fr)}.many{grid-template-columns:repeat(8,1fr)}
.numbers{grid-template-columns:repeat(6,1fr)}dd{font-size:1.2rem}
.pair,.pair.matrix{grid-template-columns:1fr 1fr;gap:1rem 1.6rem}
.h th,.h td{font-size:.56rem;min-width:1.55rem;padding:.1rem .12rem}.strip{grid-template-columns:repeat(8,1fr)}
pre{white-space:pre-wrap}}
"""


def sheet() -> str:
    """The whole style sheet."""
    rules = _SHEET.replace("var(", "var(--").replace("PAPER", _variables({"paper": "#ffffff"}))
    return (
        f":root{{{_variables(LIGHT_THEME)}}}{_scales(LIGHT, LIGHT_BOTH)}{rules}"
        f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK_THEME)}}}{_scales(DARK, DARK_BOTH)}}}"
    )


def _variables(theme: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in theme.items())


def _scales(one_way: Sequence[Colour], both_ways: Sequence[Colour]) -> str:
    return "".join(
        f".{letter}{step}{{background:{hexadecimal(colour)};color:{ink_on(colour)}}}"
        for letter, colours in (("s", one_way), ("b", both_ways))
        for step, colour in enumerate(colours)
    )
