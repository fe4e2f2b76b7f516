// node's own HTTP server, and one GET of the rendered body per request: node node.js PORT REDIS_PORT
const http = require("http");
const Redis = require("ioredis");

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = new Redis(redisPort, "127.0.0.1");
const PREFIX = "/api/user/balance?user_id=";

const server = http.createServer(async (request, response) => {
  const { url } = request;
  if (!url.startsWith(PREFIX)) {
    response.writeHead(404).end();
    return;
  }
  try {
    const body = await redis.get("body:" + url.slice(PREFIX.length));
    if (body === null) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
    response.end(body);
  } catch {
    response.writeHead(503).end();
  }
});
server.listen(port, "127.0.0.1", 4096);
