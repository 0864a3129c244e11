/*
 * Changes of the route table, each with its way back. They are made one after the other.
 *
 * An edit names the members of a route that it changes, and is made on the condition that the table has not moved
 * on since the route was read. Where it has, the route is read again, and the edit is made on top of that, unless
 * somebody else has changed the same members.
 */
import { Problem, call, routePath } from "./api.js";
import { changed } from "./store.js";

/* `threshold` is a cosine, `confidence` a confidence; with neither the threshold is automatic. */
const fields = ["description", "threshold", "confidence", "metadata", "utterances"];

/* Numbers of the metadata that a double would change are kept as they are written. */
const exact = (name, number, context) =>
  typeof number === "number" && context && JSON.rawJSON && JSON.stringify(number) !== context.source
    ? JSON.rawJSON(context.source)
    : number;
const plain = (number) => Number(number.rawJSON ?? number);

/* Routes as they were last read or written here. */
const known = new Map();

export async function readRoute(name, signal) {
  const read = await call("GET", routePath(name), { signal, revive: exact });
  for (const member of ["threshold", "confidence", "revision"])
    if (read[member] !== undefined && read[member] !== null) read[member] = plain(read[member]);
  const route = { description: "", ...read };
  known.set(name, route);
  return route;
}

let last = Promise.resolve();

/* Does `work` when all that was to be done before has been. */
function inTurn(work) {
  last = last.then(work, work);
  return last;
}

/* What is sent of a route: without name and revision, and without members that stand for defaults. */
function bodyOf(route) {
  const given = fields.filter((field) => route[field] !== undefined && route[field] !== null);
  return Object.fromEntries(given.map((field) => [field, route[field]]));
}

const put = (name, route, headers) =>
  call("PUT", routePath(name), { body: bodyOf(route), headers });
const remove = (name) => {
  known.delete(name);
  return call("DELETE", routePath(name));
};

const agree = (part, a, b) =>
  Object.keys(part).every((field) => JSON.stringify(a[field]) === JSON.stringify(b[field]));

const TRIES = 10;

/*
 * Sets the members that `change` makes of the route (undefined: the default). `expected` is what these members must
 * be before, or null: as they are known here. Answers with the members before and after.
 */
async function patch(name, change, expected) {
  let route = known.get(name) ?? (await readRoute(name));
  for (let tries = 0; ; tries++) {
    const part = change(route);
    if (expected && !agree(part, route, expected))
      throw new Problem(
        412,
        "Changed elsewhere",
        `${name} was changed by somebody else meanwhile; it has been read again.`,
      );
    try {
      const next = { ...route, ...part };
      const receipt = await put(name, next, { "If-Match": `"${route.revision}"` });
      known.set(name, { ...next, revision: receipt.revision });
      const before = Object.fromEntries(Object.keys(part).map((field) => [field, route[field]]));
      return { before, after: part };
    } catch (error) {
      if (error.status !== 412 || tries === TRIES) throw error;
      expected ??= route;
      route = await readRoute(name);
    }
  }
}

/* `change` makes of a route its members that are to be other ones. */
export async function editRoute(name, change, label) {
  const { before, after } = await inTurn(() => patch(name, change, null));
  changed(label, () => inTurn(() => patch(name, () => before, after)));
}

export async function createRoute(name) {
  await inTurn(() => put(name, { utterances: [] }, { "If-None-Match": "*" }));
  changed(`Made ${name}`, () => inTurn(() => remove(name)));
}

export async function removeRoute(name) {
  const route = await inTurn(async () => {
    const before = await readRoute(name);
    await remove(name);
    return before;
  });
  changed(`Deleted ${name} with ${count(route.utterances.length, "utterance")}`, () =>
    inTurn(() => put(name, route, { "If-None-Match": "*" })),
  );
}

function sendUtterances(method, name, texts) {
  known.delete(name);
  return call(method, `${routePath(name)}/utterances`, { body: { utterances: texts } });
}

/* The utterances of a route, none where it is not there. */
async function utterancesOf(name) {
  try {
    return (await readRoute(name)).utterances;
  } catch (error) {
    if (error.status === 404) return [];
    throw error;
  }
}

const named = (texts) =>
  texts.length === 1 ? `“${shorten(texts[0])}”` : count(texts.length, "utterance");

/* Takes utterances away again, and the route with them where it was made for them and has no others. */
async function takeBack(name, texts, made) {
  if (made && (await utterancesOf(name)).length === texts.length) await remove(name);
  else await sendUtterances("DELETE", name, texts);
}

/* Answers with those that the route did not have. */
export async function addUtterances(name, given) {
  const { added, made } = await inTurn(async () => {
    const there = new Set(await utterancesOf(name));
    const texts = [...new Set(given)].filter((text) => !there.has(text));
    if (!texts.length) return { added: [] };
    const receipt = await sendUtterances("POST", name, texts);
    return { added: texts, made: receipt.routes_added > 0 };
  });
  if (added.length)
    changed(`Added ${named(added)} to ${name}`, () => inTurn(() => takeBack(name, added, made)));
  return added;
}

export async function removeUtterances(name, texts) {
  await inTurn(() => sendUtterances("DELETE", name, texts));
  changed(`Deleted ${named(texts)} from ${name}`, () =>
    inTurn(() => sendUtterances("POST", name, texts)),
  );
}

export const shorten = (text, length = 48) =>
  text.length > length ? `${text.slice(0, length - 1).trimEnd()}…` : text;
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
