/*
 * The frame of the console: navigation by the address's fragment, keyboard shortcuts, theme, session. Pages are
 * functions of the rest of the fragment; each keeps what it needs when it is left in its own module.
 */
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { EvaluatePage } from "./evaluate.jsx";
import { LivePage } from "./live.jsx";
import { MapPage } from "./map.jsx";
import { RoutesPage } from "./routes.jsx";
import { SignIn } from "./signin.jsx";
import { refreshInfo, session, signOut, undoLast, useValue } from "./store.js";
import { nextTheme, theme } from "./theme.js";
import { TryPage } from "./try.jsx";
import { Dialog, Icon, IconButton, Notice, Toasts, integer } from "./ui.jsx";

const pages = [
  { id: "try", title: "Try", page: TryPage },
  { id: "routes", title: "Routes", page: RoutesPage },
  { id: "map", title: "Map", page: MapPage },
  { id: "live", title: "Live", page: LivePage },
  { id: "evaluate", title: "Evaluate", page: EvaluatePage },
];

/* "#/routes/a%2Fb" -> { id: "routes", rest: "a/b" } */
function place() {
  const [, id = "", ...rest] = location.hash.split("/");
  const page = pages.find((one) => one.id === id) || pages[0];
  try {
    return { page, rest: decodeURIComponent(rest.join("/")) };
  } catch {
    return { page, rest: "" };
  }
}

function usePlace() {
  const [now, setNow] = useState(place);
  useEffect(() => {
    const moved = () => setNow(place());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return now;
}

/* ---- Keyboard ---- */

const shortcuts = [
  [["1", "…", "5"], "Go to a page: Try, Routes, Map, Live, Evaluate"],
  [["/"], "Go to the text or the search of the page"],
  [["Enter"], "Route the text; with Shift, a new line in it"],
  [["u"], "Undo the last change of the table"],
  [["t"], "Change between light and dark"],
  [["↑", "↓"], "Move in the list of routes; in the map, move the map"],
  [["+", "−", "0"], "Zoom the map in, out, and to all of it"],
  [["n", "p"], "Next and previous utterance on the map"],
  [["?"], "This help"],
  [["Esc"], "Close what is open"],
];

const writing = (element) =>
  element.closest(
    "input:not([type=radio],[type=checkbox],[type=file]), textarea, select, [contenteditable]",
  );

function useShortcuts(openHelp) {
  useEffect(() => {
    const actions = {
      "/": () => document.querySelector("[data-slash]")?.focus(),
      "?": openHelp,
      u: undoLast,
      t: nextTheme,
    };
    pages.forEach((page, i) => (actions[i + 1] = () => (location.hash = `#/${page.id}`)));
    const pressed = (event) => {
      const undoKey = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z";
      if (writing(event.target) || document.querySelector("dialog[open]")) return;
      const action = undoKey
        ? undoLast
        : event.ctrlKey || event.metaKey || event.altKey
          ? null
          : actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

const Help = ({ onClose }) => (
  <Dialog title="Keyboard" onClose={onClose}>
    <dl class="shortcuts">
      {shortcuts.map(([keys, what]) => (
        <div key={what}>
          <dt>
            {keys.map((name) =>
              name === "…" ? <span key={name}> … </span> : <kbd key={name}>{name}</kbd>,
            )}
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
    <p class="soft small">
      The page is made with Preact and uPlot: <a href="/assets/licences.txt">their licences</a>.
    </p>
  </Dialog>
);

/* ---- Frame ---- */

const Brand = () => (
  <a class="brand" href="#/try">
    <svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">
      <path d="M3 12h6c4 0 4-6 8-6h1" />
      <path d="M9 12c4 0 4 6 8 6h1" class="second" />
      <circle cx="20" cy="6" r="2" />
      <circle cx="20" cy="18" r="2" class="second" />
    </svg>
    SynaptoRoute
  </a>
);

const Navigation = ({ current }) => (
  <nav aria-label="Pages">
    {pages.map((page) => (
      <a key={page.id} href={`#/${page.id}`} aria-current={page === current ? "page" : undefined}>
        <Icon name={page.id} />
        <span>{page.title}</span>
      </a>
    ))}
  </nav>
);

function deciders({ fit, fit_pending: pending }) {
  if (fit !== "heads") return "nearest utterances";
  return pending ? `trained heads, ${integer(pending)} pending` : "trained heads";
}

function About({ info }) {
  if (!info) return <div class="about" />;
  const role = info.caller?.role;
  return (
    <dl class="about">
      <dt>Table</dt>
      <dd>
        {integer(info.routes)} routes, {integer(info.utterances)} utterances
      </dd>
      <dt>Revision</dt>
      <dd>{integer(info.revision)}</dd>
      <dt>Decided by</dt>
      <dd>{deciders(info)}</dd>
      <dt>Model</dt>
      <dd>{info.model || info.stored_model || "–"}</dd>
      {role && (
        <>
          <dt>You are</dt>
          <dd>{info.caller.key ? `${info.caller.key} (${role})` : `${role}, without a key`}</dd>
        </>
      )}
    </dl>
  );
}

function Tools({ openHelp, info }) {
  const now = useValue(theme);
  return (
    <div class="tools">
      <IconButton
        icon={now === "dark" ? "sun" : "moon"}
        label={now === "dark" ? "Light colours" : "Dark colours"}
        onClick={nextTheme}
      />
      <IconButton icon="help" label="Keyboard shortcuts" onClick={openHelp} />
      {info?.caller?.key && <IconButton icon="leave" label="Sign out" onClick={signOut} />}
    </div>
  );
}

function Main({ now, phase, problem }) {
  const main = useRef();
  const first = useRef(true);
  useEffect(() => {
    document.title = `${now.page.title} · SynaptoRoute`;
    /* After a move by link or key, reading goes on at the page; a field that took the focus keeps it. */
    if (!first.current && !main.current.contains(document.activeElement))
      main.current.focus({ preventScroll: true });
    first.current = false;
    scrollTo(0, 0);
  }, [now.page]);
  const Page = now.page.page;
  return (
    <main ref={main} id="main" tabIndex={-1} class={`page page-${now.page.id}`}>
      {phase === "ready" && <Page rest={now.rest} />}
      {phase === "down" && <Notice problem={problem} retry={refreshInfo} />}
      {phase === "signin" && <SignIn />}
    </main>
  );
}

function Console() {
  const now = usePlace();
  const { phase, info, problem } = useValue(session);
  const [help, setHelp] = useState(false);
  useShortcuts(() => setHelp(true));
  /* The table may have changed elsewhere: look again with each page, and when the window is looked at again. */
  useEffect(() => {
    if (session.get().phase !== "signin") refreshInfo();
  }, [now.page]);
  useEffect(() => {
    const looked = () => document.hidden || session.get().phase === "signin" || refreshInfo();
    document.addEventListener("visibilitychange", looked);
    return () => document.removeEventListener("visibilitychange", looked);
  }, []);
  return (
    <div class="frame">
      <a
        class="skip"
        href="#main"
        onClick={(event) => (event.preventDefault(), document.getElementById("main").focus())}
      >
        Skip to the page
      </a>
      <header class="side">
        <Brand />
        {phase === "ready" && <Navigation current={now.page} />}
        <About info={phase === "ready" ? info : null} />
        <Tools openHelp={() => setHelp(true)} info={info} />
      </header>
      <Main now={now} phase={phase} problem={problem} />
      <Toasts />
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

render(<Console />, document.getElementById("console"));
