/*
 * The fit of the table: how old it is, and a button to make it anew. What it found out about itself is shown until
 * the page is closed.
 */
import { stream } from "./api.js";
import { refreshInfo, report, session, useValue, value } from "./store.js";
import { count } from "./table.js";
import { integer, percent } from "./ui.jsx";

/* Share from 0 to 1 while one runs, or null; result: the report of the last one. */
const state = value({ done: null, result: null });
const update = (part) => state.set((now) => ({ ...now, ...part }));

async function run() {
  update({ done: 0 });
  try {
    await stream("/v1/fit", { body: {} }, (message) => {
      if (message.report) update({ result: message.report });
      else update({ done: message.done / message.total });
    });
    refreshInfo();
  } catch (error) {
    report(error, "Could not fit");
  }
  update({ done: null });
}

function age({ fit, fit_revision: revision, fit_pending: pending, no_heads: why }) {
  if (fit === "none") return "Never fitted: the nearest utterance decides.";
  const since = pending
    ? `${count(pending, "route")} changed since: there the nearest utterance decides.`
    : "No route has changed since.";
  const what =
    fit === "heads" ? "Trained heads" : `The nearest utterance decides${why ? `: ${why}` : ""}`;
  return `${what}, fitted to revision ${integer(revision)}. ${since}`;
}

const found = ({ accuracy, fast_share: share }) =>
  `On texts held out ${percent(accuracy.auto)} right, by the nearest utterance ${percent(accuracy.neighbours)}; ` +
  `the fast path answers ${percent(share, 0)}.`;

export function Fit() {
  const info = useValue(session).info;
  const { done, result } = useValue(state);
  return (
    <section class="card fit">
      <div>
        <h2>Fit</h2>
        <p class="soft">{age(info)}</p>
        {result && <p role="status">{found(result)}</p>}
      </div>
      {done === null ? (
        <button type="button" onClick={run}>
          Fit again
        </button>
      ) : (
        <progress value={done} aria-label="Fitting" />
      )}
    </section>
  );
}
