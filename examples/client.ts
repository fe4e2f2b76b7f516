// A client of balance-cache in TypeScript, with what Node brings: no package, no build. All types can be erased.
//
//   node client.ts read USER [MIN_SEQ]   not older than MIN_SEQ, as BTC:18,USDT:9
//   node client.ts notify JSON           one notification or an array; again until it is acknowledged
//
// Node 23.6 runs it as it is, Node 22.6 with --experimental-strip-types, older ones after `tsc`.
// BALANCE_CACHE_URL (http://127.0.0.1:3001), BALANCE_CACHE_TOKEN. Exit code 1: no answer that counts.

// Amounts are decimal strings of whole units, exact: do not make a number of them. A seq above 2^53 needs a parser that keeps it.
interface Balance {
  asset: string;
  avail: string;
  frozen: string;
  seq: number;
  updated_at: number | null;
  unit?: "raw";
}

interface Applied {
  applied: number;
  old: number;
}

const TRIES = 10;
const WAIT_MAX_SECONDS = 30;
const url: string = process.env.BALANCE_CACHE_URL ?? "http://127.0.0.1:3001";
const headers: Record<string, string> = { "content-type": "application/json" };
if (process.env.BALANCE_CACHE_TOKEN) headers.authorization = `Bearer ${process.env.BALANCE_CACHE_TOKEN}`;

/** All balances of a user, not older than `minSeq`. */
function readBalances(userId: string, minSeq?: string): Promise<Balance[]> {
  const query = new URLSearchParams({ user_id: userId });
  if (minSeq) query.set("min_seq", minSeq);
  return ask(`/api/user/balance?${query}`, { headers });
}

/** Resolves when every later read shows it. Until then keep it and send it again: repeats are harmless. */
function notify(notifications: string): Promise<Applied> {
  return ask("/api/v1/settlements", { method: "POST", headers, body: notifications });
}

async function ask(path: string, request: RequestInit): Promise<any> {
  let problem: unknown = null;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    let wait: number = 1;
    try {
      const answer = await fetch(url + path, { ...request, signal: AbortSignal.timeout(10_000) });
      const envelope = await answer.json();
      if (answer.ok) return envelope.data;
      problem = `${answer.status}/${envelope.status}: ${envelope.msg}`;
      if (answer.status !== 429 && answer.status !== 503) break;
      wait = Number(answer.headers.get("retry-after") ?? 1);
    } catch (error) {
      problem = error; // no connection, or no answer in time
    }
    // A little more than asked for, so that many clients do not come back at once.
    const pause: number = Math.min(wait, WAIT_MAX_SECONDS) + Math.random() / 4;
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
  throw problem;
}

async function main(words: string[]): Promise<void> {
  try {
    if (words[0] === "read" && words[1]) console.log(JSON.stringify(await readBalances(words[1], words[2])));
    else if (words[0] === "notify" && words[1]) console.log(JSON.stringify(await notify(words[1])));
    else process.exitCode = 2;
  } catch (problem) {
    console.error(String(problem));
    process.exitCode = 1;
  }
}

main(process.argv.slice(2));
