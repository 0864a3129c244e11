/*
 * Live: what the server does now, from its totals read once a second. Rates are differences of totals;
 * latencies are read off the differences of a histogram over the last few seconds, so a quiet server has none.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { get } from "./api.js";
import { useValue } from "./store.js";
import { colour, theme } from "./theme.js";
import { Notice, duration, integer, percent } from "./ui.jsx";

const KEPT = 300; /* seconds shown */
const SMOOTH = 5; /* samples that a latency is taken from */

/* ---- Samples ---- */

/* The value below which a share of the counts lies, interpolated within its bucket; null without any. */
export function quantile(bounds, counts, share) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  let below = 0;
  for (let i = 0; i < counts.length; i++) {
    if (below + counts[i] >= share * total && counts[i] > 0) {
      const low = i === 0 ? 0 : bounds[i - 1];
      const high = bounds[i] ?? low; /* above the last bound nothing is known */
      return low + ((high - low) * (share * total - below)) / counts[i];
    }
    below += counts[i];
  }
  return bounds.at(-1);
}

const seen = {
  at: [],
  fast: [],
  slow: [],
  errors: [],
  p50: [],
  p99: [],
  shed: [],
  queue: [],
  batch: [],
};
let totals = []; /* the last few, newest last: { at, stats } */

function keep(sample) {
  for (const name of Object.keys(seen)) {
    seen[name].push(sample[name] ?? null);
    if (seen[name].length > KEPT) seen[name].shift();
  }
}

function take(stats, at) {
  const last = totals.at(-1);
  /* A gap, or a server that was started again: begin anew. */
  if (!last || at - last.at > 10 || stats.uptime_seconds < last.stats.uptime_seconds) {
    if (last) keep({ at });
    totals = [{ at, stats }];
    return;
  }
  totals = [...totals.slice(-SMOOTH), { at, stats }];
  const per = (of) => Math.max(0, of(stats) - of(last.stats)) / (at - last.at);
  const { bounds, counts } = stats.latency_ns;
  const recent = counts.map((n, i) => n - totals[0].stats.latency_ns.counts[i]);
  const batches = stats.batches - last.stats.batches;
  keep({
    at,
    fast: per((s) => s.decisions.fast),
    slow: per((s) => s.decisions.slow),
    errors: per((s) => s.errors),
    shed: per((s) => s.shed),
    p50: quantile(bounds, recent, 0.5),
    p99: quantile(bounds, recent, 0.99),
    queue: stats.queue.texts,
    batch: batches > 0 ? (stats.batch_texts - last.stats.batch_texts) / batches : null,
  });
}

/* Reads once a second while the page is in sight; answers with { stats, problem }. */
function useStats() {
  const [state, setState] = useState({ stats: null, problem: null });
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    const read = async () => {
      try {
        if (!document.hidden) {
          const stats = await get("/v1/stats", undefined, stop.signal);
          take(stats, Date.now() / 1000);
          setState({ stats, problem: null });
        }
      } catch (problem) {
        if (problem.name === "AbortError") return;
        setState((now) => ({ ...now, problem }));
      }
      timer = setTimeout(read, 1000);
    };
    read();
    return () => (clearTimeout(timer), stop.abort());
  }, []);
  return state;
}

/* ---- Charts ---- */

const HEIGHT = 190;
const rate = (number) =>
  number === null || number === undefined
    ? "–"
    : number > 0 && number < 10
      ? number.toFixed(1)
      : integer(number);
/* Numbers on an axis are as round as their steps. */
const tick = (at, format) =>
  at === 0 ? "0" : format === rate && at < 10 ? String(Number(at.toPrecision(3))) : format(at);
const clock = (at) => new Date(at * 1000).toTimeString().slice(0, 8);

/* At least a minute is shown, however little there is. */
const span = (_, oldest, newest) => [
  newest - Math.min(KEPT, Math.max(60, newest - oldest)),
  newest,
];

const linear = { range: (_, __, most) => [0, most > 0 ? most * 1.12 : 1] };
/* From a power of ten to a power of ten: a p50 far below the p99 is still seen to move. */
const logarithmic = {
  distr: 3,
  range: (_, least, most) => [
    10 ** Math.floor(Math.log10(least || 1e5)),
    10 ** Math.ceil(Math.log10(most || 1e7) + 1e-9),
  ],
};

