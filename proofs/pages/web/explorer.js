"use strict";
// The explorer: the path is here, the server says what is at its end.

const data = JSON.parse(document.getElementById("data").textContent);
const token = new URLSearchParams(location.search).get("token");
const main = document.getElementById("main");
const kept = `path of ${data.kernel}, ${data.scope}`;
let path = data.path; // all steps, those undone too
let at = path.length; // how many of them are done
let claim = null; // the broken claim to mark
let asked = 0;

async function ask(place, body) {
  const answer = await fetch(place, {
    method: "POST", headers: { "Content-Type": "application/json", "X-Token": token }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

/** Show the state after the first `to` steps of the path. */
async function go(to) {
  const number = ++asked;
  say("");
  try {
    const told = await (await ask("/view", { path: path.slice(0, to), claim })).json();
    if (number !== asked) return; // another question was asked since
    at = to;
    sessionStorage.setItem(kept, JSON.stringify(path.slice(0, at)));
    show(told);
  } catch (error) {
    say(error.message);
  }
}

function say(text) {
  parts.message.textContent = text;
}

function take(step) {
  path = [...path.slice(0, at), { rule: step.rule, binding: step.binding, title: step.rule, words: step.words }];
  go(path.length);
}

function save(name) {
  ask(`/save/${name}`, { path: path.slice(0, at), claim }).then((answer) => answer.blob()).then((blob) => {
    const file = data.saved[name];
    const link = el("a", { href: URL.createObjectURL(blob), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say(`Saved as ${file}.`);
  }).catch((error) => say(error.message));
}

/** How a real kernel is asked to do the same. */
function onKernel() {
  const number = asked;
  say("");
  ask("/kernel", { path: path.slice(0, at), claim }).then((answer) => answer.json()).then((told) => {
    if (number !== asked) return; // the path is another one by now
    const copy = () => navigator.clipboard.writeText(told.command).then(
      () => say("Copied."), (error) => say(`not copied: ${error.message}`));
    parts.kernel.replaceChildren(el("h2", {}, "On a real kernel"),
      el("p", {}, "Save as trace, and where ", el("code", {}, told.file), " lies, with a kernel's image for KERNEL:"),
      el("pre", { tabindex: "0" }, told.command),
      el("p", {}, el("button", { type: "button", onclick: copy }, "Copy the command"), told.order
        ? ` A debugger decides what comes first: ${told.order}` : " Nothing is at the same time: no debugger is needed."),
      el("p", {}, "It is told as this test:"), el("pre", { tabindex: "0", class: "source" }, told.test));
    parts.kernel.scrollIntoView({ block: "nearest" });
  }).catch((error) => say(error.message));
}

async function load(file) {
  try {
    // The server would hang up in the middle of it, and the browser not hear why.
    if (file.size > data.largest) throw new Error(`a trace has at most ${data.largest} bytes`);
    path = (await (await ask("/load", JSON.parse(await file.text()))).json()).path;
    await go(path.length);
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
}

// The page

const parts = {
  message: el("p", { role: "status", class: "message" }),
  verdict: el("p", { class: "verdict", "aria-live": "polite" }),
  where: el("output", { "aria-live": "polite" }),
  undo: el("button", { type: "button", onclick: () => go(at - 1) }, "◀ Undo"),
  redo: el("button", { type: "button", onclick: () => go(at + 1) }, "Redo ▶"),
  fresh: el("button", { type: "button", onclick: () => go(0) }, "Start"),
  file: el("input", { type: "file", id: "file", accept: ".json,application/json", onchange: (event) => {
    if (event.target.files.length) load(event.target.files[0]);
    event.target.value = "";
  } }),
  kernel: el("section", { "aria-live": "polite" }),
  path: el("ol", { start: "0" }),
  stage: el("div", { class: "stage" }),
  claims: el("ul", { class: "claims" }),
  steps: el("div", { class: "choices" }),
};

function show(told) {
  const trace = told.trace;
  parts.kernel.replaceChildren();
  parts.undo.disabled = parts.fresh.disabled = at === 0;
  parts.redo.disabled = at === path.length;
  parts.where.textContent = `${at} step${at === 1 ? "" : "s"}`;
  trace.states.slice(1).forEach((state, i) => { path[i] = { ...path[i], title: state.title }; });
  parts.path.replaceChildren(...["start", ...path.map((step) => step.title || step.rule)].map((title, i) =>
    el("li", {}, el("a", { href: "#", "aria-current": i === at ? "step" : null, class: i > at ? "undone" : null,
      onclick: (event) => { event.preventDefault(); go(i); } }, title))));
  const figure = stateFigure({ ...trace, statement: trace.violated ? trace.statement : "" }, at,
    trace.states[at].picture);
  figure.classList.add("shown");
  parts.stage.replaceChildren(figure, legendOf(trace));

  const broken = told.claims.filter((each) => !each.holds).map((each) => each.name);
  parts.verdict.className = `verdict ${broken.length ? "violated" : "proved"}`;
  parts.verdict.textContent = broken.length ? `✗ Violated here: ${broken.join(", ")}` : "No claim is violated here.";
  parts.claims.replaceChildren(...[...told.claims].sort((a, b) => a.holds - b.holds || b.premise - a.premise).map((each) => el("li", {},
    el("span", { class: each.holds && !each.premise ? "quiet" : `verdict ${each.holds ? "proved" : "violated"}` },
      !each.holds ? "violated" : each.premise ? "holds" : "says nothing here"), " ",
    el("strong", {}, each.name), `: ${each.statement} `, el("span", { class: "quiet" }, "[", citation(each.source), "] "),
    each.holds || each.name === told.marked ? null : el("button", { type: "button", onclick: () => {
      claim = each.name;
      go(at);
    } }, "Mark it"))));

  const button = (step) => el("li", {}, el("button", { type: "button", class: "choice", title: step.about,
    onclick: () => take(step) }, el("strong", {}, step.rule), step.words ? ` ${step.words}` : "",
    el("span", { class: "about" }, step.about)));
  const group = (name, steps) => (steps.length
    ? [el("h3", {}, name), el("ul", {}, steps.map(button))] : []);
  const moving = told.steps.filter((step) => step.changes);
  const still = told.steps.filter((step) => !step.changes);
  const actors = [...new Set(moving.map((step) => step.who))].sort((a, b) => (a === "") - (b === "") || (a < b ? -1 : 1));
  parts.steps.replaceChildren(
    ...actors.flatMap((who) => group(who ? `Process ${who}` : "Kernel and devices",
      moving.filter((step) => step.who === who))),
    ...(still.length ? [el("details", {}, el("summary", {}, "Steps that change nothing"),
      el("ul", {}, still.map(button)))] : []));
  if (!moving.length) parts.steps.prepend(el("p", {}, "No step changes anything from here."));
}

main.append(
  el("h1", {}, data.kernel), el("p", {}, data.about, el("span", { class: "quiet" }, ` [${data.scope}]`)),
  el("div", { class: "controls" }, parts.fresh, parts.undo, parts.where, parts.redo,
    Object.keys(data.saved).map((name) => el("button", { type: "button", onclick: () => save(name) }, `Save as ${name}`)),
    el("button", { type: "button", onclick: onKernel }, "On a real kernel"),
    el("label", { class: "load", for: "file" }, "Load a trace ", parts.file)),
  parts.verdict, parts.message, parts.kernel,
  el("div", { class: "explorer" },
    el("nav", { "aria-label": "The path" }, el("h2", {}, "The path"), parts.path),
    parts.stage,
    el("section", { "aria-label": "Steps from here" }, el("h2", {}, "Steps from here"), parts.steps)),
  el("section", {}, el("h2", {}, "Which claims hold now"), parts.claims));

document.addEventListener("keydown", (event) => {
  const to = wanted(event, at, path.length);
  if (to !== null && to !== at) go(to);
});

try {
  if (!path.length) path = JSON.parse(sessionStorage.getItem(kept)) || [];
} catch {
  path = [];
}
go(path.length).then(() => { if (!parts.stage.firstChild) { path = []; go(0); } });
