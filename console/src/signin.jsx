/*
 * Signing in: the key is kept in this tab's session storage and sent with each request.
 */
import { useState } from "preact/hooks";
import { session, signIn, useValue } from "./store.js";
import { Notice } from "./ui.jsx";

export function SignIn() {
  const { problem } = useValue(session);
  const [secret, setSecret] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    await signIn(secret.trim());
    setBusy(false);
  };
  return (
    <form class="signin card" onSubmit={submit}>
      <h1>Sign in</h1>
      <p class="soft">
        This server asks for an API key. It stays in this tab and is forgotten when the tab is
        closed.
      </p>
      {problem && problem.status !== 401 && <Notice problem={problem} />}
      <label>
        API key
        <input
          type="password"
          value={secret}
          autocomplete="off"
          autofocus
          required
          spellcheck={false}
          onInput={(event) => setSecret(event.target.value)}
          aria-describedby="signin-why"
        />
      </label>
      <p id="signin-why" class="wrong" role="alert">
        {problem?.status === 401 && (problem.detail || "The server does not know this key.")}
      </p>
      <button class="primary" disabled={busy || !secret.trim()}>
        Sign in
      </button>
      <p class="soft small">
        No key yet? Whoever runs the server makes one:{" "}
        <code>synaptoroute key create NAME --role write</code>. With the role read you can try texts
        and look; write also changes routes; admin also runs evaluations.
      </p>
    </form>
  );
}
