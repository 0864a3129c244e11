/*
 * Try: a text, its decision and why: candidates with their best utterance, margin, path, where the time went.
 * A text can be added to a route on the spot; it is then decided again, and the page says what has changed.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post } from "./api.js";
import { allowed, changes, report, session, toast, useValue, value } from "./store.js";
import { addUtterances } from "./table.js";
import {
  Choice,
  Dialog,
  Empty,
  GrowingText,
  Icon,
  IconButton,
  Name,
  Notice,
  SearchField,
  cosine,
  duration,
  integer,
  percent,
} from "./ui.jsx";

const KEPT = "synaptoroute.history";
const HISTORY = 50;

const stored = () => {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) || [];
  } catch {
    return [];
  }
};

/* Kept while other pages are looked at; the history as long as the tab. */
const state = value({
  text: "",
  path: "auto",
  topK: 5,
  reject: true,
  result: null,
  before: null,
  problem: null,
  busy: false,
});
const history = value(stored());
history.subscribe((all) => sessionStorage.setItem(KEPT, JSON.stringify(all)));

const update = (part) => state.set((now) => ({ ...now, ...part }));
const answer = (decision) => (decision.status === "matched" ? decision.route : null);

function remember(decision) {
  const entry = {
    text: decision.text,
    route: answer(decision),
    confidence: decision.confidence,
    at: Date.now(),
  };
  history.set((all) => [entry, ...all.filter((one) => one.text !== entry.text)].slice(0, HISTORY));
}

let running = null;

async function route(text = state.get().text) {
  if (!text.trim()) return;
  running?.abort();
  const stop = (running = new AbortController());
  const { path, topK, reject, result } = state.get();
  update({ text, busy: true, problem: null });
  const started = performance.now();
  try {
    const decision = await post(
      "/v1/route",
      { text, path, top_k: topK, reject, timings: true },
      stop.signal,
    );
    const seen = (performance.now() - started) * 1e6;
    const before =
      result?.text === decision.text && result.revision !== decision.revision ? result : null;
    update({ result: { ...decision, seen }, before, busy: false });
    remember(decision);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    update({ busy: false, problem: problem.status === 401 ? null : problem });
  }
}

/* ---- The text ---- */

