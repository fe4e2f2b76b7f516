// The charts: how columns of seconds become lines and areas.
"use strict";

const SPANS = [60, 300, 900];
const HEIGHT = 200;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// Splits of a logarithmic axis in nanoseconds: powers of ten only.
const powers = (u, axis, min, max) => {
  const splits = [];
  for (let at = 1; at <= max; at *= 10) if (at >= min) splits.push(at);
  return splits;
};

const scales = {
  linear: (least) => ({ range: (u, min, max) => [0, Math.max(least, (max || 0) * 1.12)] }),
  share: { range: [0, 100] },
  nanos: { distr: 3, range: (u, min, max) => [10 ** Math.floor(Math.log10(Math.max(1, min || 1e3))), 10 ** Math.ceil(Math.log10(Math.max(2, max || 1e6)))] },
};

// The series to draw. `stack`: later series stand on earlier ones.
const CHARTS = {
  reads: { samples: "reads", scale: scales.linear(4), text: rate, stack: true, series: [["memory", "memory"], ["redis", "Redis"], ["source", "source + joined"], ["rest", "other"]] },
  ratio: { samples: "reads", scale: scales.share, text: (v) => (v === null || v === undefined ? NONE : (Math.floor(v * 100) / 100).toFixed(2) + " %"), axis: (v) => v + " %", stack: true, series: [["memory", "memory"], ["redis", "Redis"], ["source", "source + joined"], ["rest", "other"]] },
  latency: { samples: "reads", scale: scales.nanos, text: duration, splits: powers, series: [["p50", "p50"], ["p99", "p99"], ["p999", "p99.9"]] },
  loads: { samples: "loads", scale: scales.linear(4), text: rate, series: [["source", "loads"], ["p999", "failed"]] },
  heard: { samples: "notifications", scale: scales.linear(4), text: rate, series: [["memory", "in effect"], ["p999", "failed"]] },
  delays: { samples: "notifications", scale: scales.nanos, text: duration, splits: powers, series: [["p99", "notification to effect"], ["redis", "feed to effect"], ["rest", "view behind ledger"]] },
};

const axisText = (v) => duration(v).replace(/\.00? /, " ").replace(/\.0 /, " ");

class Chart {
  constructor(name) {
    this.name = name;
    this.made = CHARTS[name];
    this.box = document.getElementById("chart-" + name);
    this.columns = null;
    this.samples = [];
    this.aside = document.getElementById("aside-" + name);
    this.legend = this.made.series.map(([css, label]) => {
      const item = document.createElement("li");
      if (label === "Redis" || label === "feed to effect") item.className = "for-redis";
      if (label === "view behind ledger") item.className = "for-view";
      const swatch = document.createElement("i");
      swatch.className = css;
      const value = document.createElement("b");
      value.textContent = NONE;
      item.append(swatch, label, value);
      document.getElementById("legend-" + name).append(item);
      return value;
    });
    this.draw();
  }

  // Anew, as after a change of colours.
  draw() {
    if (this.plot) this.plot.destroy();
    const { series, stack, text, scale, splits, axis } = this.made;
    const lines = series.map(([css, label]) => ({
      label,
      stroke: colour(css),
      width: stack ? 1 : 1.75,
      fill: stack ? colour(css) : series.length === 1 ? colour(css) + "22" : undefined,
      points: { show: stack ? false : undefined, size: 4 },
      spanGaps: false,
    }));
    const ticks = { stroke: colour("faint"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const options = {
      width: Math.max(80, this.box.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      padding: [6, 18, 0, 0],
      cursor: { sync: { key: "page" }, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => span() }, y: scale },
      axes: [
        { ...ticks, size: 26, space: 90, incrs: [5, 10, 15, 30, 60, 120, 180, 300], values: (u, at) => at.map((s) => clock(s * 1000).slice(0, at.length > 1 && at[1] - at[0] >= 60 ? 5 : 8)) },
        { ...ticks, size: 54, splits, space: 30, filter: (u, at) => at, values: (u, at) => at.map((v) => (axis || (splits ? axisText : Number.isInteger(v) ? count : rate))(v)) },
      ],
      // The last series of a stack is the highest: it is drawn first, and the lower ones over it.
      series: [{}, ...(stack ? [...lines].reverse() : lines)],
      hooks: { setCursor: [(u) => this.told(u.cursor.idx)] },
    };
    this.plot = new uPlot(options, this.drawn(), this.box);
  }

  // x, then each series as uPlot draws it.
  drawn() {
    if (!this.columns) return [[], ...this.made.series.map(() => [])];
    const [x, ...own] = this.columns;
    if (!this.made.stack) return [x, ...own];
    const sums = [];
    own.forEach((column, at) => sums.push(column.map((v, i) => (v === null ? null : v + (at ? sums[at - 1][i] : 0)))));
    return [x, ...sums.reverse()];
  }

  // Columns: x in seconds, then one per series, as they are (not stacked). `samples`: how many values each second has.
  set(columns, empty, samples) {
    this.columns = columns;
    this.samples = samples;
    this.box.dataset.empty = String(empty);
    this.plot.setData(this.drawn());
    const at = this.plot.cursor.idx;
    this.told(at === undefined ? null : at);
  }

  // The legend shows the second under the cursor, else the newest.
  told(idx) {
    if (!this.columns) return;
    const x = this.columns[0];
    const hovered = idx !== null && idx !== undefined && this.plot.cursor.left >= 0;
    const at = hovered ? idx : x.length - 1;
    this.legend.forEach((value, i) => {
      value.textContent = this.made.text(at < 0 ? null : this.columns[i + 1][at]);
    });
    const samples = at < 0 ? null : this.samples[at];
    this.aside.textContent = samples === null || samples === undefined ? "" : "numbers: 1 s at " + clock(x[at] * 1000) + ", " + count(samples) + " " + this.made.samples;
  }

  resize() {
    const width = Math.max(80, this.box.clientWidth);
    if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }
}
