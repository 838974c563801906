/* What a suite of runs came to: verdicts, curves, budgets, latency, heat map. */
function headline() {
  const [first, ...others] = DATA.results;
  const named = (word) => others.filter((r) => r.verdict === word).map((r) => r.label);
  const parts = [["better", named("better")], ["worse", named("worse")], ["inconclusive", named("inconclusive")]]
    .filter(([, labels]) => labels.length)
    .map(([word, labels], i) => [i ? "; " : "", el("span", { class: "verdict " + word }, word), ": " + labels.join(", ")]);
  const unlike = others.filter((r) => r.unlike.length).map((r) => r.label);
  const counted = first.with_failures ? ` (${limits(first.with_failures)} with attempts without a verdict as failures)` : "";
  return [
    el("p", { class: "lead" }, `At ${DATA.budget}, ${first.label} reaches ${limits(first.success)}${counted} held-out success. `,
      parts.length ? [`Compared with it, `, parts, ". "] : null,
      unlike.length ? `Measured differently, so not compared: ${unlike.join(", ")}. ` : null),
    missingVerdicts(),
    faultsInTraining(),
  ];
}

function faultsInTraining() {
  if (!DATA.faults.length) return null;
  return el("details", { class: "lead", role: "alert" }, el("summary", {}, el("strong", {}, `${plural(DATA.faults.length, "fault")} in training. `)),
    el("ul", {}, DATA.faults.map((fault) => el("li", {}, fault))));
}

function missingVerdicts() {
  const without = DATA.results.filter((r) => r.left_out).map((r) => `${r.label}: ${r.left_out}`);
  return without.length ? el("p", { class: "lead", role: "alert" }, el("strong", {}, `Attempts without a verdict: ${without.join(", ")}. `),
    "Means leave them out; the mean that counts them as failures is shown next to each.") : null;
}

function showResults() {
  const data = DATA.tables.success;
  const top = Math.max(0.05, ...DATA.results.map((r) => r.success.high ?? r.success.mean ?? 0));
  const shown = { ...data, columns: [...data.columns], rows: data.rows.map((row) => [...row]) };
  shown.columns.splice(3, 0, { name: `0 to ${percent(top)}` });
  shown.rows.forEach((row, r) => row.splice(3, 0, whisker(r, DATA.results[r].success, top)));
  const box = section("results", "Results", null, headline());
  box.append(table(shown, (cell, r, c) => (c === 0 ? [swatch(r), cell] : typeof cell === "string" ? verdict(cell) : cell)));
  if (DATA.tables.take_off) {
    box.append(el("h3", {}, "How many runs took off"), table(DATA.tables.take_off, verdict));
  }
  if (DATA.tables.speed) {
    box.append(el("h3", {}, "How fast"), el("p", { class: "lead" }, DATA.tables.speed.title));
    box.append(table(DATA.tables.speed, (cell, r, c) => (c === 0 ? [swatch(r), cell] : verdict(cell))));
  }
  if (DATA.tables.written) {
    box.append(el("h3", {}, "What the methods wrote"));
    box.append(el("p", { class: "lead" }, DATA.tables.written.title), table(DATA.tables.written));
  }
  box.append(el("details", {}, el("summary", {}, "Every other metric"), table(DATA.tables.detail)));
}

function showCurves() {
  const axes = Object.entries(DATA.curves.axes);
  const hidden = new Set();
  let axis = axes[0][0];
  const host = el("div", { class: "panels" });
  const draw = () => host.replaceChildren(...DATA.curves.panels.map((panel) => {
    const chart = el("div", { class: "chart" });
    const series = panel.series.filter((s) => !hidden.has(s.group)).map((s) => ({
      index: s.group, label: DATA.groups[s.group].label, x: s.x[axis], mean: s.mean, low: s.low, high: s.high,
      thin: s.seeds.length > 1 ? s.seeds.map((seed) => ({ x: seed.x[axis], mean: seed.mean })) : [],
    }));
    const highest = Math.max(0.05, ...panel.series.flatMap((s) => [...s.high, ...s.mean, ...s.seeds.flatMap((d) => d.mean)]).filter((v) => !missing(v)));
    requestAnimationFrame(() => lineChart(chart, {
      series, xName: DATA.curves.axes[axis], yMax: Math.min(1, highest * 1.05), yText: (v) => Math.round(1000 * v) / 10 + "%",
      told: (m, low, high) => limits({ mean: m, low, high }), label: `Held-out success over ${DATA.curves.axes[axis]}, ${panel.env}`,
    }));
    return el("div", {}, DATA.curves.panels.length > 1 && el("h3", {}, panel.env), chart);
  }));
  const legend = DATA.groups.map((group, g) => el("button", {
    type: "button", "aria-pressed": "true",
    onclick: (event) => {
      const off = !hidden.has(g);
      if (off) hidden.add(g); else hidden.delete(g);
      event.currentTarget.setAttribute("aria-pressed", String(!off));
      draw();
    },
  }, swatch(g), `${group.label} (${plural(group.runs, "run")})`));
  section("curves", "Learning curves", "Held-out success. Thick lines: mean over runs with its 95% interval; thin lines: single runs. Point at a curve, or focus it and use the arrow keys.",
    el("div", { class: "bar" }, el("label", {}, "over"), segments("Horizontal axis", axes, axis, (chosen) => { axis = chosen; draw(); })),
    el("div", { class: "bar keep" }, legend), host);
  draw();
}

