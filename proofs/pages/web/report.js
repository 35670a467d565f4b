"use strict";
// The pages of the report: the tables' sorting and filter, and what is behind a link such as
// #kernel=v5.9&invariant=uffd-wp&step=4 or #litmus=F1&trace=0&step=2.

const data = JSON.parse(document.getElementById("data").textContent);
const overview = document.getElementById("overview");
const view = document.getElementById("view");
const missing = el("p", { class: "broken", role: "alert", hidden: true }); // what a link leads to that is not here
overview.before(missing);
let steps = null; // the stepper on show
const title = document.title;
let scrolled = 0; // where the overview was left, and by which link
let left = null;

function address(parts) {
  const kept = Object.entries(parts).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return "#" + new URLSearchParams(kept.map(([key, value]) => [key, String(value)]));
}

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A stepper that keeps the step in the address. `parts`: the rest of the address. */
function linked(trace, parts, step) {
  const of = (number) => address({ ...parts, step: number });
  return stepper(trace, data.pictures, step, (now, number) => {
    if (now === number) history.replaceState(null, "", of(now));
    return of(number);
  });
}

// What is behind a cell

function ended(cell) {
  const times = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  switch (cell.verdict) {
    case "VIOLATED": return `violated in ${times(cell.length, "step")}`;
    case "PROVED": return `proved, ${times(cell.clauses, "clause")}`;
    case "EXHAUSTED": return "holds in every state of the scope";
    case "BOUNDED": return `no violation within ${times(cell.depth, "step")}`;
    default: return "unknown";
  }
}

function proofOf(cell) {
  const proof = cell.proof;
  const clauses = proof.clauses.map((words, i) => el("li", {}, el("p", { class: "clause" }, words),
    words === proof.formulas[i] ? null : el("p", { class: "formula" }, el("code", {}, proof.formulas[i]))));
  const obligations = Object.entries(proof.obligations).map(([name, file]) => el("tr", {},
    el("th", { scope: "row" }, name), el("td", {}, obligationWords(name)), el("td", {}, el("code", {}, file))));
  return el("section", { class: "proof" },
    el("p", {}, "For any number of processes, pages, frames, references and swap slots."),
    el("h3", {}, "The claim"), el("p", {}, proof.statement), el("pre", { tabindex: "0" }, proof.formula),
    el("h3", {}, clauses.length ? "It is inductive together with" : "It is inductive by itself"),
    clauses.length ? el("ol", { class: "clauses" }, clauses) : null,
    el("h3", {}, `${obligations.length} obligations`),
    el("p", {}, "z3 and cvc5 answered ", el("code", {}, "unsat"), " to each of these files; ",
      el("code", {}, `python -m proofs verify ${cell.certificate}`), " asks them again."),
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Obligations" },
      el("table", { class: "obligations" },
        el("thead", {}, el("tr", {}, ["obligation", "what it says", "file"].map((t) => el("th", { scope: "col" }, t)))),
        el("tbody", {}, obligations))));
}

function obligationWords(name) {
  if (name === "initiation") return "every clause holds initially";
  if (name === "safety") return "the clauses imply the claim";
  return "this step keeps every clause";
}

