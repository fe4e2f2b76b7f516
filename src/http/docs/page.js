// The page: reads the description, shows each operation, sends what is filled in, and shows what came back as it came.
"use strict";

const byId = (id) => document.getElementById(id);
let description = null;

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Words between backticks are code.
function prose(text) {
  return (text || "").split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));
}

// The target of a reference; members beside it count, too.
function resolved(node) {
  if (!node || !node.$ref) return node;
  const path = node.$ref.split("/").slice(1);
  return { ...resolved(path.reduce((at, key) => at[key], description)), ...node };
}

const example = (of) => (Array.isArray(of.example) ? of.example.join(",") : of.example);
const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

// === JSON as text ===

// Lines and indents are put in, and nothing else is touched: numbers stay as they came, of any length.
function laidOut(text) {
  let out = "", depth = 0, inside = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (let i = 0; i < text.length; i += 1) {
    const at = text[i];
    if (inside) {
      out += at;
      if (at === "\\") out += text[(i += 1)] || "";
      else if (at === '"') inside = false;
    } else if (at === '"') {
      inside = true;
      out += at;
    } else if (at === "{" || at === "[") {
      const empty = /^\s*[}\]]/.exec(text.slice(i + 1, i + 50));
      if (empty) {
        out += at + empty[0].trim();
        i += empty[0].length;
      } else {
        depth += 1;
        out += at + line();
      }
    } else if (at === "}" || at === "]") {
      depth = Math.max(0, depth - 1);
      out += line() + at;
    } else if (at === ",") out += at + line();
    else if (at === ":") out += ": ";
    else if (!/\s/.test(at)) out += at;
  }
  return out;
}

// === one operation ===

function field(card, parameter, optional) {
  const id = `${card.id}-${parameter.name}`;
  const choices = ((resolved(parameter.schema) || {}).oneOf || []).flatMap((one) => one.enum || []);
  const list = choices.length ? `${id}-choices` : null;
  const input = element("input", {
    id, list, autocomplete: "off", spellcheck: "false",
    "data-name": parameter.name, "data-in": parameter.in,
    placeholder: optional ? example(parameter) : null,
    value: optional ? null : example(parameter),
  });
  return element("div", { class: "field" },
    element("label", { for: id }, parameter.name, optional ? null : element("b", { title: "required" }, " *")),
    input,
    list && element("datalist", { id: list }, ...choices.map((value) => element("option", { value }))),
    element("p", {}, ...prose(parameter.description)));
}

function body(card, operation) {
  const content = operation.requestBody.content["application/json"];
  const area = element("textarea", { id: `${card.id}-body`, spellcheck: "false", "aria-label": "Body", "data-body": true });
  const fill = (name) => { area.value = JSON.stringify(content.examples[name].value, null, 2); };
  const names = Object.keys(content.examples);
  fill(names[0]);
  const pick = names.length > 1 && element("select", { "aria-label": "Example" },
    ...names.map((name) => element("option", { value: name }, content.examples[name].summary || name)));
  if (pick) pick.addEventListener("change", () => { fill(pick.value); area.dispatchEvent(new Event("input", { bubbles: true })); });
  return [element("h4", {}, "Body"), pick || null, area];
}

// The filled-in form, as a request.
function request(card, method, path) {
  const query = [], headers = {};
  let place = path;
  for (const input of card.querySelectorAll("input[data-name]")) {
    const value = input.value.trim();
    if (value === "") continue;
    if (input.dataset.in === "query") query.push(`${input.dataset.name}=${encodeURIComponent(value).replaceAll("%3A", ":").replaceAll("%2C", ",")}`);
    else if (input.dataset.in === "path") place = place.replace(`{${input.dataset.name}}`, encodeURIComponent(value));
    else headers[input.dataset.name] = value;
  }
  const area = card.querySelector("[data-body]");
  if (area) headers["Content-Type"] = "application/json";
  const token = byId("token").value.trim();
  if (token && card.dataset.scope) headers.Authorization = `Bearer ${token}`;
  // Relative: the service may stand behind a prefix of somebody's proxy.
  return { method: method.toUpperCase(), url: place.slice(1) + (query.length ? "?" + query.join("&") : ""), headers, body: area ? area.value : undefined };
}

function curl(request) {
  const parts = ["curl -i"];
  for (const [name, value] of Object.entries(request.headers)) {
    parts.push(`-H ${quoted(name === "Authorization" ? "Authorization: Bearer …" : `${name}: ${value}`)}`);
  }
  if (request.body !== undefined) parts.push(`-d ${quoted(request.body)}`);
  return [...parts, quoted(new URL(request.url, location.href).href)].join(" ");
}

async function send(request) {
  const { url, method, body } = request;
  // With a Cache-Control of its own, the browser puts in none: "no-cache" would ask the ledger.
  const headers = { "Cache-Control": "max-age=0", ...request.headers };
  const begun = performance.now();
  const answer = await fetch(url, { method, headers, body, cache: "no-store", credentials: "omit", redirect: "error" });
  const text = await answer.text();
  return { answer, text, took: performance.now() - begun };
}

