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
      delays: [history.notification_delay, history.bus_delay, history.view_lag].map((of) => of[1][i]),
    });
  });
  if (seconds.length > KEPT + 10) seconds = seconds.slice(-KEPT);
  if (history.numbers.length) data.newest = history.numbers[history.numbers.length - 1];
  else data.newest = last ? last.newest : undefined;
  last = data;
}

// === what is shown ===

function showStrip() {
  const strip = { ready: "Ready", degraded: "Degraded", not_ready: "Not ready" };
  let state = last ? last.status : "loading";
  let lines = [];
  let headline = strip[state];
  if (lostAt !== null) {
    state = "lost";
    headline = last ? "Disconnected since " + clock(lostAt) : "No answer";
    lines = [last ? "The numbers below are from then. Trying again every second." : "The service does not answer. Trying again every second."];
  } else if (last) {
    const { not_ready, degraded } = last.reasons;
    lines = [...not_ready, ...degraded];
    if (!lines.length) lines = ["All parts work."];
  } else {
    return;
  }
  document.body.dataset.state = state;
  document.title = (state === "ready" ? "" : headline + " – ") + "balance-cache";
  set("headline", headline);
  const shown = [...byId("reasons").children].map((line) => line.textContent);
  if (shown.join("\n") !== lines.join("\n")) byId("reasons").replaceChildren(...lines.map((line) => element("p", line)));
}

function showTiles() {
  const { totals, window: recent } = last;
  const fresh = seconds.slice(-5).filter((at) => !at.gap);
  const lasted = fresh.reduce((all, at) => all + at.lasted, 0);
  const mean = (of) => (lasted ? fresh.reduce((all, at) => all + of(at), 0) / lasted : null);
  const all = sum(totals.reads, OUTCOMES);
  const saved = sum(totals.reads, SAVED);
  const peak = Math.max(0, ...seconds.filter((at) => !at.gap).map((at) => sum(at.reads, OUTCOMES) / at.lasted));
  figure("rate", rate(mean((at) => sum(at.reads, OUTCOMES))));
  set("rate-note", all ? "peak " + rate(peak) + " in 15 min" : "none since the start");
  const lately = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, recent.reads[outcome].count]));
  const some = sum(lately, OUTCOMES);
  figure("hit", percent(lately.memory + lately.redis, some));
  set("hit-note", some ? "memory " + percent(lately.memory, some, 1) + ", Redis " + percent(lately.redis, some, 1) : "no reads in the last 60 s");
  const [p50, p99, p999] = recent.reads.all.quantiles;
  figure("p99", duration(p99));
  set("p99-note", some ? "p50 " + duration(p50) + ", p99.9 " + duration(p999) : "no reads in the last 60 s");
  figure("loads", rate(mean((at) => at.loads + at.failures)));
  set("loads-note", about(totals.loads) + " in all, " + about(totals.load_failures) + " failed");
  figure("saved", percent(saved, all));
  set("saved-note", all ? about(saved) + " of " + about(all) + " since start" : "no reads yet");
  figure("heard", rate(mean((at) => at.heard)));
  const delay = recent.notification_delay;
  const known = (totals.notifications.applied || 0) + (totals.notifications.old || 0);
  set("heard-note", delay.count ? "in effect in " + duration(delay.quantiles[1]) + " (p99)" : about(known) + " since the start");
}

function showParts() {
  const { memory, parts } = last;
  const own = { name: "Memory", state: "good", word: count(memory.entries) + (memory.entries === 1 ? " snapshot" : " snapshots"), detail: bytes(memory.bytes) + " of " + bytes(memory.bytes_max) };
  const all = [own, ...parts];
  const box = byId("parts");
  while (box.children.length > all.length) box.lastChild.remove();
  while (box.children.length < all.length) {
    const card = element("article", null, { class: "part" });
    card.append(element("h2", ""), element("p", "", { class: "word" }), element("p", "", { class: "detail" }));
    box.append(card);
  }
  all.forEach((part, at) => {
    const card = box.children[at];
    card.dataset.is = part.state;
    card.dataset.part = part.name;
    const [title, word, detail] = card.children;
    title.textContent = part.name;
    word.textContent = part.word;
    detail.textContent = part.detail;
    detail.title = part.detail;
  });
}

function showCharts() {
  const from = span()[0] * 1000 - 2000;
  const shown = seconds.filter((at) => at.at >= from);
  const x = shown.map((at) => at.at / 1000);
  const column = (of) => shown.map((at) => (at.gap ? null : of(at)));
  const any = (columns) => columns.some((values) => values.some((v) => v));
  const draw = (chart, columns) => charts[chart].set([x, ...columns], !any(columns));
  const groups = Object.values(GROUPS);
  draw("reads", groups.map((names) => column((at) => sum(at.reads, names) / at.lasted)));
  draw("ratio", groups.map((names) => column((at) => {
    const all = sum(at.reads, OUTCOMES);
    return all ? (sum(at.reads, names) / all) * 100 : null;
  })));
  const outcome = byId("outcome").value;
  draw("latency", [0, 1, 2].map((q) => column((at) => at.quantiles[outcome][q])));
  draw("loads", [column((at) => at.loads / at.lasted), column((at) => at.failures / at.lasted)]);
  draw("heard", [column((at) => at.heard / at.lasted)]);
  draw("delays", [0, 1, 2].map((which) => column((at) => at.delays[which])));
}

