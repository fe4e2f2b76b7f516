// express, and one GET of the rendered body per request: node express.js PORT REDIS_PORT
const express = require("express");
const Redis = require("ioredis");

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = new Redis(redisPort, "127.0.0.1");
const app = express();

app.get("/api/user/balance", async (request, response) => {
  const body = await redis.get("body:" + request.query.user_id);
  if (body === null) {
    response.sendStatus(404);
  } else {
    response.type("json").send(body);
  }
});
app.listen(port, "127.0.0.1");
