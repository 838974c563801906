/* Episodes and traces: prompt, response, feedback, reflection, teacher's context, loss per token. */
function showEpisodes() {
  if (!DATA.viewers.length) return;
  const telling = (told) => DATA.viewers.findIndex((v) => v.list.some(told));
  const first = [telling((e) => e.examples.length), telling((e) => e.reflection), 0].find((i) => i >= 0);
  const state = { viewer: DATA.viewers[first], update: "", outcome: "", words: "", chosen: null };
  const list = el("ul", { class: "list", "aria-label": "Episodes" }), detail = el("div", { class: "steps", "aria-live": "off" }), updates = el("span", {}), parts = el("span", {}), count = el("p", { class: "lead" });
  const matches = (e) => (!state.update || String(e.update) === state.update) && (!state.outcome || (state.outcome === "won" ? e.success : state.outcome === "lost" ? !e.success : e.examples.length > 0)) &&
    (!state.words || [e.id, e.kind, ...e.turns.map((t) => t.response)].some((t) => t.toLowerCase().includes(state.words)));
  const open = (episode) => {
    state.chosen = episode;
    for (const button of list.querySelectorAll("button")) {
      if (button.episode === episode) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
    }
    detail.replaceChildren(...showEpisode(episode, state.viewer));
  };
  const refresh = () => {
    const found = state.viewer.list.filter(matches);
    const { list: held, left_out: more, about } = state.viewer;
    count.textContent = (about ? `${about}. ` : "") + (held.length ? `${found.length} of ${held.length} episodes shown` + (more ? `; ${more} more are in the run's records.` : ".") : "Their texts were not kept.");
    list.replaceChildren(...found.map((episode) => {
      const button = el("button", { type: "button", class: episode.success ? "won" : null, onclick: () => open(episode) },
        el("b", {}, episode.task), el("small", {}, `${episode.success ? "✓ success" : "✗ " + (episode.kind || "failure")} · ${when(episode, state.viewer)}${episode.examples.some((x) => x.tokens.length) ? " · traced" : ""}`));
      button.episode = episode;
      return el("li", {}, button);
    }));
    const traced = found.filter((e) => e.examples.some((x) => x.tokens.length));
    const chosen = found.includes(state.chosen) ? state.chosen : traced.find((e) => !e.success) || traced[0] || found.find((e) => !e.success) || found[0];
    if (chosen) open(chosen); else detail.replaceChildren(el("p", { class: "lead" }, "No episode fits."));
  };
  const chooseUpdates = () => {
    const all = [...new Set(state.viewer.list.map((e) => e.update))];
    updates.replaceChildren(all.length < 2 ? "" : choice("update", [["", "all"], ...all.map((u) => [String(u), String(u)])], state.update, (v) => { state.update = v; refresh(); }));
  };
  const view = (i) => {
    Object.assign(state, { viewer: DATA.viewers[+i], update: "", chosen: null });
    chooseUpdates();
    refresh();
  };
  const chooseParts = () => {
    const own = DATA.viewers.map((v, i) => [String(i), v.part, v.label]).filter(([, , label]) => label === state.viewer.label);
    parts.replaceChildren(own.length < 2 ? "" : segments("Attempts", own.map(([i, part]) => [i, part]), String(DATA.viewers.indexOf(state.viewer)), view));
  };
  const runs = [...new Map(DATA.viewers.map((v) => [v.label, v])).values()];
  const run = runs.length > 1 && choice("run", runs.map(({ label }) => [String(DATA.viewers.findIndex((v) => v.label === label)), label]),
    String(DATA.viewers.findIndex((v) => v.label === state.viewer.label)), (i) => { view(i); chooseParts(); });
  const words = el("input", { type: "search", placeholder: "task, error, words of the response", "aria-label": "Search episodes", oninput: () => { state.words = words.value.toLowerCase(); refresh(); } });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...list.querySelectorAll("button")], next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) { next.focus(); next.click(); }
  });
  section("episodes", DATA.kind === "trace" ? "Trace" : "Episodes and traces", "Single episodes, and where they were traced, what the loss did to each of their tokens.",
    el("div", { class: "bar" }, run, parts, updates, choice("outcome", [["", "all"], ["won", "successes"], ["lost", "failures"], ["traced", "traced"]], "", (v) => { state.outcome = v; refresh(); }), words), count,
    el("div", { class: "viewer" }, list, detail));
  chooseParts();
  chooseUpdates();
  refresh();
}