function stacks(title, parts) {
  const total = (own) => sum(parts.map(([name]) => own[name]?.mean || 0));
  const most = Math.max(...DATA.ledger.map(total));
  if (!(most > 0)) return null;
  const rows = DATA.ledger.map((own, g) => {
    const bars = parts.filter(([name]) => own[name]?.mean).map(([name, tone]) => tip.on(
      el("i", { "--c": tone }), () => `${DATA.ledger_names[name]}: ${amount(own[name].mean)}`));
    bars.forEach((bar, i) => {
      const [name, tone] = parts.filter(([n]) => own[n]?.mean)[i];
      bar.style.width = (100 * own[name].mean) / most + "%";
      bar.style.background = tone;
    });
    return [el("span", {}, swatch(g), DATA.groups[g].label), el("div", { class: "stack" }, bars), el("span", {}, amount(total(own)))];
  });
  const key = parts.map(([name, tone]) => el("span", { class: "scale" }, el("span", { class: "swatch", "--c": tone }), DATA.ledger_names[name]));
  return [el("h3", {}, title), el("div", { class: "bar keep" }, key), el("div", { class: "stacks" }, rows)];
}

function showLedger() {
  const names = Object.keys(DATA.ledger_names).filter((name) => DATA.ledger.some((own) => own[name]));
  if (!names.length) return;
  const data = {
    title: "Budget ledger", caption: "Means over runs; if runs differ, with their minimum and maximum.",
    columns: [{ name: "spent per run" }, ...DATA.groups.map((g) => ({ name: g.label, right: true }))],
    rows: names.map((name) => [DATA.ledger_names[name], ...DATA.ledger.map((own) => {
      const x = own[name];
      if (!x) return "–";
      return x.low === x.high ? amount(x.mean) : [amount(x.mean), el("small", {}, ` ${amount(x.low)}–${amount(x.high)}`)];
    })]),
  };
  section("budget", "Budget ledger", "What a run spent in total. Every generated token is charged, including reflection and curation; evaluation is not.",
    stacks("Generated tokens, charged", [["sampled_tokens", "var(--k0)"], ["reflection_tokens", "var(--k1)"]]),
    stacks("Tokens read while learning", [["trained_tokens", "var(--k0)"], ["scored_tokens", "var(--k1)"]]), table(data));
}

function showLatency() {
  const known = DATA.latency.map((own, g) => ({ own, g })).filter(({ own }) => own.updates);
  if (!known.length) return;
  const seconds = (v) => (v >= 100 ? amount(v) : v.toFixed(v < 10 ? 2 : 1)) + " s";
  const chart = el("div", { class: "chart" });
  section("latency", "Latency", "Seconds per update, for rollouts and learning without evaluation. Line: median over runs; band: fastest to slowest.", chart,
    table({
      title: "Seconds per update", columns: [{ name: "seconds per update" }, { name: "median", right: true }, { name: "90th percentile", right: true }, { name: "slowest", right: true }],
      rows: known.map(({ own, g }) => [DATA.groups[g].label, seconds(own.p50), seconds(own.p90), seconds(own.p100)]),
    }, (cell, r, c) => (c === 0 ? [swatch(known[r].g), cell] : cell)));
  requestAnimationFrame(() => lineChart(chart, {
    series: known.map(({ own, g }) => ({ index: g, label: DATA.groups[g].label, x: own.updates, mean: own.median, low: own.low, high: own.high })),
    xName: "updates", yText: (v) => amount(v) + " s", height: 260, label: "Seconds per update",
    yMax: Math.max(...known.map(({ own }) => own.p90)) * 1.6,
    told: (m, low, high) => `${seconds(m)} [${seconds(low)}, ${seconds(high)}]`,
  }));
}

