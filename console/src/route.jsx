/*
 * One route: its description, threshold, metadata and utterances, each saved as soon as it is finished with.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { allowed, changes, report, toast, useValue } from "./store.js";
import {
  addUtterances,
  count,
  editRoute,
  readRoute,
  removeRoute,
  removeUtterances,
  shorten,
} from "./table.js";
import {
  Choice,
  Empty,
  GrowingText,
  Icon,
  IconButton,
  Name,
  Notice,
  SearchField,
  integer,
  useLoaded,
} from "./ui.jsx";

const SHOWN = 200;

async function save(route, change, label) {
  try {
    await editRoute(route.route, change, label);
  } catch (error) {
    report(error, "Could not save");
    changes.set((n) => n + 1);
  }
}

/* ---- Settings ---- */

function Description({ route, may }) {
  const [text, setText] = useState(route.description);
  useEffect(() => setText(route.description), [route]);
  const leave = () =>
    text !== route.description &&
    save(route, () => ({ description: text }), `Described ${route.route}`);
  return (
    <label>
      Description
      <GrowingText
        value={text}
        readOnly={!may}
        placeholder="What it is for. It counts as one more example."
        onInput={setText}
        onBlur={leave}
      />
    </label>
  );
}

const kindOf = (route) =>
  route.threshold !== undefined
    ? "threshold"
    : route.confidence !== undefined
      ? "confidence"
      : "auto";
const bounds = { threshold: [-1, 1, 0.6], confidence: [0, 1, 0.5] };

function Threshold({ route, may }) {
  const kind = kindOf(route);
  const [text, setText] = useState(String(route[kind] ?? ""));
  useEffect(() => setText(String(route[kind] ?? "")), [route]);
  const set = (nextKind, number) => {
    const none = { threshold: undefined, confidence: undefined };
    const next = nextKind === "auto" ? none : { ...none, [nextKind]: number };
    const name =
      nextKind === "auto"
        ? "automatic"
        : `${nextKind === "threshold" ? "cosine" : "confidence"} ${number}`;
    save(route, () => next, `Threshold of ${route.route}: ${name}`);
  };
  const leave = () => {
    const number = Number(text);
    const [least, most] = bounds[kind];
    if (text.trim() === "" || Number.isNaN(number) || number < least || number > most) {
      toast(`A threshold of this kind lies between ${least} and ${most}.`, { kind: "error" });
      setText(String(route[kind]));
    } else if (number !== route[kind]) set(kind, number);
  };
  const help = {
    auto: "Fitted with the table; cosine 0.60 until there is a fit.",
    threshold: "Compared with the cosine of the best utterance.",
    confidence: "Compared with the calibrated confidence of the decision.",
  };
  return (
    <div class="threshold">
      <span class="label">Threshold</span>
      <div class="row">
        <fieldset disabled={!may} class="bare">
          <Choice
            label="Kind of threshold"
            name="threshold"
            value={kind}
            onChange={(next) => set(next, next === "auto" ? null : bounds[next][2])}
            options={[
              ["auto", "auto"],
              ["threshold", "cosine"],
              ["confidence", "confidence"],
            ]}
          />
        </fieldset>
        {kind !== "auto" && (
          <input
            type="number"
            step="0.01"
            min={bounds[kind][0]}
            max={bounds[kind][1]}
            aria-label={kind === "threshold" ? "Cosine" : "Confidence"}
            value={text}
            readOnly={!may}
            onInput={(event) => setText(event.target.value)}
            onBlur={leave}
            onKeyDown={(event) => event.key === "Enter" && event.target.blur()}
          />
        )}
      </div>
      <p class="soft small">{help[kind]}</p>
    </div>
  );
}

function Metadata({ route, may }) {
  const shown =
    route.metadata === undefined || route.metadata === null
      ? ""
      : JSON.stringify(route.metadata, null, 2);
  const [text, setText] = useState(shown);
  useEffect(() => setText(shown), [route]);
  const leave = () => {
    if (text === shown) return;
    try {
      const metadata = text.trim() ? JSON.parse(text) : undefined;
      save(route, () => ({ metadata }), `Metadata of ${route.route}`);
    } catch (error) {
      toast(`The metadata are not JSON: ${error.message}`, { kind: "error" });
    }
  };
  return (
    <details>
      <summary>
        Metadata{" "}
        <span class="soft">{shown ? shorten(JSON.stringify(route.metadata), 60) : "none"}</span>
      </summary>
      <GrowingText
        class="code"
        aria-label="Metadata as JSON"
        value={text}
        readOnly={!may}
        spellcheck={false}
        onInput={setText}
        onBlur={leave}
      />
    </details>
  );
}

/* ---- Utterances ---- */

