/*
 * Changes of the route table, each with its way back. A route is replaced on the condition that the table has
 * not moved on since it was read; where it has, but this route is as it was, the change is made all the same.
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

export async function readRoute(name, signal) {
  const route = await call("GET", routePath(name), { signal, revive: exact });
  for (const member of ["threshold", "confidence", "revision"])
    if (route[member] !== undefined && route[member] !== null) route[member] = plain(route[member]);
  return { description: "", ...route };
}

/* What is sent of a route: without name and revision, and without members that stand for defaults. */
function bodyOf(route) {
  const given = fields.filter((field) => route[field] !== undefined && route[field] !== null);
  return Object.fromEntries(given.map((field) => [field, route[field]]));
}

const same = (a, b) => JSON.stringify(bodyOf(a)) === JSON.stringify(bodyOf(b));

const put = (route, next, revision) =>
  call("PUT", routePath(route), {
    body: bodyOf(next),
    headers: revision ? { "If-Match": `"${revision}"` } : {},
  });

/* Makes of `before`, as it was read, what `next` says. */
async function replace(before, next) {
  try {
    return await put(before.route, next, before.revision);
  } catch (error) {
    if (error.status !== 412) throw error;
    const now = await readRoute(before.route);
    if (!same(now, before))
      throw new Problem(
        412,
        "Changed elsewhere",
        `${before.route} was changed by somebody else meanwhile; it has been read again.`,
      );
    return put(before.route, next, now.revision);
  }
}

export async function editRoute(before, next, label) {
  await replace(before, next);
  changed(label, async () => {
    const now = await readRoute(before.route);
    if (!same(now, next))
      throw new Problem(412, "Changed elsewhere", `${before.route} has changed since.`);
    await replace(now, before);
  });
}

export async function createRoute(name) {
  await call("PUT", routePath(name), {
    body: { utterances: [] },
    headers: { "If-None-Match": "*" },
  });
  changed(`Made ${name}`, () => call("DELETE", routePath(name)));
}

export async function removeRoute(route) {
  await call("DELETE", routePath(route.route));
  changed(`Deleted ${route.route} with ${count(route.utterances.length, "utterance")}`, () =>
    put(route.route, route),
  );
}

const utterances = (name, texts, method) =>
  call(method, `${routePath(name)}/utterances`, { body: { utterances: texts } });

export async function addUtterances(name, texts) {
  const receipt = await utterances(name, texts, "POST");
  const what = texts.length === 1 ? `“${shorten(texts[0])}”` : count(texts.length, "utterance");
  if (receipt.utterances_added === 0) return receipt;
  changed(`Added ${what} to ${name}`, () =>
    receipt.routes_added ? call("DELETE", routePath(name)) : utterances(name, texts, "DELETE"),
  );
  return receipt;
}

export async function removeUtterances(name, texts) {
  await utterances(name, texts, "DELETE");
  const what = texts.length === 1 ? `“${shorten(texts[0])}”` : count(texts.length, "utterance");
  changed(`Deleted ${what} from ${name}`, () => utterances(name, texts, "POST"));
}

export const shorten = (text, length = 48) =>
  text.length > length ? `${text.slice(0, length - 1).trimEnd()}…` : text;
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
