// Shows it: the strip, the tiles, the parts, the charts and the tables.

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