function Ask() {
  const { text, path, topK, reject, busy } = useValue(state);
  const submit = (event) => {
    event.preventDefault();
    route();
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return (
    <form class="ask card" onSubmit={submit}>
      <label class="unseen" for="text">
        Text to route
      </label>
      <GrowingText
        id="text"
        data-slash
        value={text}
        placeholder="What would somebody say?"
        onInput={(next) => update({ text: next })}
        onKeyDown={keys}
        maxLength={100000}
      />
      <div class="row">
        <Choice
          label="Path"
          name="path"
          value={path}
          onChange={(next) => update({ path: next })}
          options={[
            ["auto", "auto", "The fast path where it is sure, the slow one otherwise"],
            ["fast", "fast", "Static vectors and n-grams alone"],
            ["slow", "slow", "The transformer"],
          ]}
        />
        <label class="inline">
          Candidates
          <input
            type="number"
            min="1"
            max="50"
            value={topK}
            onChange={(event) =>
              update({ topK: Math.min(50, Math.max(1, Number(event.target.value) || 5)) })
            }
          />
        </label>
        <label class="inline">
          <input
            type="checkbox"
            checked={reject}
            onChange={(event) => update({ reject: event.target.checked })}
          />
          May reject
        </label>
        <button class="primary" disabled={!text.trim()} aria-busy={busy}>
          Route
        </button>
      </div>
    </form>
  );
}

/* ---- The decision ---- */

const reasons = {
  empty_table: "The table has no utterances yet.",
  empty_text: "The text is blank.",
};

function why(decision) {
  const [first, second] = decision.candidates;
  if (decision.reason === "below_threshold" && first)
    return `The best candidate, ${first.route}, is below its threshold: ${percent(first.confidence, 0)} sure.`;
  if (decision.reason === "ambiguous" && second)
    return `${first.route} and ${second.route} are too close to each other.`;
  if (decision.status !== "matched")
    return reasons[decision.reason] || decision.reason.replaceAll("_", " ");
  if (!first) return "Accepted.";
  const sure = `${percent(first.confidence, 0)} sure`;
  return second
    ? `${sure}; the next best is ${second.route} with ${percent(second.confidence, 0)}.`
    : `${sure}.`;
}

function Change({ before, result }) {
  if (!before || answer(before) === answer(result)) return null;
  return (
    <p class="change">
      Was <b>{answer(before) || "no route"}</b> at revision {integer(before.revision)}, is now{" "}
      <b>{answer(result) || "no route"}</b>.
    </p>
  );
}

function Facts({ result }) {
  const facts = [
    ["Path", result.path],
    ["Confidence", percent(result.confidence)],
    ["Cosine", cosine(result.score)],
    ["Margin", cosine(result.margin)],
    ["Decided by", result.fitted === false ? "neighbours" : "trained heads"],
    ["Revision", integer(result.revision)],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

function Candidates({ result, onAdd }) {
  const may = allowed("write");
  if (!result.candidates.length && !may) return null;
  return (
    <section class="card">
      <h2>{result.candidates.length ? "Candidates" : "No candidates"}</h2>
      <ol class="candidates">
        {result.candidates.map((one, i) => (
          <li key={one.route} class={i === 0 && result.status === "matched" ? "best" : ""}>
            <div class="candidate">
              <a href={`#/routes/${encodeURIComponent(one.route)}`}>
                <Name name={one.route} />
              </a>
              <span class="figures">
                <span title="Confidence">{percent(one.confidence)}</span>
                {one.score !== null && (
                  <span class="soft" title="Cosine of the best utterance">
                    cos {cosine(one.score)}
                  </span>
                )}
              </span>
            </div>
            <div class="bar" aria-hidden="true">
              <i style={{ width: `${Math.max(0, Math.min(1, one.confidence ?? 0)) * 100}%` }} />
            </div>
            <div class="nearest">
              <q>{one.utterance || "no utterance"}</q>
              {may && (
                <IconButton
                  icon="plus"
                  label={`Add the text to ${one.route}`}
                  onClick={() => onAdd(one.route)}
                />
              )}
            </div>
          </li>
        ))}
      </ol>
      {may && (
        <button type="button" onClick={() => onAdd(null)}>
          <Icon name="plus" /> Add to a route…
        </button>
      )}
    </section>
  );
}

/* ---- Where the time went ---- */

const steps = [
  ["queue", "Waiting in the queue"],
  ["fast", "Fast path"],
  ["encode", "Encoding"],
  ["search", "Search"],
  ["decide", "Deciding"],
];

function Times({ result }) {
  const times = result.timings_ns;
  if (!times) return null;
  const spent = steps
    .map(([id, name]) => ({ id, name, ns: times[id] ?? 0 }))
    .filter((step) => step.ns > 0);
  const sum = spent.reduce((total, step) => total + step.ns, 0) || 1;
  return (
    <section class="card">
      <h2>
        Where the time went <span class="soft">{duration(times.total ?? sum)}</span>
      </h2>
      {spent.length > 0 && (
        <div class="times" aria-hidden="true">
          {spent.map((step) => (
            <i key={step.id} class={`step-${step.id}`} style={{ flexGrow: step.ns / sum }} />
          ))}
        </div>
      )}
      <dl class="legend">
        {spent.map((step) => (
          <div key={step.id}>
            <dt>
              <i class={`step-${step.id}`} />
              {step.name}
            </dt>
            <dd>{duration(step.ns)}</dd>
          </div>
        ))}
        <div>
          <dt>
            <i />
            Seen from this page
          </dt>
          <dd>{duration(result.seen)}</dd>
        </div>
      </dl>
      {result.batch?.texts > 1 && (
        <p class="soft small">
          In a batch of {integer(result.batch.texts)} texts, {integer(result.batch.tokens)} tokens.
        </p>
      )}
    </section>
  );
}

/* ---- Adding to a route ---- */

function AddDialog({ text, candidates, onClose, onAdd }) {
  const [name, setName] = useState("");
  const [found, setFound] = useState(candidates);
  useEffect(() => {
    if (!name) {
      setFound(candidates);
      return undefined;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const page = await get("/v1/routes", { search: name, limit: 8 }, stop.signal);
        setFound(page.routes.map((one) => one.route));
      } catch (error) {
        report(error);
      }
    }, 120);
    return () => (clearTimeout(timer), stop.abort());
  }, [name]);
  const trimmed = name.trim();
  return (
    <Dialog title="Add as an utterance" onClose={onClose}>
      <blockquote>{text}</blockquote>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (trimmed) onAdd(trimmed);
        }}
      >
        <SearchField label="Route, there or new" value={name} onInput={setName} autofocus />
        <ul class="picks">
          {found.map((route) => (
            <li key={route}>
              <button type="button" onClick={() => onAdd(route)}>
                {route}
              </button>
            </li>
          ))}
          {trimmed && !found.includes(trimmed) && (
            <li>
              <button>
                Make a new route <b>{trimmed}</b>
              </button>
            </li>
          )}
        </ul>
      </form>
    </Dialog>
  );
}

