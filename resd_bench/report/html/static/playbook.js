/* The playbook's time machine: a slider over updates, and what happened in each. */
function showPlaybooks() {
  if (!DATA.machines.length) return;
  let machine = DATA.machines[0];
  const host = el("div", {});
  const pick = DATA.machines.length > 1 && el("div", { class: "bar" },
    choice("run", DATA.machines.map((m, i) => [String(i), m.label]), "0", (i) => { machine = DATA.machines[+i]; travel(host, machine); }));
  section("playbook", "The playbook's time machine", "What the agent remembered after each update: entries born, tagged helpful or harmful, and evicted, with the reflections they come from.", pick, host);
  travel(host, machine);
}

function travel(host, machine) {
  const states = machine.states, last = states.length - 1;
  const eventful = states.findLastIndex((s, i) => s.evicted.length || (s.reflections.length && s.held.length > (i ? states[i - 1].held.length : 0)));
  let at = eventful < 0 ? last : eventful, timer = 0;
  const slider = el("input", { type: "range", min: 0, max: last, value: at, "aria-label": "Update", oninput: () => go(+slider.value) });
  const shown = el("output", {}), lives = el("div", { class: "lives" }), detail = el("div", {});
  const play = el("button", { type: "button", "aria-label": "Play", onclick: () => (timer ? stop() : start()) }, "▶");
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); };
  const start = () => {
    if (at === last) go(0);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    timer = setInterval(() => (at === last || !host.isConnected ? stop() : go(at + 1)), 500);
  };
  const go = (index) => {
    at = clamp(index, 0, last);
    slider.value = at;
    slider.setAttribute("aria-valuetext", `after update ${states[at].update}`);
    shown.textContent = `after update ${states[at].update} of ${states[last].update}`;
    marker(lives, machine, at);
    detail.replaceChildren(moment(machine, at));
  };
  host.replaceChildren(el("div", { class: "time" },
    el("button", { type: "button", "aria-label": "Previous update", onclick: () => go(at - 1) }, "‹"), play,
    el("button", { type: "button", "aria-label": "Next update", onclick: () => go(at + 1) }, "›"), slider, shown), lives, detail);
  requestAnimationFrame(() => { drawLives(lives, machine, go); go(at); });
}

