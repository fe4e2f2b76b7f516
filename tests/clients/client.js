// Asks the cases in turn: node client.js ADDRESS TOKEN CASES ROUNDS. Prints what was lost.
const fs = require("fs");
const http = require("http");

const [address, token, cases, rounds] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const [host, port] = address.split(":");
const wanted = fs.readFileSync(cases, "utf8").split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
  const [method, path, auth, kind, size, status] = line.split(" ");
  const headers = auth === "token" ? { Authorization: `Bearer ${token}` } : {};
  if (kind !== "-") headers["Content-Type"] = kind;
  const body = method === "POST" ? (Number(size) ? " ".repeat(Number(size)) : '{"user_id":1001}') : "";
  if (method === "POST") headers["Content-Length"] = body.length;
  return { method, path, headers, body, status: Number(status) };
});

const ask = (one) => new Promise((resolve) => {
  const request = http.request({ agent, host, port, method: one.method, path: one.path, headers: one.headers }, (answer) => {
    answer.on("end", () => resolve(answer.statusCode)).on("error", resolve);
    answer.resume();
  });
  request.on("error", resolve);
  request.end(one.body);
});

(async () => {
  let asked = 0, lost = 0;
  for (let round = 0; round < Number(rounds); round++) {
    for (const one of wanted) {
      const status = await ask(one);
      asked++;
      if (status !== one.status) {
        lost++;
        console.log(`node: ${one.method} ${one.path}: ${status} instead of ${one.status}`);
      }
    }
  }
  console.log(`node: ${asked} asked, ${lost} lost`);
  process.exit(lost ? 1 : 0);
})();
