/*
 * Map: the utterances' vectors in the plane, coloured by route; moved by pointer, wheel, pinch and keys. What
 * lint finds to overlap is listed beside it and shown on it: the two routes, and which utterance is nearer to
 * another route than to its own.
 *
 * Drawn on one canvas, all of it on each change: 5,000 circles take some milliseconds. The list of routes and
 * of overlaps says in words what the picture shows.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "./api.js";
import { changes, useValue } from "./store.js";
import { count, shorten } from "./table.js";
import { colour, theme } from "./theme.js";
import { Empty, Icon, Name, Notice, SearchField, integer, percent, useLoaded } from "./ui.jsx";

const MOST_POINTS = 5000;
const MOST_ZOOM = 60;
const REACH = 14; /* pixels from the pointer to a point that it means */

/* Neighbouring numbers get colours far apart: the golden angle, and three lightnesses in turn. */
function routeColour(number, dark) {
  const light = (dark ? [0.76, 0.66, 0.84] : [0.58, 0.48, 0.67])[number % 3];
  return `oklch(${light} ${dark ? 0.13 : 0.15} ${(25 + number * 137.508) % 360})`;
}

/* ---- Geometry: screen = middle + (point - centre) * scale ---- */

function fit(points, width, height) {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  const scale = Math.min((width - 60) / (right - left || 1), (height - 60) / (bottom - top || 1));
  return { x: (left + right) / 2, y: (top + bottom) / 2, scale, least: scale };
}

const toScreen = (view, size, point) => [
  size.width / 2 + (point.x - view.x) * view.scale,
  size.height / 2 - (point.y - view.y) * view.scale,
];

/* Zooms so that what lies under (px, py) stays there. */
function zoomed(view, size, factor, px = size.width / 2, py = size.height / 2) {
  const scale = Math.min(view.least * MOST_ZOOM, Math.max(view.least * 0.7, view.scale * factor));
  const dx = px - size.width / 2;
  const dy = size.height / 2 - py;
  return {
    ...view,
    scale,
    x: view.x + dx / view.scale - dx / scale,
    y: view.y + dy / view.scale - dy / scale,
  };
}

function nearestTo(points, view, size, px, py) {
  let best = -1;
  let least = REACH * REACH;
  points.forEach((point, i) => {
    const [x, y] = toScreen(view, size, point);
    const distance = (x - px) ** 2 + (y - py) ** 2;
    if (distance < least) [best, least] = [i, distance];
  });
  return best;
}

/* ---- Drawing ---- */

function draw(canvas, size, { view, points, links, colours, lit, hovered }) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const radius = Math.min(
    8,
    Math.max(2.2, 60 / Math.sqrt(points.length + 60)) * (view.scale / view.least) ** 0.25 + 1,
  );
  const disc = (point, grow = 0) => {
    const [x, y] = toScreen(view, size, point);
    pen.beginPath();
    pen.arc(x, y, radius + grow, 0, 2 * Math.PI);
  };
  pen.lineWidth = 1;
  pen.strokeStyle = colour("soft");
  pen.globalAlpha = 0.6;
  for (const [from, to] of links) {
    pen.beginPath();
    pen.moveTo(...toScreen(view, size, from));
    pen.lineTo(...toScreen(view, size, to));
    pen.stroke();
  }
  const paint = (point, alpha) => {
    pen.globalAlpha = alpha;
    pen.fillStyle = colours[point.route];
    disc(point);
    pen.fill();
  };
  if (lit) for (const point of points) if (!lit.has(point.route)) paint(point, 0.13);
  for (const point of points) if (!lit || lit.has(point.route)) paint(point, 0.85);
  pen.globalAlpha = 1;
  if (hovered >= 0 && points[hovered]) {
    disc(points[hovered], 3);
    pen.lineWidth = 2;
    pen.strokeStyle = colour("ink");
    pen.stroke();
  }
}

/* ---- The canvas and its gestures ---- */

function usePointers(canvas, size, view, setView, setHovered, points) {
  const now = useRef();
  now.current = { size, view, points };
  useEffect(() => {
    const element = canvas.current;
    const down = new Map();
    const at = (event) => {
      const box = element.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const hover = (event) => {
      const { points: all, view: v, size: s } = now.current;
      if (v) setHovered(nearestTo(all, v, s, ...at(event)));
    };
    const press = (event) => {
      element.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      hover(event);
    };
    const move = (event) => {
      if (!down.has(event.pointerId)) return hover(event);
      const before = down.get(event.pointerId);
      const after = at(event);
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      down.set(event.pointerId, after);
      const gap = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      const factor = other ? gap(after) / gap(before) : 1;
      const share = other ? 0.5 : 1;
      setView((v) => {
        const moved = {
          ...v,
          x: v.x - ((after[0] - before[0]) * share) / v.scale,
          y: v.y + ((after[1] - before[1]) * share) / v.scale,
        };
        return other
          ? zoomed(
              moved,
              now.current.size,
              factor,
              (after[0] + other[0]) / 2,
              (after[1] + other[1]) / 2,
            )
          : moved;
      });
    };
    const release = (event) => down.delete(event.pointerId);
    const leave = () => down.size || setHovered(-1);
    const wheel = (event) => {
      event.preventDefault();
      setView((v) =>
        zoomed(
          v,
          now.current.size,
          Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)),
          ...at(event),
        ),
      );
    };
    const listeners = {
      pointerdown: press,
      pointermove: move,
      pointerup: release,
      pointercancel: release,
      pointerleave: leave,
    };
    Object.entries(listeners).forEach(([name, run]) => element.addEventListener(name, run));
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      Object.entries(listeners).forEach(([name, run]) => element.removeEventListener(name, run));
      element.removeEventListener("wheel", wheel);
    };
  }, []);
}