function showCells() {
  const { names, runs } = DATA.cells;
  if (names.length < 2) return;
  const preferred = ["method", ...names.filter((n) => n !== "method" && n !== "seed"), "seed"].filter((n) => names.includes(n));
  let across = preferred[0], down = preferred[1], value = "success";
  const host = el("div", {});
  const methods = names.includes("method") ? [...new Set(runs.map((r) => r.values[names.indexOf("method")]))] : [];
  const alike = (a, b) => !DATA.cells.unlike.some((pair) => pair.includes(a) && pair.includes(b));
  const pairs = methods.flatMap((a) => methods.filter((b) => b !== a && alike(a, b)).map((b) => [`${methods.indexOf(a)},${methods.indexOf(b)}`, `${a} minus ${b}`]));
  const sorted = (values) => [...new Set(values)].sort((a, b) => a - b || a.localeCompare(b));
  const levels = (name) => (name === "method" ? methods : sorted(runs.map((r) => r.values[names.indexOf(name)])));
  const of = (row, name) => row.values[names.indexOf(name)];
  const draw = () => {
    const grid = levels(down).map((d) => levels(across).map((a) => {
      const here = runs.filter((r) => of(r, down) === d && of(r, across) === a && !missing(r.success));
      const rate = (rows) => mean(rows.map((r) => r.success));
      const least = mean(here.map((r) => r.with_failures));
      if (value === "success") return here.length ? { v: rate(here), n: here.length, least } : null;
      const [one, two] = value.split(",").map((m) => here.filter((r) => of(r, "method") === methods[+m]));
      return one.length && two.length ? { v: rate(one) - rate(two), n: one.length + two.length } : null;
    }));
    const signed = value !== "success";
    const cell = (x) => (x === null ? el("td", {}, "–") : el("td", {
      "--v": signed ? Math.min(1, Math.abs(x.v)) : x.v, "--tone": x.v < 0 ? "var(--heat)" : "var(--cool)",
    }, signed ? (x.v > 0 ? "+" : "") + (100 * x.v).toFixed(1) : percent(x.v), el("small", {}, plural(x.n, "run") + (x.least < x.v ? `, ${percent(x.least)} with failures` : ""))));
    host.replaceChildren(el("div", { class: "scroll", tabindex: "0" }, el("table", { class: "heat" },
      el("thead", {}, el("tr", {}, el("th", {}, `${down} ↓  ${across} →`), levels(across).map((a) => el("th", { scope: "col" }, a)))),
      el("tbody", {}, grid.map((row, i) => el("tr", {}, el("th", { scope: "row" }, levels(down)[i]), row.map(cell)))))));
  };
  const options = preferred.map((n) => [n, n]);
  section("map", "Heat map", `Success at ${DATA.budget} over any two settings that vary, or the difference between two methods that share a cell.`,
    el("div", { class: "bar" }, choice("columns", options, across, (v) => { across = v; draw(); }), choice("rows", options, down, (v) => { down = v; draw(); }),
      choice("shown", [["success", "success"], ...pairs], value, (v) => { value = v; draw(); })), host);
  draw();
}

function showAudits() {
  if (!DATA.audits.length) return;
  section("audit", "Lesson audit", "What methods wrote, searched for gold answers and task text, and their solutions graded again as they are shown.",
    DATA.audits.map((own) => el("details", { open: own.lines.length > 1 ? "" : null }, el("summary", {}, `${own.label}: ${own.lines[0]}`),
      el("ul", {}, own.lines.slice(1).map((line) => el("li", {}, line))))));
}

function showRuns() {
  const columns = [["label", "runs"], ["env", "environment"], ["model", "model"], ["seed", "seed"], ["episodes", "rollouts"], ["updates", "updates"], ["state", "state"], ["commit", "commit"], ["hardware", "hardware"], ["folder", "records"]];
  section("runs", "Runs", "Where the numbers come from. A commit with + had uncommitted changes.",
    el("details", {}, el("summary", {}, plural(DATA.runs.length, "run")), table({
      title: "Runs", columns: columns.map(([key, name]) => ({ name, right: ["seed", "episodes", "updates"].includes(key) })),
      rows: DATA.runs.map((run) => columns.map(([key]) => String(run[key]))),
    })));
}
