"""The report's stylesheet: one column of text, wide figures, two themes."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fffefa; --ink: #22211d; --muted: #6b685f; --rule: #dedacd;
  --wash: #f6f3ea; --leaks: #b3371f; --partial: #96680a; --resists: #2b6a8f;
  --unknown: #6b685f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161614; --ink: #e8e4da; --muted: #a09c90; --rule: #38362f;
    --wash: #1f1e1b; --leaks: #f08a6c; --partial: #e0b25a;
    --resists: #7db8da; --unknown: #a09c90;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 Charter, 'Bitstream Charter', 'Iowan Old Style',
    Georgia, 'DejaVu Serif', serif;
}
p, ul, .prose { max-width: 40rem; }
p { margin: .6rem 0; }
h1 { font-size: 1rem; font-weight: 400; color: var(--muted); margin: 0; }
h2 {
  font-size: 1.3rem; font-weight: 600; line-height: 1.25;
  margin: 3rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--rule);
}
h3 { font-size: 1rem; font-weight: 600; margin: 1.4rem 0 .4rem; }
.verdict {
  font-size: clamp(1.55rem, 4.5vw, 2.3rem); line-height: 1.2;
  margin: .5rem 0 .9rem; max-width: 46rem; text-wrap: balance;
}
.leaks { color: var(--leaks); } .partial { color: var(--partial); }
.resists { color: var(--resists); } .unknown { color: var(--unknown); }
.untested, .unscored { color: var(--unknown); }
.note, figcaption, .facts, table, summary, pre, .label {
  font-family: 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif;
}
.note { font-size: .84rem; line-height: 1.5; color: var(--muted); }
.facts {
  display: grid; gap: .8rem 2rem; margin: 1.5rem 0 0; font-size: .88rem;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
}
.facts dt { color: var(--muted); font-size: .75rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.gallery {
  display: grid; gap: 1.4rem 2rem; margin: .8rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(17.5rem, 1fr));
}
.gallery figure { margin: 0; break-inside: avoid; }
.gallery h3 {
  margin: 0 0 .2rem; line-height: 1.35;
  font: 600 .8rem 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif;
}
.trio {
  display: grid; grid-template-columns: 2fr 2fr 1fr; gap: .35rem;
  align-items: end; max-width: 24rem;
}
.trio div { display: flex; flex-direction: column; }
.trio img { width: 100%; display: block; }
.trio img.small { image-rendering: pixelated; }
.boxed { position: relative; }
.boxed svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.boxed rect {
  fill: none; stroke: #ff0; stroke-width: 1.5px;
  vector-effect: non-scaling-stroke;
}
.label { font-size: .7rem; color: var(--muted); line-height: 1.5; }
figcaption { font-size: .8rem; line-height: 1.4; margin-top: .3rem; }
figcaption, table { font-variant-numeric: tabular-nums; }
.columns {
  display: grid; gap: 0 3rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr));
}
.saw dt { font-weight: 600; }
.saw dd { margin: 0 0 .5rem; }
.saw ul { margin: 0; padding: 0; list-style: none; }
.saw li { margin: 0 0 .5rem; line-height: 1.4; }
.saw .label { display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; margin: .8rem 0; }
th, td {
  padding: .32rem 1.2rem .32rem 0; text-align: right; white-space: nowrap;
  vertical-align: middle;
}
th:first-child, td:first-child { text-align: left; }
thead th {
  font-weight: 400; color: var(--muted); border-bottom: 1px solid var(--rule);
  vertical-align: bottom; white-space: normal; min-width: 3.2rem;
}
.chosen { font-weight: 600; }
.oracle td { font-style: italic; color: var(--muted); }
.badge {
  font-style: normal; font-size: .66rem; letter-spacing: .06em;
  border: 1px solid currentColor; border-radius: 2px; padding: 0 .3em;
  margin-left: .4em; text-transform: uppercase;
}
td .label { display: block; font-weight: 400; }
.wide td { text-align: left; white-space: normal; min-width: 7rem;
  vertical-align: top; }
.wide th { text-align: left; }
th[data-sorts] { cursor: pointer; }
.name { white-space: normal; width: 11rem; line-height: 1.35; }
td svg { display: block; overflow: visible; }
td circle { fill: var(--ink); fill-opacity: .45; }
.chosen circle { fill: var(--leaks); }
td line { stroke: var(--rule); }
.plots {
  display: grid; gap: 1rem 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr));
}
.plots img { width: 100%; max-width: 25rem; display: block; }
pre {
  font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono',
    monospace;
  font-size: .8rem; line-height: 1.5; background: var(--wash); margin: .6rem 0;
  padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
details { margin: .8rem 0; }
summary { cursor: pointer; font-size: .88rem; }
@media (max-width: 30rem) {
  body { padding-top: 1.5rem; font-size: 1rem; }
  h2 { margin-top: 2.2rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3 { break-after: avoid; }
  h2 { margin-top: 1.5rem; }
  .gallery { grid-template-columns: repeat(3, 1fr); gap: .8rem 1.2rem; }
  .scroll { overflow: visible; }
  .plots img, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