/* An evaluation has samples of tasks after an update, training has attempts in one. */
const when = (episode, viewer) => (viewer.about ? `after ${plural(episode.update, "update")} · sample ${episode.attempt}` : `update ${episode.update} · attempt ${episode.attempt}`);

function showEpisode(episode, viewer) {
  const parts = [el("div", {}, el("h3", {}, episode.task), el("p", {}, el("span", { class: "chip " + (episode.success ? "good" : "bad") }, episode.success ? "success" : episode.kind || "failure"), " ",
    missing(episode.score) ? null : `${percent(episode.score)} of test cases · `, when(episode, viewer), episode.stop && episode.stop !== "eos" ? ` · stopped by ${episode.stop}` : null))];
  if (episode.cases.length) parts.push(el("div", { class: "cases", role: "img", "aria-label": `${episode.cases.filter((c) => c[1]).length} of ${episode.cases.length} test cases passed` },
    episode.cases.map(([name, passed, kind]) => tip.on(el("i", { class: passed ? null : "no" }), () => `${name}: ${passed ? "passed" : kind || "failed"}`))));
  const step = (title, ...inside) => parts.push(el("div", { class: "box" }, el("h4", {}, title), inside));
  episode.turns.forEach((turn, t) => {
    const many = episode.turns.length > 1 ? ` ${t + 1}` : "", example = episode.examples.find((x) => x.turn === t && x.tokens.length);
    for (const [role, content] of turn.messages) step((role === "user" ? "prompt" : role) + many, block(content));
    if (example) step(`response${many}, token by token`, tokens(example, viewer.weights[episode.update] || {}));
    else step("response" + many, block(turn.response));
    if (!missing(turn.answer)) step(`answer${many}: the response without its reasoning`, block(turn.answer));
  });
  if (episode.error) step("error of the environment", block(episode.error));
  if (episode.feedback) step("feedback", block(episode.feedback));
  if (episode.reflection) step("reflection", block(episode.reflection.text));
  const taught = episode.examples.find((x) => x.teacher);
  if (taught) step("what the teacher sees" + (taught.shed ? `, ${plural(taught.shed, "section")} left out to fit` : ""), taught.teacher.map(([role, content]) => [taught.teacher.length > 1 ? el("p", { class: "eyebrow" }, role) : null, block(content)]));
  if (!episode.examples.length && DATA.kind === "trace") parts.push(el("p", { class: "note" }, "Nothing was learned from this attempt, or it is beyond the number of examples asked for."));
  if (!episode.examples.length && DATA.kind !== "trace" && viewer.folder) {
    parts.push(el("p", { class: "lead" }, "Teacher's context and losses of tokens, by repeating the update:"), el("code", { class: "cmd" }, `resd-bench trace ${quote(viewer.folder)} --episode ${quote(episode.id)}`));
  }
  return parts;
}