function Tip({ point, name, view, size }) {
  if (!point || !view) return null;
  const [x, y] = toScreen(view, size, point);
  const left = Math.min(Math.max(8, x + 14), Math.max(8, size.width - 280));
  const side =
    y > size.height - 110 ? { bottom: `${size.height - y + 14}px` } : { top: `${y + 14}px` };
  return (
    <div class="tip" style={{ left: `${left}px`, ...side }}>
      <b>{name}</b>
      {shorten(point.utterance, 160)}
    </div>
  );
}

function Plot({ map, links, lit, dark }) {
  const box = useRef();
  const canvas = useRef();
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [view, setView] = useState(null);
  const [hovered, setHovered] = useState(-1);
  const { points, routes } = map;
  const colours = useMemo(() => routes.map((_, i) => routeColour(i, dark)), [routes, dark]);

  useEffect(() => {
    const watch = new ResizeObserver(([entry]) =>
      setSize({ width: entry.contentRect.width, height: entry.contentRect.height }),
    );
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (size.width) setView(fit(points, size.width, size.height));
  }, [points, size]);
  useEffect(() => {
    if (view) draw(canvas.current, size, { view, points, links, colours, lit, hovered });
  }, [view, size, points, links, colours, lit, hovered]);
  usePointers(canvas, size, view, setView, setHovered, points);

  const zoom = (factor) => setView((v) => zoomed(v, size, factor));
  const all = () => setView(fit(points, size.width, size.height));
  const step = (by) => {
    const seen = (point) => {
      const [x, y] = toScreen(view, size, point);
      return x >= 0 && y >= 0 && x <= size.width && y <= size.height;
    };
    const order = points
      .map((_, i) => i)
      .filter((i) => seen(points[i]) && (!lit || lit.has(points[i].route)));
    order.sort((a, b) => points[a].x - points[b].x);
    if (order.length)
      setHovered(order[(order.indexOf(hovered) + by + order.length) % order.length]);
  };
  const move = (dx, dy) =>
    setView((v) => ({ ...v, x: v.x + (dx * 60) / v.scale, y: v.y + (dy * 60) / v.scale }));
  const actions = {
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, 1),
    ArrowDown: () => move(0, -1),
    "+": () => zoom(1.4),
    "=": () => zoom(1.4),
    "-": () => zoom(1 / 1.4),
    0: all,
    n: () => step(1),
    p: () => step(-1),
    Escape: () => setHovered(-1),
  };
  const keys = (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  };
  const point = points[hovered];
  return (
    <div class="plot" ref={box}>
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-label={`Map of ${count(points.length, "utterance")}: arrows move it, plus and minus zoom, n and p go from utterance to utterance`}
        onKeyDown={keys}
      />
      <div class="zoom">
        <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoom(1.6)}>
          +
        </button>
        <button
          type="button"
          aria-label="Zoom out"
          title="Zoom out (−)"
          onClick={() => zoom(1 / 1.6)}
        >
          −
        </button>
        <button type="button" aria-label="Show all" title="Show all (0)" onClick={all}>
          ⤢
        </button>
      </div>
      <Tip point={point} name={point && routes[point.route]} view={view} size={size} />
      <p class="unseen" role="status">
        {point ? `${routes[point.route]}: ${point.utterance}` : ""}
      </p>
    </div>
  );
}

/* ---- Beside it ---- */

