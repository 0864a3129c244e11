/*
 * Small parts that every page uses: icons, fields, notices, toasts, dialogs, and numbers as people read them.
 */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { dismiss, toasts, useValue } from "./store.js";

/* ---- Numbers ---- */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const known = (number) => number !== null && number !== undefined && !Number.isNaN(number);

export const integer = (number) => (known(number) ? whole.format(number) : "–");
export const percent = (share, digits = 1) =>
  known(share) ? `${(share * 100).toFixed(digits)} %` : "–";
export const cosine = (number) => (known(number) ? number.toFixed(3) : "–");

/* A duration with three digits, in the unit that suits it. */
export function duration(ns) {
  if (!known(ns)) return "–";
  const [unit, name] =
    ns < 1e3 ? [1, "ns"] : ns < 1e6 ? [1e3, "µs"] : ns < 1e9 ? [1e6, "ms"] : [1e9, "s"];
  return `${Number((ns / unit).toPrecision(3))} ${name}`;
}

/* A route's name, which may be broken after what joins its words. */
export const Name = ({ name }) =>
  name.split(/(?<=[_./-])/).map((part, i) => (
    <>
      {i > 0 && <wbr />}
      {part}
    </>
  ));

/* ---- Icons, on a grid of 20 ---- */

const paths = {
  try: "M3 10h6m0 0c3 0 3-5 6-5h2m-8 5c3 0 3 5 6 5h2M15 3l2 2-2 2M15 13l2 2-2 2",
  routes: "M3.5 5h2m3 0h8M3.5 10h2m3 0h8M3.5 15h2m3 0h8",
  map: "M6 6.5h.01M9.5 4h.01M8.5 8.5h.01M14 12.5h.01M16.5 10h.01M12 15.5h.01M16 15.5h.01M4 15h.01",
  live: "M2.5 11h3.2l2.3-6 4 10.5 2.4-4.5h3.1",
  evaluate: "M3.5 3.5h13v13h-13zM3.5 7.8h13M3.5 12.2h13M7.8 3.5v13M12.2 3.5v13",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM13 13l4 4",
  close: "M5 5l10 10M15 5L5 15",
  plus: "M10 4v12M4 10h12",
  trash: "M4 6h12M8 6V4h4v2M5.5 6l.8 10.5h7.4L14.5 6M8.5 9v4.5M11.5 9v4.5",
  edit: "M4 16l.8-3.2L13 4.6l2.4 2.4-8.2 8.2L4 16z",
  undo: "M7 5L3.5 8.5 7 12M4 8.5h7.5a4.5 4.5 0 0 1 0 9H8",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10 2v1.8M10 16.2V18M2 10h1.8M16.2 10H18M4.3 4.3l1.3 1.3M14.4 14.4l1.3 1.3M15.7 4.3l-1.3 1.3M5.6 14.4l-1.3 1.3",
  moon: "M16.5 12A7 7 0 0 1 8 3.5a7 7 0 1 0 8.5 8.5z",
  help: "M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15zM7.8 7.8c.2-1.2 1.1-1.9 2.3-1.9 1.3 0 2.2.8 2.2 1.9 0 1.7-2.3 1.8-2.3 3.6M10 14.2v.01",
  key: "M7 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10.5 10h7v3M14.5 10v2",
  leave: "M8 3.5H4v13h4M8 10h9m-3.5-3.5L17 10l-3.5 3.5",
  file: "M5 2.5h6.5L15 6v11.5H5zM11.5 2.5V6H15",
  back: "M12.5 4.5L7 10l5.5 5.5",
};

export const Icon = ({ name }) => (
  <svg class={`icon icon-${name}`} viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
    <path d={paths[name]} />
  </svg>
);

export const IconButton = ({ icon, label, ...rest }) => (
  <button type="button" class="icon-button" aria-label={label} title={label} {...rest}>
    <Icon name={icon} />
  </button>
);

/* ---- Fields ---- */

/* One of a few values: [[value, label], ...]. */
export function Choice({ label, name, options, value, onChange }) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{label}</legend>
      {options.map(([option, text, title]) => (
        <label key={option} title={title}>
          <input
            type="radio"
            name={name}
            value={option}
            checked={option === value}
            onChange={() => onChange(option)}
          />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

export function SearchField({ label, value, onInput, inputRef, ...rest }) {
  return (
    <div class="search">
      <Icon name="search" />
      <input
        ref={inputRef}
        type="search"
        aria-label={label}
        placeholder={label}
        value={value}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => onInput(event.target.value)}
        {...rest}
      />
    </div>
  );
}

/* A text area as high as its text. */
export function GrowingText({ value, onInput, fieldRef, ...rest }) {
  const own = useRef();
  const field = fieldRef || own;
  useEffect(() => {
    const area = field.current;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
  }, [value]);
  return (
    <textarea
      ref={field}
      rows={1}
      value={value}
      onInput={(event) => onInput(event.target.value)}
      {...rest}
    />
  );
}

/* ---- Notices ---- */

export const Empty = ({ icon, title, children }) => (
  <div class="empty">
    {icon && <Icon name={icon} />}
    <h2>{title}</h2>
    <div class="soft">{children}</div>
  </div>
);

/* A problem as the server tells it. */
export const Notice = ({ problem, retry }) => (
  <div class="notice" role="alert">
    <div>
      <strong>{problem.title || "That did not work"}</strong>
      <p>{problem.detail || problem.message}</p>
    </div>
    {retry && (
      <button type="button" onClick={retry}>
        Try again
      </button>
    )}
  </div>
);

/* ---- Toasts ---- */

const stays = { info: 8000, error: 15000 };

function Toast({ one }) {
  const [held, setHeld] = useState(false);
  useEffect(() => {
    if (held) return undefined;
    const timer = setTimeout(() => dismiss(one.id), stays[one.kind]);
    return () => clearTimeout(timer);
  }, [held]);
  const hold = {
    onMouseEnter: () => setHeld(true),
    onMouseLeave: () => setHeld(false),
    onFocusCapture: () => setHeld(true),
    onBlurCapture: () => setHeld(false),
  };
  return (
    <li class={`toast ${one.kind}`} {...hold}>
      <span>{one.text}</span>
      {one.action && (
        <button
          type="button"
          onClick={() => {
            dismiss(one.id);
            one.action.run();
          }}
        >
          {one.action.label}
        </button>
      )}
      <IconButton icon="close" label="Dismiss" onClick={() => dismiss(one.id)} />
    </li>
  );
}

export function Toasts() {
  const all = useValue(toasts);
  return (
    <div role="status">
      <ul class="toasts">
        {all.map((one) => (
          <Toast key={one.id} one={one} />
        ))}
      </ul>
    </div>
  );
}

/* ---- Dialogs ---- */

export function Dialog({ title, onClose, children }) {
  const dialog = useRef();
  useLayoutEffect(() => {
    dialog.current.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <header>
        <h2>{title}</h2>
        <IconButton icon="close" label="Close" onClick={onClose} />
      </header>
      {children}
    </dialog>
  );
}

/* Runs `load` when `inputs` change; answers with { data, problem, again }. Data stays while the next is loaded. */
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ data: null, problem: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (data) => setState({ data, problem: null }),
      (problem) => problem.name === "AbortError" || setState((now) => ({ ...now, problem })),
    );
    return () => stop.abort();
  }, [...inputs, round]);
  return { ...state, again: () => setRound((n) => n + 1) };
}