function cellView(cell, step) {
  const place = { table: cell.table, kernel: cell.kernel, invariant: cell.invariant };
  const number = (value) => (value === null ? null : value.toLocaleString("en"));
  const parts = [
    el("h1", { tabindex: "-1" }, `${cell.invariant} on ${cell.kernel}: `,
      el("span", { class: `verdict ${cell.verdict.toLowerCase()}` }, ended(cell) + (cell.vacuous ? " (vacuous)" : ""))),
    el("p", { class: "claim" }, `Claimed: ${cell.statement}. `, el("span", { class: "quiet" }, "[", citation(cell.source), "]"))];
  steps = null;
  if (cell.counterexample) parts.push(steps = linked(cell.counterexample, place, step));
  if (cell.proof) parts.push(proofOf(cell));
  if (cell.verdict === "EXHAUSTED") {
    parts.push(el("p", {}, `It holds in each of the ${number(cell.states)} reachable states of ${cell.scope}. `
      + "Nothing is proved for larger sizes."));
  }
  parts.push(el("h2", {}, "How it was found"), facts([
    ["scope", cell.scope], ["engines", cell.engine], ["seconds", cell.seconds.toFixed(1)],
    ["states", cell.states === null ? null : `${number(cell.states)} up to renaming`],
    ["steps between them", number(cell.transitions)], ["diameter", number(cell.diameter)],
    ["excluded by bounded model checking", cell.depth === null || cell.verdict === "VIOLATED" ? null
      : `violations within ${cell.depth} steps`],
    ["without the rules", cell.without.join(", ")],
    [cell.verdict === "PROVED" ? "dead rules" : "rules never enabled", cell.dead_rules.join(", ")],
    ["vacuous", cell.vacuous ? "the claim's premise was never met" : null], ["note", cell.note],
    ["trace", cell.trace], ["certificate", cell.certificate]]));
  parts.push(el("h2", {}, "The kernel ", citation([[cell.kernel, cell.place ? `domain.html#${cell.place}` : ""]])),
    el("p", {}, cell.about, cell.base ? el("span", { class: "quiet" }, ` [from ${cell.base}]`) : null),
    facts(cell.cite.map((pair) => pair.map(citation))));
  return parts;
}

// What is behind a litmus test

function litmusView(test, parts) {
  const kernel = parts.get("kernel");
  let chosen = test.traces.findIndex((trace) => trace.kernels.includes(kernel));
  if (parts.has("trace")) chosen = Number(parts.get("trace"));
  if (kernel === null && chosen < 0) chosen = 0;
  const answer = test.answers.find((each) => each.kernel === kernel);
  const remarked = test.answers.some((each) => each.remarks.length);
  const rows = test.answers.map((each) => {
    const at = test.traces.findIndex((trace) => trace.kernels.includes(each.kernel));
    return el("tr", {}, el("th", { scope: "row" }, each.kernel), el("td", { class: each.look }, each.answer),
      el("td", {}, at < 0 ? "–" : el("a", { href: address({ litmus: test.name, trace: at }) }, `trace ${at + 1}`)),
      remarked ? el("td", {}, each.remarks.map((text) => el("div", {}, text))) : null);
  });
  const real = test.real.map((each) => el("tr", {}, el("th", { scope: "row" }, each.release), el("td", {}, each.kernel),
    el("td", {}, each.model), el("td", {}, each.observed),
    el("td", { class: { agree: "proved", disagree: "violated" }[each.status] || "unknown" }, each.status),
    el("td", {}, each.reason)));
  const table = (name, heads, body) => el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": name },
    el("table", {}, el("caption", {}, name),
      el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, body)));
  const trace = test.traces[chosen];
  steps = trace
    ? linked(trace, { litmus: test.name, kernel, trace: chosen }, Number(parts.get("step") ?? trace.states.length - 1))
    : null;
  return [
    el("h1", { tabindex: "-1" }, test.name), el("p", { class: "claim" }, test.about),
    el("pre", { tabindex: "0", class: "source" }, test.text),
    el("h2", {}, steps ? `A shortest trace: ${trace.heading}` : "Trace"),
    steps || el("p", {}, answer ? `On ${answer.kernel} the answer is ${answer.answer}: there is no trace to show.`
      : "No kernel here has a trace of it."),
    test.traces.length > 1 ? el("nav", { "aria-label": "Other traces" }, el("h3", {}, "Other traces"),
      el("ul", {}, test.traces.map((each, i) => (i === chosen ? null
        : el("li", {}, el("a", { href: address({ litmus: test.name, trace: i }) }, each.heading)))))) : null,
    el("h2", {}, "What the model answers"),
    table("Answers", ["kernel", "answer", "trace", ...(remarked ? ["remarks"] : [])],
      rows),
    el("h2", {}, "What real kernels did"),
    real.length
      ? table("Replayed", ["release", "kernel", "the model says", "observed", "status", "reason"], real)
      : el("p", {}, "No result of a replay was given for this test.")];
}

// Which of them is shown

