// The page: asks once a second, keeps a quarter of an hour, and shows it.
"use strict";

const EVERY_MS = 1000;
const HIDDEN_EVERY_MS = 5000;
const PATIENCE_MS = 3000;
const KEPT = 900;
const OUTCOMES = ["memory", "redis", "source", "joined", "stale", "behind", "shed", "failed"];
const GROUPS = { memory: ["memory"], redis: ["redis"], source: ["source", "joined"], rest: ["stale", "behind", "shed", "failed"] };
const SAVED = ["memory", "redis", "joined"];
const NAMES = { redis: "Redis" };
const TIERS = ["memory", "redis", "source"];
const WINDOWS = ["0.1", "1", "10", "300"];
const NO_SAMPLES = "no samples yet";
// As BalanceCacheReadsSlow.
const SLOW_NANOS = 250e6;

const byId = (id) => document.getElementById(id);
const name = (outcome) => NAMES[outcome] || outcome;
const sum = (of, names) => names.reduce((all, at) => all + (of[at] || 0), 0);
const groupOf = (outcome) => Object.keys(GROUPS).find((group) => GROUPS[group].includes(outcome));

// Seconds as they came: { at, lasted, reads, quantiles, … }; null where there is a gap.
let seconds = [];
let last = null;
let lostAt = null;
let shownSpan = Number(stored("span")) || 300;
const charts = {};

function stored(key, value) {
  // Storage can be forbidden; the page works without.
  try {
    if (value !== undefined) localStorage.setItem("balance-cache." + key, value);
    return localStorage.getItem("balance-cache." + key);
  } catch {
    return null;
  }
}

