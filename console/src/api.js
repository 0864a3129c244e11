/*
 * The server's API as the pages use it: JSON requests that carry the key, problem details (RFC 9457) as
 * errors, and streams of JSON lines. The key lives in the session storage of this tab and nowhere else.
 */
const KEY = "synaptoroute.key";

export class Problem extends Error {
  constructor(status, title, detail, type = "about:blank") {
    super(detail || title);
    Object.assign(this, { status, title, detail, type });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/* Told of every answer that says the key is missing or wrong. */
let refused = () => {};
export const onRefused = (callback) => (refused = callback);

export const routePath = (name) => `/v1/routes/${encodeURIComponent(name)}`;

function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function problemOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    /* Not from a handler, so without details: the status has to do. */
  }
  return new Problem(
    response.status,
    body.title || response.statusText || `HTTP ${response.status}`,
    body.detail,
    body.type,
  );
}

async function send(method, path, { query, body, type, headers, signal } = {}) {
  const all = { ...headers };
  if (key.get()) all.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) all["Content-Type"] = type || "application/json";
  let response;
  try {
    const data = body === undefined || type ? body : JSON.stringify(body);
    response = await fetch(withQuery(path, query), {
      method,
      body: data,
      headers: all,
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(
      0,
      "No answer",
      "The server does not answer. Is it running, and is the network up?",
    );
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401) refused(problem);
    throw problem;
  }
  return response;
}

/* Answers with the parsed body, or undefined where there is none. `revive` is JSON.parse's. */
export async function call(method, path, options) {
  const response = await send(method, path, options);
  const text = await response.text();
  return text ? JSON.parse(text, options?.revive) : undefined;
}

export const get = (path, query, signal) => call("GET", path, { query, signal });
export const post = (path, body, signal) => call("POST", path, { body, signal });

/* Sends `body` and gives each line of the answer to `onLine` as it comes. A line with a problem ends it. */
export async function stream(path, options, onLine) {
  const response = await send("POST", path, options);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.trim()) continue;
      const message = JSON.parse(line);
      if (message.problem) {
        const { status, title, detail, type } = message.problem;
        throw new Problem(status, title, detail, type);
      }
      onLine(message);
    }
    if (done) return;
  }
}