function contentOf(parts) {
  if (data.kind === "litmus") {
    const test = data.tests.find((each) => each.name === parts.get("litmus"));
    return test && litmusView(test, parts);
  }
  const cell = data.cells.find((each) => each.kernel === parts.get("kernel")
    && each.invariant === parts.get("invariant") && each.table === (parts.get("table") || ""));
  return cell && cellView(cell, Number(parts.get("step") || 0));
}

function route() {
  const parts = new URLSearchParams(location.hash.slice(1));
  steps = null;
  const content = parts.size ? contentOf(parts) : null;
  if (content && view.hidden) [scrolled, left] = [window.scrollY, document.activeElement];
  overview.hidden = Boolean(content);
  view.hidden = !content;
  missing.hidden = Boolean(content) || !parts.size;
  missing.textContent = missing.hidden ? "" : `This report has nothing at ${location.hash}: it may be of another run.`;
  if (!content) {
    view.replaceChildren();
    document.title = title;
    window.scrollTo(0, scrolled);
    if (left) left.focus({ preventScroll: true });
    return;
  }
  view.replaceChildren(el("p", { class: "back" }, el("a", { href: "#" }, "← All of them")),
    ...content.filter((part) => part !== null));
  document.title = view.querySelector("h1").textContent;
  view.querySelector("h1").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

window.addEventListener("hashchange", route);
document.addEventListener("keydown", (event) => {
  if (steps) steps.press(event);
  if (event.key === "Escape" && !view.hidden) location.hash = "";
});

// Tables

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const order = ["violated", "unknown", "bounded", "exhausted", "proved", "allowed", "forbidden", "none"];
  const key = (row) => {
    const cell = row.cells[column];
    return column === 0 ? [Number(row.dataset.at), 0] : [order.indexOf(cell.className), Number(cell.dataset.number)];
  };
  [...body.rows].map((row) => [key(row), row])
    .sort(([a], [b]) => (a[0] - b[0] || a[1] - b[1]) * (descending ? -1 : 1))
    .forEach(([, row]) => body.append(row));
  heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none"
    : descending ? "descending" : "ascending"));
}

function filterCells(form, tables) {
  const has = (text, part) => text.toLowerCase().includes(part.trim().toLowerCase());
  const verdicts = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value.replace("n/a", "none")));
  let shown = 0;
  for (const table of tables) {
    const heads = [...table.tHead.rows[0].cells];
    const wanted = heads.map((head, i) => i === 0 || has(head.dataset.name, form.elements.invariant.value));
    heads.forEach((head, i) => { head.hidden = !wanted[i]; });
    for (const row of table.tBodies[0].rows) {
      let some = 0;
      [...row.cells].forEach((cell, i) => {
        cell.hidden = !wanted[i];
        if (i === 0) return;
        const fits = verdicts.has(cell.className.split(" ")[0]);
        cell.toggleAttribute("data-out", !fits);
        some += fits && wanted[i];
      });
      row.hidden = !some || !has(row.cells[0].textContent, form.elements.kernel.value);
      if (!row.hidden) shown += some;
    }
  }
  form.querySelector("output").textContent = `${shown} verdicts`;
}

function filterTests(form, tables) {
  const part = form.elements.test.value.trim().toLowerCase();
  const fits = new Set(data.tests.filter((test) => `${test.name} ${test.text}`.toLowerCase().includes(part))
    .map((test) => test.name));
  for (const row of tables[0].tBodies[0].rows) row.hidden = !fits.has(row.cells[0].querySelector("a").textContent);
  form.querySelector("output").textContent = `${fits.size} tests`;
}

function begin() {
  const form = document.getElementById("filter");
  const tables = [...document.querySelectorAll(".matrix:not(.compared) table")];
  for (const table of tables) {
    [...table.tBodies[0].rows].forEach((row, i) => { row.dataset.at = i; });
    [...table.tHead.rows[0].cells].forEach((head, i) => {
      const button = head.querySelector("button");
      if (button) button.addEventListener("click", () => sortBy(table, i));
    });
  }
  const filter = data.kind === "litmus" ? filterTests : filterCells;
  form.hidden = false;
  form.addEventListener("input", () => filter(form, tables));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(form, tables);
  route();
}

begin();
