/*
 * State that several components share: values with subscribers, the session, toasts and the stack of what
 * can be undone.
 */
import { useEffect, useState } from "preact/hooks";
import { get, key, onRefused } from "./api.js";

export function value(initial) {
  let now = initial;
  const readers = new Set();
  return {
    get: () => now,
    set(next) {
      now = typeof next === "function" ? next(now) : next;
      readers.forEach((read) => read(now));
    },
    subscribe(read) {
      readers.add(read);
      return () => readers.delete(read);
    },
  };
}

export function useValue(shared) {
  const [now, setNow] = useState(shared.get());
  useEffect(() => {
    setNow(shared.get());
    return shared.subscribe((next) => setNow(() => next));
  }, [shared]);
  return now;
}

/* ---- Session ---- */

/* phase: "starting", "ready", "signin" or "down"; info: what /v1/info says. */
export const session = value({ phase: "starting", info: null, problem: null });

const ranks = { read: 0, write: 1, admin: 2 };

/* Whether the key that is signed in may do what needs `role`, and the table lets it. */
export function allowed(role) {
  const info = session.get().info;
  if (role === "write" && info?.read_only) return false;
  return !info?.caller || (ranks[info.caller.role] ?? 2) >= ranks[role];
}

export async function refreshInfo() {
  try {
    const info = await get("/v1/info");
    session.set({ phase: "ready", info, problem: null });
  } catch (problem) {
    if (problem.status === 401) return; /* onRefused has seen to it */
    session.set((now) => ({ ...now, phase: now.info ? "ready" : "down", problem }));
  }
}

export async function signIn(secret) {
  key.set(secret);
  await refreshInfo();
  if (session.get().phase !== "ready") key.clear();
}

export function signOut() {
  key.clear();
  undoable.set([]);
  session.set({ phase: "signin", info: null, problem: null });
}

onRefused((problem) =>
  session.set((now) => ({ ...now, phase: "signin", problem: key.get() ? problem : null })),
);

/* ---- Toasts ---- */

export const toasts = value([]);
let toastCount = 0;

/* action: { label, run }. Answers with the toast's id. */
export function toast(text, { kind = "info", action = null } = {}) {
  const id = ++toastCount;
  toasts.set((all) => [...all.slice(-2), { id, text, kind, action }]);
  return id;
}

export const dismiss = (id) => toasts.set((all) => all.filter((one) => one.id !== id));

/* Shows what failed; an aborted request is nothing to speak of. */
export function report(error, doing) {
  if (error.name === "AbortError" || error.status === 401) return;
  const why = error.detail || error.title || error.message;
  toast(doing ? `${doing}: ${why}` : why, { kind: "error" });
}

/* ---- Undo ---- */

/* The newest last: { label, undo }. */
export const undoable = value([]);
/* Counts changes of the table made here, so that pages know when to read again. */
export const changes = value(0);

let entryCount = 0;

/* Tells of a change that was made, and how to take it back. */
export function changed(label, undo) {
  const entry = { id: ++entryCount, label, undo };
  undoable.set((stack) => [...stack.slice(-49), entry]);
  changes.set((n) => n + 1);
  refreshInfo();
  /* Changes are taken back in turn: only the last one has a button. */
  toasts.set((all) => all.map((one) => ({ ...one, action: null })));
  toast(label, { action: { label: "Undo", run: () => undo_(entry) } });
}

async function undo_(entry) {
  if (!undoable.get().includes(entry)) return;
  undoable.set((stack) => stack.filter((one) => one !== entry));
  try {
    await entry.undo();
    changes.set((n) => n + 1);
    refreshInfo();
    toast(`Undone: ${entry.label}`);
  } catch (error) {
    undoable.set((stack) => [...stack, entry].sort((a, b) => a.id - b.id));
    report(error, "Could not undo");
  }
}

export function undoLast() {
  const last = undoable.get().at(-1);
  if (last) undo_(last);
  else toast("There is nothing to undo");
}