// The same cells are filled again and again: nothing moves, and a selection stays.
function fill(table, rows) {
  const body = byId(table).tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ id, cells, css, html }, at) => {
    let row = body.rows[at];
    if (!row || row.dataset.id !== id) {
      const made = element("tr", null, { "data-id": id });
      cells.forEach((cell, i) => made.append(i === 0 && html ? html() : element("td", "")));
      row ? row.replaceWith(made) : body.append(made);
      row = made;
    }
    row.className = css || "";
    cells.forEach((cell, i) => {
      const node = row.cells[i];
      if (cell === null || !node) return;
      const { text = cell, small, attributes = {} } = typeof cell === "object" ? cell : {};
      if (small !== undefined) node.replaceChildren(text, ...small.map((line) => element("small", line)));
      else if (node.textContent !== text) node.textContent = text;
      node.classList.toggle("none", text === NONE || text === NO_SAMPLES);
      node.classList.toggle("wrong", Number(attributes["data-stale"]) > 0);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    });
  });
}

function showOutcomes() {
  const { totals, window: recent } = last;
  const all = sum(totals.reads, OUTCOMES);
  const head = (outcome) => () => {
    const node = element("th", null, { scope: "row" });
    node.append(element("i", "", { class: groupOf(outcome) || "" }), outcome === "all" ? "all reads" : name(outcome));
    return node;
  };
  fill("outcomes", [...OUTCOMES, "all"].map((outcome) => {
    const reads = outcome === "all" ? all : totals.reads[outcome];
    const quantiles = recent.reads[outcome].quantiles.map(duration);
    const value = { text: reads ? count(reads) : "0", attributes: { "data-total": outcome, "data-value": reads } };
    return { id: outcome, css: outcome === "all" ? "sum" : "", html: head(outcome), cells: [null, value, reads ? percent(reads, all) : NONE, ...quantiles] };
  }));
}

function showNines() {
  const cell = (tier, window) => {
    const { checked, stale } = last.audits.find((at) => at.tier === tier && at.window === window) || { checked: 0, stale: 0 };
    const attributes = { title: checked ? count(stale) + " of " + count(checked) + " were too old" : "", "data-checked": checked, "data-stale": stale };
    if (!checked) return { text: NO_SAMPLES, small: [], attributes };
    const small = ["≥ " + nines(atLeast(checked - stale, checked)), stale ? count(stale) + " too old" : about(checked)];
    return { text: nines((checked - stale) / checked), small, attributes };
  };
  fill("nines", TIERS.map((tier) => ({
    id: tier,
    html: () => {
      const node = element("th", null, { scope: "row" });
      node.append(element("i", "", { class: tier }), name(tier));
      return node;
    },
    cells: [null, ...WINDOWS.map((window) => cell(tier, window))],
  })));
}

function showSlowest() {
  const number = (n) => (n === null ? NONE : count(n));
  const rows = last.slowest.map((slow, at) => ({
    id: "slow" + at,
    cells: [clock(slow.at), duration(slow.took), name(slow.outcome), slow.user, duration(slow.redis), duration(slow.source), number(slow.assets), number(slow.rows)],
  }));
  if (rows.length) {
    fill("slowest", rows.slice(0, 10));
    return;
  }
  fill("slowest", [{ id: "empty", css: "empty", html: () => element("td", "No reads yet", { colspan: 8 }), cells: [null] }]);
}

function show() {
  showStrip();
  if (!last) return;
  set("version", last.version);
  set("uptime", elapsed(last.now - last.started));
  set("updated", clock(last.now));
  showTiles();
  showParts();
  showCharts();
  showOutcomes();
  showNines();
  showSlowest();
  const api = ["http:", "", location.hostname + ":" + last.api_port].join("/");
  set("try-title", sum(last.totals.reads, OUTCOMES) ? "No reads in this time" : "No reads yet");
  set("try-curl", "curl -i '" + api + "/api/user/balance?user_id=1001'");
  set("try-oha", "oha -z 30s --rand-regex-url '" + api + "/api/user/balance\\?user_id=10(0[1-9]|10)'");
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
  byId("outcome").addEventListener("change", () => last && showCharts());
  prefersDark.addEventListener("change", applyTheme);
  addEventListener("resize", () => Object.values(charts).forEach((chart) => chart.resize()));
  document.addEventListener("visibilitychange", () => document.hidden || show());
  live();
}

begin();
