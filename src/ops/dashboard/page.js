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

// === what is shown ===

// The meaning of a reason for callers, and where the runbook says more. The service's own sentence stands below.
const MEANING = [
  ["redis", "Redis cannot be used as it should: reads go on from the ledger, settlements may be refused.", "balancecacheredisdown"],
  ["source: the ledger", "The ledger cannot be written: changes are refused (503, to be sent again). Reads go on.", "balancecacheledgerdisk"],
  ["source", "The source of balances does not answer: what memory and Redis hold is still served, all else is 503.", "balancecachesourcefailing"],
  ["ledger", "The ledger has trouble: reads go on, what is written may be refused.", "balancecacheledgerwritesfailing"],
  ["settlements", "Settlements are refused for now (503, to be sent again): balances stay as they are. Reads go on.", "balancecachenotificationsfailing"],
  ["kafka", "Settlements on the Kafka topic do not take effect, or only some. Reads go on.", "balancecachekafkalag"],
  ["settlement stream", "Settlements on the stream do not take effect.", "balancecachedegraded"],
  ["feed", "Freshness is not proven: memory serves only what was just read from the ledger. Reads are right, and slower.", "balancecachedegraded"],
];
const NOT_READY = ["", "It answers no balance now: requests get 503.", "balancecachenotready"];
const meaningOf = (reason) => MEANING.find(([start]) => reason.startsWith(start));

// One sentence above what the service says: the state, and the first reason's meaning.
function showStrip() {
  const words = { ready: "Ready", degraded: "Degraded", not_ready: "Not ready" };
  let state = last ? last.status : "loading";
  let headline = words[state];
  let impact = "All parts work.";
  let lines = [];
  if (lostAt !== null) {
    state = "lost";
    headline = last ? "Disconnected since " + clock(lostAt) : "No answer";
    impact = (last ? "The numbers below are from then." : "The service does not answer.") + " Trying again every second. Does the process run? Its log has the reason.";
  } else if (last) {
    const { not_ready, degraded } = last.reasons;
    lines = [...not_ready, ...degraded];
    const meaning = not_ready.length ? NOT_READY : lines.length ? meaningOf(lines[0]) : null;
    if (lines.length) impact = meaning ? meaning[1] : "It answers in spite of trouble.";
  } else {
    return;
  }
  document.body.dataset.state = state;
  document.title = (state === "ready" ? "" : headline + " – ") + "balance-cache";
  set("headline", headline);
  set("impact", impact);
  const box = byId("reasons");
  const shown = [...box.children].map((line) => line.dataset.reason);
  if (shown.join("\n") !== lines.join("\n")) box.replaceChildren(...lines.map(reasonLine));
}

function reasonLine(reason) {
  // The service says the cause, and behind a semicolon what to do.
  const [cause, ...remedy] = reason.split("; ");
  const line = element("li", null, { "data-reason": reason });
  line.append(cause + ". ");
  if (remedy.length) line.append(element("b", "To do: "), remedy.join("; ") + ". ");
  const section = (meaningOf(reason) || NOT_READY)[2];
  line.append(element("a", "Runbook", { href: "docs/OPERATIONS.md#" + section }));
  return line;
}

// A figure that can be judged says so by a word, a sign and a colour.
function judge(id, is) {
  byId("tile-" + id).dataset.is = is;
}

const inWindow = () => "in the last " + Math.max(1, Math.round(last.window.lasted_ms / 1000)) + " s";

function showTiles() {
  const { totals, window: recent } = last;
  const fresh = seconds.slice(-5).filter((at) => !at.gap);
  const minute = seconds.slice(-60).filter((at) => !at.gap);
  const lasted = fresh.reduce((all, at) => all + at.lasted, 0);
  const mean = (of) => (lasted ? fresh.reduce((all, at) => all + of(at), 0) / lasted : null);
  const lately = (of) => minute.reduce((all, at) => all + of(at), 0);
  const means = "mean of " + Math.max(1, Math.round(lasted)) + " s";
  const all = sum(totals.reads, OUTCOMES);
  const saved = sum(totals.reads, SAVED);
  const reads = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, recent.reads[outcome].count]));
  const some = sum(reads, OUTCOMES);
  const none = "no reads " + inWindow();
  const of = " of " + count(some) + " reads " + inWindow();

  const unanswered = reads.failed + reads.shed;
  figure("failed", count(unanswered));
  set("failed-note", some ? count(reads.failed) + " failed, " + count(reads.shed) + " shed" + of : none);
  judge("failed", !some ? "off" : unanswered === 0 ? "good" : reads.failed ? "bad" : "warn");

  const checked = last.audits.reduce((n, at) => n + at.checked, 0);
  const stale = last.audits.reduce((n, at) => n + at.stale, 0);
  figure("wrong", checked || stale || totals.regressions ? count(stale) : NONE);
  const held = totals.regressions ? ", " + count(totals.regressions) + " held back in time" : "";
  set("wrong-note", (checked ? "too old, of " + count(checked) + " comparisons with the ledger since start" : "none compared with the ledger yet") + held);
  judge("wrong", stale ? "bad" : totals.regressions ? "warn" : checked ? "good" : "off");

  const [p50, p99, p999] = recent.reads.all.quantiles;
  figure("p99", duration(p99));
  set("p99-note", some ? "inside the service, of " + count(some) + " reads " + inWindow() + "; p50 " + duration(p50) + ", p99.9 " + duration(p999) : none);
  judge("p99", p99 === null ? "off" : p99 > SLOW_NANOS ? "warn" : "good");

  const refused = lately((at) => at.refused);
  const heard = lately((at) => at.heard);
  const delay = recent.notification_delay;
  figure("heard", rate(mean((at) => at.heard)));
  const effect = delay.count ? "; p99 " + duration(delay.quantiles[1]) + " to effect (" + count(delay.count) + ")" : "";
  set("heard-note", means + "; " + inWindow() + ": " + count(heard) + " in effect, " + count(refused) + " failed" + effect);
  judge("heard", refused ? "bad" : heard ? "good" : "off");

  figure("rate", rate(mean((at) => sum(at.reads, OUTCOMES))));
  const peak = Math.max(0, ...seconds.filter((at) => !at.gap).map((at) => sum(at.reads, OUTCOMES) / at.lasted));
  set("rate-note", all ? means + "; peak " + rate(peak) + " in 15 min" : "none since the start");

  figure("hit", percent(reads.memory + reads.redis, some));
  const redis = usesRedis() ? ", Redis " + percent(reads.redis, some, 1) : "";
  set("hit-note", some ? "memory " + percent(reads.memory, some, 1) + redis + of : none);

  const failures = lately((at) => at.failures);
  figure("loads", rate(mean((at) => at.loads + at.failures)));
  set("loads-note", means + "; " + inWindow() + ": " + count(lately((at) => at.loads)) + " loaded, " + count(failures) + " failed");
  judge("loads", failures ? "bad" : lately((at) => at.loads) ? "good" : "off");

  figure("saved", percent(saved, all));
  set("saved-note", all ? about(saved) + " of " + about(all) + " reads since start" : "no reads yet");
}

