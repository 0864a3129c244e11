/*
 * Light or dark: as the system has it, until somebody chooses. theme_first.js applies the choice before the
 * page is drawn.
 */
import { value } from "./store.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => localStorage.getItem("synaptoroute.theme");

export const theme = value(chosen() || (system.matches ? "dark" : "light"));

system.addEventListener("change", () => chosen() || theme.set(system.matches ? "dark" : "light"));

export function nextTheme() {
  const next = theme.get() === "dark" ? "light" : "dark";
  localStorage.setItem("synaptoroute.theme", next);
  document.documentElement.dataset.theme = next;
  theme.set(next);
}

const probe = document.createElement("span");

/* A colour of the style sheet as it is now, for canvases. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  if (!probe.isConnected) document.body.append(probe);
  return getComputedStyle(probe).color;
}
