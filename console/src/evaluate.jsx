/*
 * Evaluate: a file of labelled texts is sent to the server, which decides them and streams how far it is; the
 * report has figures, the confusion matrix, and the failing rows of the cell that is chosen.
 */
import { useMemo, useRef, useState } from "preact/hooks";
import { stream } from "./api.js";
import { Fit } from "./fit.jsx";
import { Matrix, NONE } from "./matrix.jsx";
import { allowed, useValue, value } from "./store.js";
import { Choice, Icon, Notice, SearchField, cosine, duration, integer, percent } from "./ui.jsx";

const FAILURES = 100;

/* Kept while other pages are looked at. */
const state = value({
  file: null,
  columns: [],
  text: "text",
  route: "route",
  path: "auto",
  progress: null,
  outcome: null,
  problem: null,
});
const update = (part) => state.set((now) => ({ ...now, ...part }));
let stop = null;

/* ---- The file ---- */

const isCsv = (file) =>
  /\.csv$/i.test(file.name) || (!/\.(jsonl|ndjson)$/i.test(file.name) && file.type === "text/csv");

/* The first record of a CSV file: fields may be quoted, and hold commas and doubled quotes. */
function csvHeader(text) {
  const fields = [];
  const field = /(?:^|,)(?:"((?:[^"]|"")*)"|([^",\r\n]*))/gy;
  for (let match = field.exec(text); match; match = field.exec(text)) {
    fields.push((match[1]?.replaceAll('""', '"') ?? match[2]).trim());
    if (field.lastIndex >= text.length || "\r\n".includes(text[field.lastIndex])) break;
    if (text[field.lastIndex] !== ",") break;
  }
  return fields;
}

async function columnsOf(file) {
  const head = (await file.slice(0, 65536).text()).replace(/^\uFEFF/, "");
  if (isCsv(file)) return csvHeader(head);
  try {
    return Object.keys(JSON.parse(head.split("\n", 1)[0]));
  } catch {
    return [];
  }
}

async function choose(file) {
  if (!file) return;
  const columns = await columnsOf(file);
  const pick = (names, otherwise) =>
    names.find((name) => columns.includes(name)) || columns[otherwise] || names[0];
  const text = pick(["text", "utterance", "query", "sentence"], 0);
  const route = pick(["route", "label", "intent", "category", "expected"], 1);
  update({ file, columns, text, route, problem: null });
}

/* ---- The run ---- */

async function run() {
  const { file, text, route, path } = state.get();
  stop = new AbortController();
  update({ progress: { done: 0, total: 0 }, problem: null });
  try {
    const csv = isCsv(file);
    const query = { format: csv ? "csv" : "jsonl", path, text_column: text, route_column: route };
    const type = csv ? "text/csv" : "application/x-ndjson";
    let outcome = null;
    await stream("/v1/eval", { query, body: file, type, signal: stop.signal }, (message) => {
      if (message.report) outcome = message;
      else update({ progress: message });
    });
    if (!outcome) throw new Error("The answer ended before the report.");
    update({ outcome: { ...outcome, name: file.name }, progress: null });
  } catch (problem) {
    update({ progress: null, problem: problem.name === "AbortError" ? null : problem });
  }
}

function Column({ label, value: chosen, columns, onChange }) {
  return (
    <label class="inline">
      {label}
      {columns.length ? (
        <select value={chosen} onChange={(event) => onChange(event.target.value)}>
          {columns.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      ) : (
        <input value={chosen} onInput={(event) => onChange(event.target.value)} />
      )}
    </label>
  );
}

function Chooser() {
  const { file, columns, text, route, path, progress } = useValue(state);
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    choose(event.dataTransfer.files[0]);
  };
  return (
    <form
      class="card chooser"
      onSubmit={(event) => (event.preventDefault(), run())}
      onDragOver={(event) => (event.preventDefault(), setOver(true))}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <label class={over ? "drop over" : "drop"}>
        <Icon name="file" />
        <span>
          <b>{file ? file.name : "Choose a file of labelled texts, or drop one here"}</b>
          <span class="soft">
            {file
              ? `${integer(Math.ceil(file.size / 1024))} kB`
              : "CSV with a header, or JSON Lines; the route “oos” means none"}
          </span>
        </span>
        <input
          class="unseen"
          type="file"
          accept=".csv,.jsonl,.ndjson,text/csv,application/x-ndjson"
          onChange={(event) => choose(event.target.files[0])}
          data-slash
        />
      </label>
      {file && (
        <div class="row">
          <Column
            label="Text"
            value={text}
            columns={columns}
            onChange={(next) => update({ text: next })}
          />
          <Column
            label="Route"
            value={route}
            columns={columns}
            onChange={(next) => update({ route: next })}
          />
          <Choice
            label="Path"
            name="eval-path"
            value={path}
            onChange={(next) => update({ path: next })}
            options={[
              ["auto", "auto"],
              ["fast", "fast"],
              ["slow", "slow"],
            ]}
          />
          {/* Keyed: as one element, the click that stops would submit what it had become. */}
          {progress ? (
            <button key="stop" type="button" onClick={() => stop.abort()}>
              Stop
            </button>
          ) : (
            <button key="run" class="primary">
              Evaluate
            </button>
          )}
        </div>
      )}
      {progress && (
        <div class="progress">
          <progress max={progress.total || 1} value={progress.done} aria-label="Texts decided" />
          <span class="soft number">
            {progress.total
              ? `${integer(progress.done)} of ${integer(progress.total)}`
              : "Sending…"}
          </span>
        </div>
      )}
    </form>
  );
}