const isUsed = (name) => last.parts.some((part) => part.name === name && part.state !== "off");
const usesRedis = () => isUsed("Redis");
const ORDER = ["bad", "warn", "good"];

function showParts() {
  const { memory, parts } = last;
  const own = { name: "Memory", state: "good", word: count(memory.entries) + (memory.entries === 1 ? " snapshot" : " snapshots"), detail: bytes(memory.bytes) + " of " + bytes(memory.bytes_max) };
  const used = [own, ...parts].filter((part) => part.state !== "off");
  const all = ORDER.flatMap((state) => used.filter((part) => part.state === state));
  const unused = parts.filter((part) => part.state === "off").map((part) => part.name);
  set("unused", unused.length ? "Not in use: " + unused.join(", ") + "." : "");
  document.body.dataset.redis = usesRedis() ? "on" : "off";
  document.body.dataset.view = isUsed("View build") ? "on" : "off";
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
  });
}

function showCharts() {
  const from = span()[0] * 1000 - 2000;
  const shown = seconds.filter((at) => at.at >= from);
  const x = shown.map((at) => at.at / 1000);
  const column = (of) => shown.map((at) => (at.gap ? null : of(at)));
  const any = (columns) => columns.some((values) => values.some((v) => v));
  const draw = (chart, columns, samples) => charts[chart].set([x, ...columns], !any(columns), column(samples));
  const reads = (at) => sum(at.reads, OUTCOMES);
  const groups = Object.values(GROUPS);
  draw("reads", groups.map((names) => column((at) => sum(at.reads, names) / at.lasted)), reads);
  draw("ratio", groups.map((names) => column((at) => {
    const all = sum(at.reads, OUTCOMES);
    return all ? (sum(at.reads, names) / all) * 100 : null;
  })), reads);
  const outcome = byId("outcome").value;
  draw("latency", [0, 1, 2].map((q) => column((at) => at.quantiles[outcome][q])), (at) => (outcome === "all" ? reads(at) : at.reads[outcome]));
  draw("loads", [column((at) => at.loads / at.lasted), column((at) => at.failures / at.lasted)], (at) => at.loads + at.failures);
  draw("heard", [column((at) => at.heard / at.lasted), column((at) => at.refused / at.lasted)], (at) => at.heard + at.refused);
  draw("delays", [0, 1, 2].map((which) => column((at) => at.delays[which])), (at) => at.heard);
}

// The same cells are filled again and again: nothing moves, and a selection stays.
function fill(table, rows) {
  const body = byId(table).tBodies[0];
  const headings = [...byId(table).tHead.rows[0].cells].map((cell) => cell.textContent);
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
      if (node.dataset.label !== headings[i]) node.dataset.label = headings[i];
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
  set("window-head", inWindow().replace("in the ", ""));
  const shown = OUTCOMES.filter((outcome) => outcome !== "redis" || usesRedis());
  fill("outcomes", [...shown, "all"].map((outcome) => {
    const reads = outcome === "all" ? all : totals.reads[outcome];
    const quantiles = recent.reads[outcome].quantiles.map(duration);
    const value = { text: reads ? count(reads) : "0", attributes: { "data-total": outcome, "data-value": reads } };
    return { id: outcome, css: outcome === "all" ? "sum" : reads ? "" : "zero", html: head(outcome), cells: [null, value, reads ? percent(reads, all) : NONE, count(recent.reads[outcome].count), ...quantiles] };
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
  fill("nines", TIERS.filter((tier) => tier !== "redis" || usesRedis()).map((tier) => ({
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
  for (const link of document.querySelectorAll(".api-docs")) link.href = api + "/docs";
  byId("lookup-form").hidden = !last.user_lookup;
  byId("lookup-off").hidden = last.user_lookup;
  set("try-title", sum(last.totals.reads, OUTCOMES) ? "No reads in this time" : "No reads yet");
  set("try-curl", "curl -i '" + api + "/api/user/balance?user_id=1001'");
  set("try-oha", "oha -z 30s --rand-regex-url '" + api + "/api/user/balance\\?user_id=10(0[1-9]|10)'");
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
