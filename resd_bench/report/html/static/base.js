"use strict";
/* Elements out of data. Text only ever becomes text nodes: nothing here parses HTML. */
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/* Control characters as pictures, characters that turn the writing direction by their number,
   halves of characters as replacements. */
function visible(text) {
  return String(text)
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/\p{Surrogate}/gu, "\ufffd")
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
      (c) => "⟨U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
}

const missing = (value) => value === null || value === undefined;
const percent = (value) => (missing(value) ? "–" : (100 * value).toFixed(1) + "%");
const limits = (i) => (missing(i.low) ? percent(i.mean) : `${percent(i.mean)} [${(100 * i.low).toFixed(1)}, ${(100 * i.high).toFixed(1)}]`);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((a, b) => a + b, 0);
const mean = (values) => sum(values) / values.length;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function amount(value) {
  if (missing(value)) return "–";
  for (const [scale, suffix] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= scale) return +(value / (suffix === "k" ? 1e3 : scale)).toPrecision(3) + suffix;
  }
  return String(+value.toPrecision(3));
}

/* Colours, dashes and marks tell series apart, so that no reader depends on colour alone. A method has the colour that it has in figures. */
const colour = (index) => `var(--s${(DATA.groups?.[index]?.slot ?? index) % 15})`;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4", "4 4", "1 4"];
const dash = (index) => DASHES[index % DASHES.length] || null;
const swatch = (index) => el("span", { class: "swatch", "--c": colour(index) });

function section(id, title, lead, ...children) {
  const box = el("section", { id, "aria-labelledby": id + "-title" },
    el("h2", { id: id + "-title" }, title), lead && el("p", { class: "lead" }, lead), children);
  document.getElementById("main").append(box);
  let links = document.querySelector("#nav > div");
  if (!links) document.getElementById("nav").append((links = el("div", {})));
  links.append(el("a", { href: "#" + id }, title));
  return box;
}

function choice(label, options, chosen, onchange) {
  const list = el("select", { "aria-label": label, onchange: () => onchange(list.value) },
    options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  return el("label", {}, label, list);
}

function segments(label, options, chosen, onchange) {
  const buttons = options.map(([value, text]) => el("button", {
    type: "button", "aria-pressed": String(value === chosen),
    onclick: (event) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
      onchange(value);
    },
  }, text));
  return el("span", { class: "choice", role: "group", "aria-label": label }, buttons);
}

const block = (text) => el("pre", { class: "text", tabindex: "0" }, text);
const say = (text) => { document.getElementById("said").textContent = visible(text); };

const tip = {
  box: document.getElementById("tip"),
  show(x, y, ...children) {
    this.box.replaceChildren(...children.flat(Infinity).map((c) => (c instanceof Node ? c : document.createTextNode(visible(c)))));
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    this.box.style.left = clamp(x + 14, 4, Math.max(4, innerWidth - width - 4)) + "px";
    this.box.style.top = (y + 16 + height > innerHeight ? Math.max(4, y - height - 12) : y + 16) + "px";
  },
  hide() { this.box.hidden = true; },
  on(node, content) {
    node.addEventListener("pointerenter", (event) => this.show(event.clientX, event.clientY, content()));
    node.addEventListener("pointerleave", () => this.hide());
    return node;
  },
};
addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hide(); });
addEventListener("scroll", () => tip.hide(), { passive: true });

function table(data, decorate) {
  const head = data.columns.map((c) => el("th", { scope: "col", class: c.right ? "r" : null }, c.name));
  const body = data.rows.map((row, r) => el("tr", {}, row.map((cell, c) => {
    const inside = decorate ? decorate(cell, r, c) : cell;
    return c === 0 ? el("th", { scope: "row" }, inside)
      : el("td", { class: data.columns[c].right ? "r" : null }, inside);
  })));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": data.title || "Table" },
    el("table", {}, data.caption && el("caption", {}, data.caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

function verdict(text) {
  const word = /^(better|worse|inconclusive|sooner|later)/.exec(text);
  if (!word) return text;
  const kind = { sooner: "better", later: "worse" }[word[1]] || word[1];
  const sign = { better: "▲ ", worse: "▼ ", inconclusive: "◇ " }[kind];
  return [el("span", { class: "verdict " + kind }, sign + word[1]), text.slice(word[1].length)];
}