function shown({ answer, text, took }) {
  const kind = answer.status < 400 ? "good" : answer.status < 500 ? "warn" : "bad";
  const json = (answer.headers.get("content-type") || "").includes("json");
  const rows = [...answer.headers].map(([name, value]) => element("tr", {}, element("th", {}, name), element("td", {}, value)));
  return [
    element("div", { class: "verdict" },
      element("span", { class: `badge ${kind}` }, `${answer.status} ${answer.statusText}`),
      element("span", { class: "soft" }, `${took.toFixed(1)} ms, ${new Blob([text]).size} bytes`)),
    element("pre", { class: "body" }, text === "" ? "no body" : json ? laidOut(text) : text),
    element("table", { class: "headers" }, ...rows),
  ];
}

function outcomes(operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) => {
    const content = Object.values(response.content || {})[0] || {};
    const pictures = Object.values(content.examples || {}).map((one) => element("pre", {}, laidOut(JSON.stringify(one.value))));
    const more = pictures.length ? element("details", { class: "more" }, element("summary", {}, "example"), ...pictures) : null;
    return element("tr", {}, element("th", {}, status), element("td", {}, ...prose(response.description), more));
  });
  return element("details", { class: "more wide" }, element("summary", {}, "What it may answer"), element("table", {}, ...rows));
}

function form(card, path, method, operation) {
  const parameters = operation.parameters.map(resolved);
  const line = element("pre", { class: "curl", "aria-label": "The same with curl" });
  const answer = element("div", { class: "answer", role: "status", "aria-live": "polite" }, element("p", { class: "soft" }, "Not sent yet."));
  const go = element("button", { type: "button", class: "go" }, "Send");
  const copy = element("button", { type: "button" }, "Copy curl");
  const refresh = () => { line.textContent = curl(request(card, method, path)); };
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      answer.replaceChildren(...shown(await send(request(card, method, path))));
    } catch (error) {
      answer.replaceChildren(element("div", { class: "verdict" }, element("span", { class: "badge bad" }, "no answer"), String(error.message)));
    }
    go.disabled = false;
  });
  copy.addEventListener("click", () => navigator.clipboard.writeText(line.textContent).catch(() => getSelection().selectAllChildren(line)));
  card.addEventListener("input", refresh);
  card.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("input")) go.click(); });
  const common = parameters.filter((one) => one.in === "query" || one.in === "path");
  const rest = parameters.filter((one) => one.in !== "query" && one.in !== "path");
  const asked = element("div", {},
    ...common.map((one) => field(card, one, !one.required)),
    ...(operation.requestBody ? body(card, operation) : []),
    rest.length ? element("details", { class: "more" }, element("summary", {}, "Headers"), ...rest.map((one) => field(card, one, true))) : null,
    element("div", { class: "send" }, go, copy), line);
  card.append(element("div", { class: "inside" },
    element("p", { class: "wide" }, ...prose(operation.description)),
    asked, element("div", {}, element("h4", {}, "Answer"), answer), outcomes(operation)));
  refresh();
  return refresh;
}

// Another listener's routes cannot be asked from here; they are links.
function elsewhere(item, path, card) {
  const [server] = item.servers;
  const address = Object.entries(server.variables || {}).reduce((url, [name, one]) => url.replace(`{${name}}`, one.default), server.url) + path;
  card.append(element("div", { class: "inside" },
    element("p", { class: "wide" }, `On ${server.description}: `, element("a", { href: address, rel: "noreferrer" }, address)), outcomes(item.get)));
}

function operation(path, method, item) {
  const of = item[method];
  const scope = (of.security || []).flatMap((one) => one.token || [])[0];
  const card = element("details", { class: "operation", id: of.operationId, "data-scope": scope },
    element("summary", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()), element("code", { class: "path" }, path),
      element("span", { class: "soft" }, of.summary), scope ? element("span", { class: "scope" }, `scope ${scope}`) : null));
  let refresh = null;
  card.addEventListener("toggle", () => {
    if (!card.open || card.childElementCount > 1) return;
    if (item.servers) elsewhere(item, path, card);
    else refresh = form(card, path, method, of);
  });
  byId("token").addEventListener("input", () => refresh && refresh());
  return card;
}

// === the page ===

function show() {
  const { info, tags, paths } = description;
  byId("version").textContent = info.version;
  byId("about").replaceChildren(...prose(info.description));
  byId("token-field").hidden = !Object.values(paths).some((item) => Object.values(item).some((of) => of.security && of.security.length === 1));
  const groups = tags.map((tag) => {
    const cards = Object.entries(paths).flatMap(([path, item]) =>
      ["get", "post"].filter((method) => item[method] && item[method].tags.includes(tag.name)).map((method) => operation(path, method, item)));
    return element("section", {}, element("h2", {}, tag.name, element("small", {}, tag.description)), ...cards);
  });
  byId("operations").replaceChildren(...groups);
  const named = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  const first = named || document.querySelector("details.operation");
  if (first) first.open = true;
  if (named) named.scrollIntoView();
  document.body.dataset.state = "ready";
}

function colours(theme) {
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.querySelectorAll("#theme button").forEach((one) => one.setAttribute("aria-pressed", one.dataset.theme === theme));
}

byId("token-field").addEventListener("submit", (event) => event.preventDefault());
let theme = "auto";
document.querySelectorAll("#theme button").forEach((one) => one.addEventListener("click", () => colours((theme = one.dataset.theme))));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours(theme));
colours(theme);

fetch("openapi.json").then((answer) => answer.json()).then((read) => { description = read; show(); }).catch((error) => {
  document.body.dataset.state = "lost";
  byId("about").textContent = `The description cannot be read: ${error.message}. Is the service up? Load the page again.`;
});