/* ---- The report ---- */

function Figures({ report }) {
  const figures = [
    [
      "Accuracy",
      percent(report.accuracy),
      "right, rejections of texts that belong nowhere included",
    ],
    ["In scope", percent(report.in_scope_accuracy), "of the texts that have a route"],
    ["Among the best 3", percent(report.top3), "whose route is a candidate"],
    ["Macro F1", percent(report.macro_f1), "mean over the labels"],
    ["Out of scope found", percent(report.oos_recall), "of the texts that belong nowhere"],
    ["AUROC", cosine(report.oos_auroc), "in scope against out of scope"],
    ["Calibration error", percent(report.ece), "expected, in 15 bins"],
    ["By the fast path", percent(report.fast_share, 0), "of all texts"],
    [
      "Texts per second",
      integer(report.queries_per_second),
      `${integer(report.n)} in ${duration(report.seconds * 1e9)}`,
    ],
  ];
  return (
    <dl class="tiles wide">
      {figures.map(([name, text, what]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{text}</dd>
          <dd class="soft small">{what}</dd>
        </div>
      ))}
    </dl>
  );
}

function Failure({ row }) {
  return (
    <li>
      <details>
        <summary>
          <span class="text">{row.text}</span>
          <span class="pair">
            {row.expected || NONE} <span class="soft">taken for</span>{" "}
            <span class="wrong">{row.predicted || NONE}</span>
          </span>
          <span class="number soft">{percent(row.confidence, 0)}</span>
        </summary>
        <p class="soft small">
          {row.reason.replaceAll("_", " ")}, {row.path} path
        </p>
        <ol>
          {row.candidates.map((one) => (
            <li key={one.route}>
              <a href={`#/routes/${encodeURIComponent(one.route)}`}>{one.route}</a>{" "}
              <span class="number">{percent(one.confidence)}</span>{" "}
              {one.utterance && <q class="soft">{one.utterance}</q>}
            </li>
          ))}
        </ol>
      </details>
    </li>
  );
}

function Failures({ outcome, cell, onCell }) {
  const [words, setWords] = useState("");
  const [shown, setShown] = useState(FAILURES);
  const wanted = words.trim().toLowerCase();
  const found = outcome.failures.filter(
    (row) =>
      (!cell ||
        ((row.expected || NONE) === cell.expected && (row.predicted || NONE) === cell.predicted)) &&
      (!wanted || `${row.text} ${row.expected} ${row.predicted}`.toLowerCase().includes(wanted)),
  );
  return (
    <section class="card failures" id="failures">
      <header>
        <h2>
          Failing rows <span class="soft number">{integer(found.length)}</span>
        </h2>
        <SearchField label="Search failing rows" value={words} onInput={setWords} />
      </header>
      {cell && (
        <p class="filter">
          {cell.expected} taken for {cell.predicted}
          <button type="button" class="quiet" onClick={() => onCell(null)}>
            Show all
          </button>
        </p>
      )}
      {outcome.failure_count > outcome.failures.length && (
        <p class="soft small">
          The server keeps {integer(outcome.failures.length)} of {integer(outcome.failure_count)}{" "}
          failing rows.
        </p>
      )}
      {found.length === 0 && (
        <p class="soft">
          {outcome.failure_count ? "None like that." : "Every text was decided rightly."}
        </p>
      )}
      <ul>
        {found.slice(0, shown).map((row, i) => (
          <Failure key={`${i} ${row.text}`} row={row} />
        ))}
      </ul>
      {found.length > shown && (
        <button type="button" onClick={() => setShown(shown + 5 * FAILURES)}>
          Show more
        </button>
      )}
    </section>
  );
}

function Report({ outcome }) {
  const [cell, setCell] = useState(null);
  const failures = useRef();
  const pick = (next) => {
    setCell(next);
    failures.current.scrollIntoView({
      block: "start",
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
  };
  const title = useMemo(() => `Report on ${outcome.name}`, [outcome]);
  return (
    <section class="report" aria-label={title}>
      <h2>{title}</h2>
      <Figures report={outcome.report} />
      <Matrix outcome={outcome} cell={cell} onCell={pick} />
      <div ref={failures}>
        <Failures key={outcome.name} outcome={outcome} cell={cell} onCell={setCell} />
      </div>
    </section>
  );
}

export function EvaluatePage() {
  const { outcome, problem } = useValue(state);
  return (
    <>
      <header class="heading">
        <h1>Evaluate</h1>
        <p class="soft">How well labelled texts are decided by the table as it is now</p>
      </header>
      {allowed("admin") ? (
        <>
          <Fit />
          <Chooser />
        </>
      ) : (
        <Notice
          problem={{
            title: "Not with this key",
            detail: "An evaluation needs a key with the role admin.",
          }}
        />
      )}
      {problem && <Notice problem={problem} />}
      {outcome && <Report outcome={outcome} />}
    </>
  );
}
