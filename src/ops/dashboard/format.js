// How numbers are written. Nothing here touches the page.
"use strict";

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const short = new Intl.NumberFormat("en", { notation: "compact", minimumFractionDigits: 1, maximumFractionDigits: 1 });

const count = (n) => whole.format(n);
// Where there is no room: 104.2M.
const about = (n) => (n < 1e5 ? whole : short).format(n);

function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return NONE;
  return perSecond > 0 && perSecond < 10 ? tenth.format(perSecond) : whole.format(perSecond);
}

// Rounded down: what is not all is never shown as 100 %.
function percent(part, all, digits = 2) {
  if (!all) return NONE;
  if (part === all) return "100 %";
  const scale = 10 ** digits;
  return (Math.floor((part / all) * 100 * scale) / scale).toFixed(digits) + " %";
}

// Nanoseconds, as three digits and a unit.
function duration(nanos) {
  if (nanos === null || nanos === undefined) return NONE;
  const [value, unit] =
    nanos < 1e3 ? [nanos, "ns"] : nanos < 1e6 ? [nanos / 1e3, "µs"] : nanos < 1e9 ? [nanos / 1e6, "ms"] : [nanos / 1e9, "s"];
  return value.toFixed(unit === "ns" || value >= 100 ? 0 : value >= 10 ? 1 : 2) + " " + unit;
}

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1000;
    at += 1;
  }
  return (at === 0 || n >= 100 ? whole : tenth).format(n) + " " + units[at];
}

const two = (n) => String(n).padStart(2, "0");

function clock(ms) {
  const at = new Date(ms);
  return two(at.getHours()) + ":" + two(at.getMinutes()) + ":" + two(at.getSeconds());
}

// A day and a time, in UTC.
const moment = (ms) => new Date(ms).toISOString().replace("T", " ").replace(/\.\d+Z$/, "") + " UTC";

function elapsed(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

// The least share of right answers that n of them prove with 95 % confidence (Wilson's interval).
function atLeast(right, n) {
  const z2 = 1.96 ** 2;
  const p = right / n;
  const middle = p + z2 / (2 * n);
  const spread = 1.96 * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return Math.max(0, (middle - spread) / (1 + z2 / n));
}

// With as many nines as there are, but no more than four decimals; rounded down.
function nines(share) {
  if (share >= 1) return "100 %";
  const digits = Math.min(4, Math.max(1, Math.ceil(-Math.log10(1 - share))));
  const scale = 10 ** digits;
  return (Math.floor(share * 100 * scale) / scale).toFixed(digits) + " %";
}