function options(lines, scale, width, format, onCursor) {
  const rule = { stroke: colour("line"), width: 1 };
  const axis = {
    stroke: colour("soft"),
    grid: rule,
    ticks: rule,
    font: "12px system-ui, sans-serif",
  };
  const line = ({ token, dash }) => ({
    stroke: colour(token),
    width: 1.75,
    dash,
    points: { show: false },
  });
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { range: span }, y: scale },
    axes: [
      { ...axis, size: 30, space: 80, values: (_, splits) => splits.map(clock) },
      {
        ...axis,
        size: 62,
        values: (_, splits) => splits.map((at) => (at === null ? null : tick(at, format))),
      },
    ],
    series: [{}, ...lines.map(line)],
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
  };
}

const dataOf = (lines) => [seen.at, ...lines.map(({ name }) => seen[name])];

function Chart({ title, lines, scale = linear, format, stats }) {
  const box = useRef();
  const chart = useRef(null);
  const shade = useValue(theme);
  const [cursor, setCursor] = useState(null);
  useEffect(() => {
    const place = box.current;
    const width = () => Math.max(200, Math.floor(place.clientWidth));
    /* The style sheet's colours are there one frame after the theme has changed. */
    const frame = requestAnimationFrame(() => {
      chart.current = new uPlot(
        options(lines, scale, width(), format, setCursor),
        dataOf(lines),
        place,
      );
    });
    const watch = new ResizeObserver(() =>
      chart.current?.setSize({ width: width(), height: HEIGHT }),
    );
    watch.observe(place);
    return () => {
      cancelAnimationFrame(frame);
      watch.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [shade]);
  useEffect(() => {
    chart.current?.setData(dataOf(lines));
  }, [stats]);
  const at = cursor ?? seen.at.length - 1;
  return (
    <figure class="card chart">
      <figcaption>
        <b>
          {title} <span class="soft number">{cursor === null ? "" : clock(seen.at[at])}</span>
        </b>
        {lines.map(({ name, label, token }) => (
          <span key={name} class="series">
            <i class={`line-${token}`} />
            {label} <span class="number">{format(seen[name][at])}</span>
          </span>
        ))}
      </figcaption>
      <div ref={box} class="canvas" />
    </figure>
  );
}

const charts = [
  {
    title: "Decisions per second",
    format: rate,
    lines: [
      { name: "fast", label: "fast", token: "accent" },
      { name: "slow", label: "slow", token: "second" },
    ],
  },
  {
    title: "Latency of a request",
    format: duration,
    scale: logarithmic,
    lines: [
      { name: "p50", label: "p50", token: "accent" },
      { name: "p99", label: "p99", token: "second" },
    ],
  },
  {
    title: "Turned away and failed per second",
    format: rate,
    lines: [
      { name: "shed", label: "shed", token: "accent" },
      { name: "errors", label: "failed", token: "wrong", dash: [5, 4] },
    ],
  },
  {
    title: "Queue, in texts",
    format: rate,
    lines: [
      { name: "queue", label: "waiting", token: "accent" },
      { name: "batch", label: "in a batch", token: "second" },
    ],
  },
];

/* ---- Figures of now ---- */

function Figures({ stats }) {
  const last = (name) => seen[name].at(-1) ?? null;
  const fast = stats.decisions.fast;
  const all = fast + stats.decisions.slow;
  const figures = [
    ["Decisions / s", rate((last("fast") ?? 0) + (last("slow") ?? 0))],
    ["p50", duration(last("p50"))],
    ["p99", duration(last("p99"))],
    ["Shed / s", rate(last("shed") ?? 0)],
    ["Waiting", integer(stats.queue.texts)],
    ["Connections", integer(stats.connections)],
    ["Decided so far", integer(all)],
    ["Fast path", percent(all ? fast / all : null, 0)],
  ];
  return (
    <dl class="tiles">
      {figures.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

function upSince(seconds) {
  const [d, h, m] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min` : `${Math.floor(seconds)} s`;
}

export function LivePage() {
  const { stats, problem } = useStats();
  return (
    <>
      <header class="heading">
        <h1>Live</h1>
        <p class="soft">
          {stats ? `Up for ${upSince(stats.uptime_seconds)}; read once a second` : "Reading…"}
        </p>
      </header>
      {problem && <Notice problem={problem} />}
      {stats && (
        <>
          <Figures stats={stats} />
          <div class="charts">
            {charts.map((chart) => (
              <Chart key={chart.title} {...chart} stats={stats} />
            ))}
          </div>
        </>
      )}
    </>
  );
}