/* A line per entry from its birth to its end, thicker and greener the more it helped. */
function drawLives(host, machine, go) {
  const ids = Object.keys(machine.entries), states = machine.states;
  if (!ids.length) { host.hidden = true; return; }
  const row = ids.length > 60 ? 9 : 15, left = 8, right = 10;
  const width = clamp(host.clientWidth - 16 || 700, 260, 1150), height = ids.length * row + 22;
  const X = (i) => left + ((width - left - right) * i) / Math.max(1, states.length - 1);
  const place = new Map(states.map((s, i) => [s.update, i]));
  const final = new Map(states.flatMap((s) => s.held.map(([id, up, down]) => [id, [up, down]])));
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Lifetimes of ${ids.length} entries; the slider above chooses an update` });
  ids.forEach((id, r) => {
    const entry = machine.entries[id], [up, down] = final.get(id) || [0, 0];
    const from = X(place.get(entry.born)), end = place.get(entry.last), y = 18 + r * row, tone = down > 0 && down >= up ? "var(--bad)" : up ? "var(--good)" : "var(--muted)";
    const gone = end < states.length - 1;
    const line = svg("g", {}, svg("line", { x1: from, x2: Math.max(from + 3, X(end)), y1: y, y2: y, stroke: tone, "stroke-width": clamp(1.5 + Math.log2(1 + up + down) / 2, 1.5, row * 0.55), "stroke-linecap": "round", opacity: 0.75 }),
      svg("circle", { cx: from, cy: y, r: 2.6, fill: tone }), gone && svg("text", { x: X(end) + 5, y: y + 4 }, "×"));
    tip.on(line, () => [el("b", {}, id), el("div", {}, entry.content), el("div", {}, `after updates ${entry.born} to ${entry.last}${gone ? ", then evicted" : ""}; helpful ${up}, harmful ${down}`)]);
    root.append(line);
  });
  for (const t of ticks(0, states.length - 1, 8)) if (Number.isInteger(t)) root.append(svg("text", { x: X(t), y: 9, "text-anchor": "middle" }, states[t].update));
  root.append(svg("line", { class: "now", y1: 12, y2: height, stroke: "var(--accent)", "stroke-width": 2 }));
  root.addEventListener("click", (event) => {
    const rect = root.getBoundingClientRect(), px = ((event.clientX - rect.left) * width) / rect.width;
    go(Math.round(((px - left) * (states.length - 1)) / (width - left - right)));
  });
  host.X = X;
  host.replaceChildren(root);
}

function marker(host, machine, at) {
  const line = host.querySelector(".now");
  if (!line) return;
  line.setAttribute("x1", host.X(at));
  line.setAttribute("x2", host.X(at));
}

function moment(machine, at) {
  const state = machine.states[at], before = new Map(at ? machine.states[at - 1].held.map(([id, up, down]) => [id, [up, down]]) : []);
  const sections = new Map();
  for (const [id, up, down] of state.held) {
    const entry = machine.entries[id];
    if (!sections.has(entry.section)) sections.set(entry.section, []);
    const row = entryRow(id, entry, up, down, before.get(id));
    if (before.has(id)) sections.get(entry.section).push(row); else sections.get(entry.section).unshift(row);
  }
  const held = new Set(state.held.map(([id]) => id));
  const gone = [...new Set([...state.evicted, ...[...before.keys()].filter((id) => !held.has(id))])];
  const fresh = state.held.filter(([id]) => !before.has(id)).length;
  const counts = `${plural(state.held.length, "entry").replace("entrys", "entries")}: ${fresh} new, ${gone.length} evicted in this update`;
  const left = el("div", { class: "tall" }, el("h3", {}, counts),
    [...sections].map(([name, rows]) => [el("p", { class: "eyebrow" }, name), rows]),
    state.held.length ? null : el("p", { class: "lead" }, "No entry."),
    gone.length ? [el("p", { class: "eyebrow" }, "evicted"), gone.map((id) => el("div", { class: "entry gone" }, el("code", {}, id), el("span", { class: "say" }, machine.entries[id]?.content || "added and evicted in one update"), el("span", {})))] : null);
  const right = el("div", { class: "tall" }, el("h3", {}, plural(state.reflections.length, "reflection")),
    state.reflections.map((r) => el("div", { class: "said" }, el("header", {}, r.task, r.parsed ? null : el("span", { class: "chip bad" }, "not in the form asked for")),
      block(r.text), r.tags.length ? el("div", { class: "tags" }, r.tags.map(([id, tag]) => el("span", {}, ({ helpful: "▲ ", harmful: "▼ " }[tag] || "· ") + id))) : null)),
    state.curations.length ? [el("h3", {}, plural(state.curations.length, "curation")), state.curations.map((c) => el("div", { class: "said" },
      el("header", {}, c.task, c.parsed ? null : el("span", { class: "chip bad" }, "discarded")), c.additions.length ? c.additions.map((a) => el("div", {}, "+ ", a)) : block(c.text)))] : null);
  return el("div", { class: "split" }, left, right);
}

function entryRow(id, entry, up, down, old) {
  const [more, worse] = old ? [up - old[0], down - old[1]] : [up, down];
  const kind = !old ? "new" : worse > 0 ? "hurt" : more > 0 ? "hit" : "";
  const count = (sign, total, delta, side) => el("span", { class: side }, `${sign} ${total}`, delta > 0 && old ? ` (+${delta}) ` : " ");
  return el("div", { class: "entry " + kind }, el("code", {}, id), el("span", { class: "say" }, entry.content, " ", !old && el("span", { class: "chip good" }, "new")),
    el("span", { class: "counts", title: "helpful and harmful tags so far, and in this update" }, count("▲", up, more, "up"), count("▼", down, worse, down ? "down" : "quiet")));
}