function Utterance({ route, text, may }) {
  const [draft, setDraft] = useState(null);
  /* Once: a field that goes away loses the focus, which would finish it again. */
  const open = useRef(false);
  const edit = () => {
    open.current = true;
    setDraft(text);
  };
  const finish = (keep) => {
    if (!open.current) return;
    open.current = false;
    const next = draft.trim();
    setDraft(null);
    if (!keep || !next || next === text) return;
    if (route.utterances.includes(next)) {
      toast("The route has this utterance already.", { kind: "error" });
      return;
    }
    const replaced = (now) => now.utterances.map((one) => (one === text ? next : one));
    const label = `Changed “${shorten(text)}” to “${shorten(next)}”`;
    save(route, (now) => ({ utterances: replaced(now) }), label);
  };
  const remove = () =>
    removeUtterances(route.route, [text]).catch((error) => report(error, "Could not delete it"));
  if (draft !== null)
    return (
      <li class="editing">
        <GrowingText
          value={draft}
          aria-label="Utterance"
          onInput={setDraft}
          onBlur={() => finish(true)}
          autofocus
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey) (event.preventDefault(), finish(true));
            if (event.key === "Escape") finish(false);
          }}
        />
      </li>
    );
  return (
    <li>
      <span class="text">{text}</span>
      {may && (
        <span class="buttons">
          <IconButton icon="edit" label={`Edit “${shorten(text)}”`} onClick={edit} />
          <IconButton icon="trash" label={`Delete “${shorten(text)}”`} onClick={remove} />
        </span>
      )}
    </li>
  );
}

function AddUtterances({ route }) {
  const [text, setText] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const texts = text
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
    if (!texts.length) return;
    try {
      const added = await addUtterances(route.route, texts);
      const there = texts.length - added.length;
      if (there)
        toast(
          `${count(there, "utterance")} of these ${there === 1 ? "was" : "were"} there already.`,
        );
      setText("");
    } catch (error) {
      report(error, "Could not add");
    }
  };
  return (
    <form class="adder" onSubmit={submit}>
      <GrowingText
        value={text}
        aria-label="New utterances, one on each line"
        placeholder="Add an utterance; paste lines to add several"
        onInput={setText}
        onKeyDown={(event) =>
          event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event)
        }
      />
      <button disabled={!text.trim()}>
        <Icon name="plus" /> Add
      </button>
    </form>
  );
}

function Utterances({ route, may }) {
  const [words, setWords] = useState("");
  const [shown, setShown] = useState(SHOWN);
  const wanted = words.trim().toLowerCase();
  const found = wanted
    ? route.utterances.filter((text) => text.toLowerCase().includes(wanted))
    : route.utterances;
  return (
    <section class="utterances">
      <header>
        <h3>
          Utterances <span class="soft number">{integer(route.utterances.length)}</span>
        </h3>
        {route.utterances.length > 12 && (
          <SearchField label="Search utterances" value={words} onInput={setWords} />
        )}
      </header>
      {may && <AddUtterances route={route} />}
      {route.utterances.length === 0 && (
        <p class="soft">
          None yet: the route is never decided for. Add how people would ask for it.
        </p>
      )}
      <ul>
        {found.slice(0, shown).map((text) => (
          <Utterance key={text} route={route} text={text} may={may} />
        ))}
      </ul>
      {found.length > shown && (
        <button type="button" onClick={() => setShown(shown + 5 * SHOWN)}>
          Show more of {integer(found.length)}
        </button>
      )}
    </section>
  );
}

export function RouteDetail({ name, onGone }) {
  const version = useValue(changes);
  const {
    data: route,
    problem,
    again,
  } = useLoaded((signal) => readRoute(name, signal), [name, version]);
  const may = allowed("write");
  if (problem?.status === 404)
    return (
      <Empty icon="routes" title="It is not there">
        There is no route {name}. It may have been deleted; Undo brings it back.
      </Empty>
    );
  if (problem && !route) return <Notice problem={problem} retry={again} />;
  if (!route) return <p class="soft">Reading…</p>;
  const remove = async () => {
    try {
      await removeRoute(route.route);
      onGone();
    } catch (error) {
      report(error, "Could not delete it");
    }
  };
  return (
    <article class="stack">
      <header>
        <a class="icon-button back" href="#/routes" aria-label="Back to the list">
          <Icon name="back" />
        </a>
        <h2>
          <Name name={route.route} />
        </h2>
        {may && (
          <button type="button" class="danger" onClick={remove}>
            <Icon name="trash" /> Delete route
          </button>
        )}
      </header>
      <Description route={route} may={may} />
      <Threshold route={route} may={may} />
      <Metadata route={route} may={may} />
      <Utterances route={route} may={may} />
    </article>
  );
}