function set(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

function element(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  if (text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function figure(id, text) {
  const [value, unit] = text.split(" ");
  byId(id).replaceChildren(value, ...(unit ? [element("small", unit)] : []));
}

// The time shown, in seconds: up to the newest second of the service.
function span() {
  const now = last ? last.now / 1000 : Date.now() / 1000;
  return [now - shownSpan, now];
}

// === what came ===

function keep(data) {
  if (last && last.started !== data.started) last = null;
  const { history } = data;
  history.numbers.forEach((number, i) => {
    const newest = seconds[seconds.length - 1];
    if (newest && history.at[i] - newest.at > 3500) seconds.push({ at: newest.at + 1000, gap: true });
    const pick = (columns) => columns.map((column) => column[i]);
    seconds.push({
      number,
      at: history.at[i],
      lasted: Math.max(1, history.lasted_ms[i]) / 1000,
      reads: Object.fromEntries(OUTCOMES.map((outcome) => [outcome, history.reads[outcome][i]])),
      quantiles: Object.fromEntries([...OUTCOMES, "all"].map((outcome) => [outcome, pick(history.quantiles[outcome])])),
      loads: history.loads[i],
      failures: history.load_failures[i],
      heard: history.notifications[i],
      refused: history.notification_failures[i],
      delays: [history.notification_delay, history.bus_delay, history.view_lag].map((of) => of[1][i]),
    });
  });
  if (seconds.length > KEPT + 10) seconds = seconds.slice(-KEPT);
  if (history.numbers.length) data.newest = history.numbers[history.numbers.length - 1];
  else data.newest = last ? last.newest : undefined;
  last = data;
}

// === one user ===

async function lookUp(event) {
  event.preventDefault();
  const user = byId("lookup-user").value.trim();
  const say = (text) => {
    byId("lookup-tiers").hidden = true;
    byId("lookup-findings").replaceChildren(element("li", text, { "data-is": "bad" }));
  };
  try {
    const answer = await fetch("dashboard/user?user_id=" + encodeURIComponent(user), { cache: "no-store" });
    const seen = await answer.json();
    if (answer.ok) showUser(seen);
    else say(seen.msg || "The service answered " + answer.status + ".");
  } catch {
    say("The service does not answer.");
  }
}

function showUser(seen) {
  byId("lookup-findings").replaceChildren(...seen.findings.map(({ bad, text }) => element("li", text, { "data-is": bad ? "bad" : "good" })));
  const ledger = Object.fromEntries(seen.tiers[0].balances.map((line) => [line.asset, line.seq]));
  const floors = seen.floors.map(({ asset, seq }) => asset + " " + seq).join(", ");
  const rows = seen.tiers.flatMap(({ tier, state, balances }) => {
    const lines = balances.length ? balances : [{ asset: NONE, seq: null, avail: NONE, frozen: NONE, updated_at: null }];
    return lines.map((line, at) => ({
      id: tier + line.asset,
      cells: [
        { text: at ? "" : name(tier), small: at ? [] : [state] },
        line.asset,
        { text: line.seq === null ? NONE : String(line.seq), attributes: { class: line.seq !== null && ledger[line.asset] !== line.seq ? "differs" : "" } },
        line.avail,
        line.frozen,
        line.updated_at === null ? NONE : moment(line.updated_at),
      ],
    }));
  });
  rows.push({ id: "floors", cells: [{ text: "floors", small: ["the lowest seqs that may be served"] }, floors || NONE, "", "", "", ""] });
  byId("lookup-tiers").tBodies[0].replaceChildren();
  fill("lookup-tiers", rows);
  byId("lookup-tiers").hidden = false;
}

// === asking ===

async function ask() {
  const since = last && last.newest !== undefined ? "?after=" + last.newest : "";
  try {
    const answer = await fetch("dashboard/data" + since, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    let data = await answer.json();
    if (last && data.started !== last.started && since) {
      // Another life of the process counts its seconds anew.
      last = null;
      return ask();
    }
    lostAt = null;
    keep(data);
  } catch {
    if (lostAt === null) lostAt = last ? last.now : Date.now();
  }
  return undefined;
}

async function live() {
  for (;;) {
    const begun = Date.now();
    await ask();
    if (!document.hidden || lostAt !== null) show();
    const pause = document.hidden ? HIDDEN_EVERY_MS : EVERY_MS;
    await new Promise((done) => setTimeout(done, Math.max(100, pause - (Date.now() - begun))));
  }
}

// === switches ===

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const chosen = stored("theme") || "auto";
  document.documentElement.dataset.theme = chosen === "auto" ? (prefersDark.matches ? "dark" : "light") : chosen;
  for (const button of byId("theme").children) button.setAttribute("aria-pressed", String(button.dataset.theme === chosen));
  for (const chart of Object.values(charts)) chart.draw();
  if (last) showCharts();
}

function applySpan() {
  for (const button of byId("span").children) button.setAttribute("aria-pressed", String(Number(button.dataset.span) === shownSpan));
  if (last) showCharts();
}

function begin() {
  set("where", location.host);
  for (const outcome of ["all", ...OUTCOMES]) byId("outcome").append(new Option(outcome === "all" ? "all reads" : name(outcome), outcome));
  applyTheme();
  for (const chart of Object.keys(CHARTS)) charts[chart] = new Chart(chart);
  applySpan();
  byId("theme").addEventListener("click", ({ target }) => {
    if (!target.dataset.theme) return;
    stored("theme", target.dataset.theme);
    applyTheme();
  });
  byId("span").addEventListener("click", ({ target }) => {
    if (!SPANS.includes(Number(target.dataset.span))) return;
    shownSpan = Number(target.dataset.span);
    stored("span", shownSpan);
    applySpan();
  });
  byId("lookup-form").addEventListener("submit", lookUp);
  byId("outcome").addEventListener("change", () => last && showCharts());
  prefersDark.addEventListener("change", applyTheme);
  addEventListener("resize", () => Object.values(charts).forEach((chart) => chart.resize()));
  document.addEventListener("visibilitychange", () => document.hidden || show());
  live();
}

begin();