const quote = (text) => (/^[\w\/.:=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/* How a token is coloured. `of` gives null where it is not known. */
const MODES = {
  loss: { name: "loss", of: (t) => t.loss, signed: false, why: "what this token adds to the loss, all weights included" },
  ratio: { name: "teacher − student", of: (t) => (missing(t.teacher) ? null : t.teacher - t.student), signed: true, why: "log-probability: orange where the teacher would have said something else, blue where it agrees more" },
  surprise: { name: "surprise", of: (t) => -t.student, signed: false, why: "how improbable the student itself finds the token" },
};

function tokens(example, weights) {
  const modes = Object.keys(MODES).filter((m) => example.tokens.some((t) => !missing(MODES[m].of(t)) && MODES[m].of(t) !== 0));
  const field = el("div", { class: "tokens", role: "listbox", "aria-label": "Tokens of the response; arrow keys move" }), sides = el("div", { class: "sides" }), scale = el("span", {});
  const spans = example.tokens.map((token, i) => el("span", { class: "tok", role: "option", tabindex: i ? -1 : 0, onclick: () => pick(i), onfocus: () => pick(i) }, glyphs(token.text)));
  field.append(...spans);
  const pick = (i) => {
    spans.forEach((span, j) => { if (j === i) span.setAttribute("aria-current", "true"); else span.removeAttribute("aria-current"); span.tabIndex = j === i ? 0 : -1; });
    sides.replaceChildren(...showToken(example.tokens[i], i));
  };
  field.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8, Home: -1e9, End: 1e9 }[event.key];
    if (!step) return;
    event.preventDefault();
    spans[clamp(spans.indexOf(document.activeElement) + step, 0, spans.length - 1)].focus();
  });
  const paint = (mode) => {
    const { of, signed, why } = MODES[mode], values = example.tokens.map(of);
    const sizes = values.map((v) => Math.abs(v || 0)).sort((a, b) => a - b), top = sizes[Math.ceil((sizes.length - 1) * 0.98)] || sizes.at(-1) || 1;
    spans.forEach((span, i) => {
      span.style.setProperty("--v", Math.sqrt(clamp(Math.abs(values[i] || 0) / top, 0, 1)).toFixed(3));
      span.style.setProperty("--tone", signed && values[i] > 0 ? "var(--cool)" : "var(--heat)");
    });
    scale.replaceChildren(el("span", { class: "scale " + (signed ? "ratio" : "loss"), title: why }, signed ? (-top).toPrecision(2) : "0", el("i", {}), `${top.toPrecision(2)}${mode === "loss" ? "" : " nats"} and more`));
    say(why);
  };
  const start = modes.includes("loss") ? "loss" : modes[0] || "surprise";
  const strongest = example.tokens.reduce((best, t, i) => (Math.abs(MODES[start].of(t) || 0) > Math.abs(MODES[start].of(example.tokens[best]) || 0) ? i : best), 0);
  paint(start);
  pick(strongest);
  return [el("div", { class: "bar keep" }, segments("Colour", modes.map((m) => [m, MODES[m].name]), start, paint), scale),
    el("div", { class: "trace" }, field, sides), example.left_out ? el("p", { class: "note" }, `${example.left_out} further tokens are not shown.`) : null, el("p", { class: "lead" }, scored(weights))];
}

function scored(weights) {
  if (missing(weights.after_updates)) return "";
  const same = weights.same ? ` ${weights.same[0]} of ${weights.same[1]} responses of this update came out as recorded.` : "";
  const how = weights.how === "repeated" ? `, repeated from ${weights.checkpoint ? "checkpoint " + weights.checkpoint : "the start of the run"}.${same}` : ", recorded during the run.";
  return `Scored with the weights after ${plural(weights.after_updates, "update")}${how}`;
}

/* Blanks that carry meaning are shown, and stay blanks to copy. */
function glyphs(text) {
  return visible(text).split(/(\n)/).map((part) => (part === "\n" ? [el("span", { class: "ws", "aria-hidden": "true" }, "↵"), "\n"] : part));
}
const oneLine = (text) => visible(text).replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/^ +| +$/g, (s) => "·".repeat(s.length)) || "(nothing)";

function showToken(token, index) {
  const own = oneLine(token.text);
  const fact = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const probability = (logp) => (missing(logp) ? "–" : `${percent(Math.exp(logp))}  (${logp.toFixed(3)})`);
  const side = (title, tops, tone) => el("div", {}, el("h5", {}, title), tops.length ? tops.map(([text, p]) => el("div", { class: "alt" + (oneLine(text) === own ? " own" : ""), "--v": p, "--tone": tone }, el("code", {}, oneLine(text)), el("span", {}, percent(p)))) : el("span", { class: "lead" }, "no teacher"));
  return [el("div", {}, el("b", {}, el("code", {}, own)), el("span", { class: "lead" }, `  token ${index + 1}, id ${token.id}`)),
    el("dl", { class: "facts" }, fact("loss", missing(token.loss) ? "–" : token.loss.toFixed(4)), fact("student", probability(token.student)), fact("teacher", probability(token.teacher)), fact("when sampled", probability(token.sampled))),
    el("div", { class: "pair" }, side("student would say", token.student_top, "var(--s0)"), side("teacher would say", token.teacher_top, "var(--s1)"))];
}