function Legend({ map, chosen, onChoose, dark }) {
  const [words, setWords] = useState("");
  const sizes = useMemo(() => {
    const all = map.routes.map(() => 0);
    map.points.forEach((point) => (all[point.route] += 1));
    return all;
  }, [map]);
  const wanted = words.trim().toLowerCase();
  const found = map.routes
    .map((name, i) => [name, i])
    .filter(([name, i]) => sizes[i] > 0 && name.toLowerCase().includes(wanted));
  return (
    <section>
      <h2>Routes</h2>
      <SearchField label="Find a route" value={words} onInput={setWords} data-slash />
      <ul class="keys">
        {found.slice(0, 300).map(([name, i]) => (
          <li key={i}>
            <button type="button" aria-pressed={chosen.has(i)} onClick={() => onChoose(i)}>
              <i style={{ background: routeColour(i, dark) }} />
              <span class="name">{name}</span>
              <span class="soft number">{integer(sizes[i])}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

const pairOf = (finding) => `${finding.route}\n${finding.other_route}`;

function Overlaps({ lint, problem, pair, onPair }) {
  const overlaps = lint ? lint.findings.filter((finding) => finding.kind === "overlap") : [];
  return (
    <section>
      <h2>Overlaps {lint && <span class="soft number">{integer(lint.counts.overlap)}</span>}</h2>
      {problem && <Notice problem={problem} />}
      {!lint && !problem && <p class="soft">Comparing utterances…</p>}
      {lint && !overlaps.length && <p class="soft">No two routes take each other’s utterances.</p>}
      <ul class="overlaps">
        {overlaps.slice(0, 100).map((finding) => (
          <li key={pairOf(finding)}>
            <button
              type="button"
              aria-pressed={pair === pairOf(finding)}
              onClick={() => onPair(pair === pairOf(finding) ? null : pairOf(finding))}
            >
              <span class="name">
                <Name name={finding.route} />
                <br />
                <span class="soft">and</span> <Name name={finding.other_route} />
              </span>
              <span
                class="soft number"
                title={`${count(finding.count, "utterance")} nearest to the other route`}
              >
                {percent(finding.share, 0)}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/* What goes astray between two routes, in words. */
function Astray({ lost }) {
  return (
    <section>
      <h2>
        Nearer to the other route <span class="soft number">{integer(lost.length)}</span>
      </h2>
      {!lost.length && <p class="soft">None among those that lint lists.</p>}
      <ul class="astray">
        {lost.slice(0, 50).map((finding) => (
          <li key={finding.utterance}>
            <a href={`#/routes/${encodeURIComponent(finding.route)}`}>{finding.route}</a>
            <q>{shorten(finding.utterance, 120)}</q>
            <span class="soft"> is nearest to </span>
            <q>{shorten(finding.other_utterance || "", 120)}</q>
          </li>
        ))}
      </ul>
    </section>
  );
}

function useLinks(map, lost) {
  return useMemo(() => {
    if (!map || !lost.length) return [];
    const places = new Map(
      map.points.map((point) => [`${map.routes[point.route]}\n${point.utterance}`, point]),
    );
    return lost
      .map((one) => [
        places.get(`${one.route}\n${one.utterance}`),
        places.get(`${one.other_route}\n${one.other_utterance}`),
      ])
      .filter(([from, to]) => from && to);
  }, [map, lost]);
}

export function MapPage() {
  const version = useValue(changes);
  const dark = useValue(theme) === "dark";
  const {
    data: map,
    problem,
    again,
  } = useLoaded((signal) => get("/v1/map", { limit: MOST_POINTS }, signal), [version]);
  const { data: lint, problem: lintProblem } = useLoaded(
    (signal) => get("/v1/lint", { limit: 1000 }, signal),
    [version],
  );
  const [chosen, setChosen] = useState(new Set());
  const [pair, setPair] = useState(null);

  const lost = useMemo(() => {
    const here = (finding) =>
      finding.kind === "lost_utterance" &&
      pair &&
      [pairOf(finding), `${finding.other_route}\n${finding.route}`].includes(pair);
    return lint ? lint.findings.filter(here) : [];
  }, [lint, pair]);
  const links = useLinks(map, lost);
  const lit = useMemo(() => {
    if (!map) return null;
    if (pair) return new Set(pair.split("\n").map((name) => map.routes.indexOf(name)));
    return chosen.size ? chosen : null;
  }, [map, chosen, pair]);

  if (problem && !map) return <Notice problem={problem} retry={again} />;
  if (map && map.points.length < 3)
    return (
      <Empty icon="map" title="Too few utterances for a map">
        Three are needed, some dozens are worth looking at. Add them at{" "}
        <a href="#/routes">Routes</a>.
      </Empty>
    );
  const choose = (route) => {
    setPair(null);
    setChosen((now) => {
      const next = new Set(now);
      if (!next.delete(route)) next.add(route);
      return next;
    });
  };
  return (
    <div class="mapping">
      <header>
        <h1>Map</h1>
        {map && (
          <p class="soft">
            {map.points.length < map.total
              ? `${integer(map.points.length)} of ${count(map.total, "utterance")}`
              : count(map.total, "utterance")}{" "}
            by their two principal components, which hold{" "}
            {percent(map.explained[0] + map.explained[1], 0)} of what tells them apart
          </p>
        )}
        {lit && (
          <button type="button" class="quiet" onClick={() => (setPair(null), setChosen(new Set()))}>
            <Icon name="close" /> Show all routes
          </button>
        )}
      </header>
      {map ? <Plot map={map} links={links} lit={lit} dark={dark} /> : <div class="plot" />}
      <aside aria-label="Routes and overlaps on the map">
        {pair && <Astray lost={lost} />}
        <Overlaps lint={lint} problem={lintProblem} pair={pair} onPair={setPair} />
        {map && <Legend map={map} chosen={chosen} onChoose={choose} dark={dark} />}
      </aside>
    </div>
  );
}
