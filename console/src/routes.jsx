/*
 * Routes: all of them in a list that reads pages as it is scrolled and draws only what is in sight, so that
 * 50,000 are no burden; one of them beside it to edit. Every change can be undone.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api.js";
import { allowed, changes, report, toast, useValue, value } from "./store.js";
import { createRoute } from "./table.js";
import { RouteDetail } from "./route.jsx";
import { Dialog, Empty, IconButton, Notice, SearchField, integer } from "./ui.jsx";

const PAGE = 200;
const ROW = 52; /* pixels, as in the style sheet */
const SPARE = 8;

const search = value("");

const go = (name) => (location.hash = name ? `#/routes/${encodeURIComponent(name)}` : "#/routes");

/*
 * The matching routes as far as they have been read: { rows, count, exact, total, problem, more(upTo) }. How many
 * match is not known before a search has been read to its end; until then there is at least one more.
 */
function useRoutes(words, version) {
  const empty = { rows: [], count: null, exact: true, total: null, cursor: null, problem: null };
  const [list, setList] = useState(empty);
  const run = useRef(null);

  const read = async (here, upTo) => {
    if (here.busy || (here.list.count !== null && !here.list.cursor)) return;
    here.busy = true;
    try {
      do {
        const limit = upTo - here.list.rows.length > PAGE ? 1000 : PAGE;
        const page = await get(
          "/v1/routes",
          { search: words, limit, cursor: here.list.cursor },
          here.stop.signal,
        );
        const rows = [...here.list.rows, ...page.routes];
        const { matching, total, cursor } = page;
        const exact = matching !== null || !cursor;
        const count = matching ?? rows.length + (cursor ? 1 : 0);
        here.list = { rows, count, exact, total, cursor, problem: null };
        setList(here.list);
      } while (here.list.cursor && here.list.rows.length < upTo);
    } catch (problem) {
      if (problem.name !== "AbortError") setList((now) => ({ ...now, problem }));
    }
    here.busy = false;
  };

  useEffect(() => {
    const here = (run.current = { stop: new AbortController(), list: empty, busy: false });
    const timer = setTimeout(() => read(here, 1), words ? 150 : 0);
    return () => (clearTimeout(timer), here.stop.abort());
  }, [words, version]);
  return { ...list, more: (upTo) => upTo > list.rows.length && read(run.current, upTo) };
}

function Row({ row, index, current, count }) {
  return (
    <li style={{ top: `${index * ROW}px` }} aria-setsize={count} aria-posinset={index + 1}>
      {row ? (
        <a
          href={`#/routes/${encodeURIComponent(row.route)}`}
          aria-current={row.route === current ? "true" : undefined}
          data-index={index}
        >
          <span class="name">{row.route}</span>
          <span class="number soft" title="Utterances">
            {integer(row.utterance_count)}
          </span>
          <span class="description soft">{row.description || ""}</span>
        </a>
      ) : (
        <span class="waiting" />
      )}
    </li>
  );
}

function List({ list, current }) {
  const box = useRef();
  const [view, setView] = useState({ top: 0, height: 800 });
  useEffect(() => {
    const list = box.current;
    const look = () => setView({ top: list.scrollTop, height: list.clientHeight });
    const watch = new ResizeObserver(look);
    watch.observe(list);
    list.addEventListener("scroll", look, { passive: true });
    return () => watch.disconnect();
  }, []);
  const count = list.count ?? 0;
  const from = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const to = Math.min(count, Math.ceil((view.top + view.height) / ROW) + SPARE);
  useEffect(() => {
    list.more(list.exact ? Math.min(count, to + PAGE / 2) : to + PAGE / 2);
  });

  /* Arrow keys go from row to row, which may not be drawn yet. */
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -count, End: count }[
      event.key
    ];
    const at = event.target.dataset?.index;
    if (!step || at === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.min(count, list.rows.length) - 1, Math.max(0, Number(at) + step));
    const top = next * ROW;
    if (top < box.current.scrollTop) box.current.scrollTop = top;
    if (top + ROW > box.current.scrollTop + box.current.clientHeight)
      box.current.scrollTop = top + ROW - box.current.clientHeight;
    const focus = () =>
      box.current?.querySelector(`[data-index="${next}"]`)?.focus({ preventScroll: true });
    requestAnimationFrame(() => requestAnimationFrame(focus));
  };
  const rows = [];
  for (let i = from; i < to; i++)
    rows.push(<Row key={i} row={list.rows[i]} index={i} current={current} count={count} />);
  return (
    <div class="scroller" ref={box} onKeyDown={keys} tabIndex={-1}>
      <ul style={{ height: `${count * ROW}px` }} aria-label="Routes">
        {rows}
      </ul>
    </div>
  );
}

function NewRoute({ onClose }) {
  const [name, setName] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      await createRoute(name.trim());
      onClose();
      go(name.trim());
    } catch (error) {
      if (error.status === 412) toast(`${name.trim()} is there already.`, { kind: "error" });
      else report(error, "Could not make it");
    }
  };
  return (
    <Dialog title="New route" onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <label>
          Name
          <input
            value={name}
            autofocus
            required
            maxLength={512}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setName(event.target.value)}
          />
        </label>
        <p class="soft small">
          It is decided for once it has utterances; about ten, put differently, are a good start.
        </p>
        <button class="primary" disabled={!name.trim()}>
          Make it
        </button>
      </form>
    </Dialog>
  );
}

const said = (list, words) => {
  if (list.count === null) return "Reading…";
  if (!words) return `${integer(list.total)} routes`;
  return `${list.exact ? "" : "at least "}${integer(list.count)} of ${integer(list.total)}`;
};

function Nothing({ list, words }) {
  if (words && list.total > 0)
    return (
      <Empty icon="search" title="No route like that">
        Names and descriptions are searched. Clear the search to see all {integer(list.total)}.
      </Empty>
    );
  return (
    <Empty icon="routes" title="No routes yet">
      Make one with the button above, or import a file: <code>synaptoroute import FILE</code>.
    </Empty>
  );
}

export function RoutesPage({ rest: current }) {
  const words = useValue(search);
  const version = useValue(changes);
  const list = useRoutes(words.trim(), version);
  const [making, setMaking] = useState(false);
  return (
    <div class={current ? "routes chosen" : "routes"}>
      <section class="browse" aria-label="All routes">
        <header>
          <h1>Routes</h1>
          <span class="soft number" role="status">
            {said(list, words.trim())}
          </span>
          {allowed("write") && (
            <IconButton icon="plus" label="New route" onClick={() => setMaking(true)} />
          )}
        </header>
        <SearchField label="Search routes" value={words} onInput={search.set} data-slash />
        {list.problem && <Notice problem={list.problem} />}
        {list.count === 0 ? (
          <Nothing list={list} words={words.trim()} />
        ) : (
          <List key={words} list={list} current={current} />
        )}
      </section>
      <section class="detail" aria-label="The chosen route">
        {current ? (
          <RouteDetail key={current} name={current} onGone={() => go(null)} />
        ) : (
          <Empty icon="edit" title="Choose a route">
            Its utterances, threshold and description can be edited here. What you delete or change
            can be undone.
          </Empty>
        )}
      </section>
      {making && <NewRoute onClose={() => setMaking(false)} />}
    </div>
  );
}