/* ---- History ---- */

const time = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

function History() {
  const all = useValue(history);
  if (!all.length) return null;
  return (
    <section class="history">
      <header>
        <h2>History</h2>
        <button type="button" class="quiet" onClick={() => history.set([])}>
          Clear
        </button>
      </header>
      <ol>
        {all.map((one) => (
          <li key={one.text}>
            <button type="button" onClick={() => route(one.text)} title="Route it again">
              <span class="text">{one.text}</span>
              <span class={one.route ? "to" : "to none"}>{one.route || "no route"}</span>
              <span class="soft number">{percent(one.confidence, 0)}</span>
              <time class="soft number" dateTime={new Date(one.at).toISOString()}>
                {time.format(one.at)}
              </time>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

const Start = () => {
  const info = useValue(session).info;
  if (info?.routes === 0)
    return (
      <Empty icon="routes" title="The table is empty">
        Type a text, route it and add it to a new route; or import a file:{" "}
        <code>synaptoroute import FILE</code>.
      </Empty>
    );
  return (
    <Empty icon="try" title="Type a text and press Enter">
      You will see which route it goes to, how sure the router is, which utterances speak for it,
      and where the time went.
    </Empty>
  );
};

export function TryPage() {
  const { text, result, before, problem, busy } = useValue(state);
  const [adding, setAdding] = useState(false);
  const made = useValue(changes);
  const madeAtFirst = useRef(made);

  /* The table has changed here, or a change was undone: the same text may be decided otherwise now. */
  useEffect(() => {
    if (made !== madeAtFirst.current && state.get().result) route(state.get().result.text);
    madeAtFirst.current = made;
  }, [made]);

  const add = async (name) => {
    setAdding(false);
    try {
      const added = await addUtterances(name, [result.text]);
      if (!added.length) toast(`${name} has this utterance already.`);
    } catch (error) {
      report(error, "Could not add it");
    }
  };
  return (
    <>
      <h1 class="unseen">Try a text</h1>
      <Ask />
      {problem && <Notice problem={problem} retry={() => route(text)} />}
      {!result && !problem && <Start />}
      {result && (
        <div class="answer" aria-busy={busy}>
          <section class={`card decision ${result.status}`} aria-live="polite">
            <p class="asked">
              <q>{result.text}</q>
              {result.read_as && <span class="soft"> read as “{result.read_as}”</span>}
            </p>
            <p class="verdict">
              <Name name={answer(result) || "No route"} />
            </p>
            <p class="soft">{why(result)}</p>
            <Change before={before} result={result} />
            {result.truncated && (
              <p class="wrong">The text is longer than the model reads: its end was left out.</p>
            )}
            <Facts result={result} />
          </section>
          <Candidates result={result} onAdd={(name) => (name ? add(name) : setAdding(true))} />
          <Times result={result} />
        </div>
      )}
      <History />
      {adding && (
        <AddDialog
          text={result.text}
          candidates={result.candidates.map((one) => one.route)}
          onClose={() => setAdding(false)}
          onAdd={add}
        />
      )}
    </>
  );
}
