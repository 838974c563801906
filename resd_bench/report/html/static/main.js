/* Put the page together, and mark where the reader is. */
function begin() {
  const suite = DATA.kind === "suite";
  fill(document.getElementById("head"), {}, [el("p", { class: "eyebrow" }, suite ? "resd-bench report" : "resd-bench trace"), el("h1", {}, DATA.title),
    DATA.subtitle ? el("p", { class: "lead" }, DATA.subtitle) : null,
    DATA.organism ? el("p", { class: "note" }, "nano is a model organism: these results test mechanisms and the harness, and are not evidence about large models.") : null]);
  if (suite) { showResults(); showCurves(); showCells(); showLedger(); showLatency(); showPlaybooks(); showAudits(); }
  showEpisodes();
  if (suite) showRuns();
  document.getElementById("main").append(el("footer", {}, `Made by resd-bench ${DATA.version} from records; equal records give an equal page. Nothing is loaded from elsewhere.`));
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));
  if (links.size < 2) document.getElementById("nav").hidden = true;
  if (location.hash.length > 1) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}
addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
begin();
