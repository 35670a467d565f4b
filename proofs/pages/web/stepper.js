"use strict";
// A trace, one state at a time. Shared by the report and the explorer.

/** An element: attributes by name (`on...` are listeners), children elements, texts or null. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A citation: pairs of a text and where it leads, or nothing. It opens beside the page, which keeps its place. */
function citation(pieces) {
  return pieces.map(([text, href]) => (href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, text) : text));
}

/** Markup that this program drew; texts in it are escaped where it was made. */
function drawn(svg) {
  const holder = el("span", { class: "drawn" });
  holder.innerHTML = svg;
  return holder.firstElementChild;
}

function legendOf(trace) {
  return el("div", { class: "legend", "aria-label": "Key to the drawing", role: "group" },
    trace.legend.map((sample) => el("span", {}, drawn(sample.svg), sample.words)),
    el("span", { class: "quiet" }, `In words: ${trace.notation}`));
}

function stepWords(state) {
  const words = state.words.map((text) => el("p", {}, text));
  if (!state.function) return words;
  return [...words, el("p", { class: "quiet" }, el("code", {}, state.function), " [", citation(state.source), "]"),
    state.words.includes(state.about) ? null
      : el("details", {}, el("summary", {}, "The rule in full"), el("p", {}, state.about))];
}

function inWords(state) {
  const look = (mark) => (["changed", "gone"].includes(mark) ? mark : "breaks");
  const rows = state.lines.map((line) => el("li", { class: line.marks.map(look).join(" ") },
    el("code", {}, line.text), line.marks.length ? el("em", {}, ` ${line.marks.join(", ")}`) : null));
  return el("div", { class: "words" }, el("h4", {}, "The state in words"),
    rows.length ? el("ul", {}, rows) : el("p", {}, "Nothing is in use."));
}

/** One state: what led to it, the drawing, the same in words, and in the last one what is broken. */
function stateFigure(trace, number, picture) {
  const state = trace.states[number];
  const last = number === trace.states.length - 1;
  const board = el("div", { class: "board", tabindex: "0", role: "group", "aria-label": "The drawing" }, drawn(picture));
  return el("figure", { class: "state", id: `state-${number}` },
    el("figcaption", {},
      el("h3", {}, el("span", { class: "number" }, String(number)), " ", el("code", {}, state.title)),
      stepWords(state)),
    board, inWords(state),
    last && trace.violated ? el("div", { class: "broken", role: "note" },
      el("p", {}, el("strong", {}, `✗ ${trace.heading}`)), el("p", {}, trace.statement),
      trace.broken ? el("p", {}, trace.broken) : null)
      : last && trace.statement ? el("div", { class: "ending" }, el("p", {}, trace.statement),
        trace.broken ? el("p", {}, trace.broken) : null) : null);
}

/** The number from 0 to `last` to which a key leads from `at`, or null if it is meant for something else. */
function wanted(event, at, last) {
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
  if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return null;
  const inside = event.target.closest ? event.target.closest("input, select, textarea, .board, .scroll") : null;
  // A part that is wider than its place is scrolled with the same keys.
  if (inside && (inside.matches("input, select, textarea") || inside.scrollWidth > inside.clientWidth)) return null;
  event.preventDefault();
  return Math.max(0, Math.min(last, to));
}

/**
 * A trace as a stepper. `at`: the state to begin with; `moved(number)` is told of each state shown.
 * All states are in the document: a printer shows them one below the other.
 */
function stepper(trace, pictures, at, moved) {
  const count = trace.states.length;
  const figures = trace.states.map((state, number) => stateFigure(trace, number, pictures[state.picture]));
  const where = el("output", { "aria-live": "polite" });
  const button = (words, label, to) => el("button", { type: "button", "aria-label": label, onclick: () => show(to()) },
    words);
  const buttons = [
    button("First", "First state (Home)", () => 0), button("◀ Back", "State before (left arrow)", () => at - 1),
    button("Next ▶", "Next state (right arrow)", () => at + 1), button("Last", "Last state (End)", () => count - 1)];
  const values = trace.states.map(() => el("span", { class: "value", hidden: true }));
  const links = trace.states.map((state, number) => el("li", {},
    el("a", { href: "#", onclick: (event) => { event.preventDefault(); show(number); } }, state.title, values[number])));
  const told = (found) => values.forEach((each, number) => {
    each.hidden = found === null;
    each.textContent = found === null ? "" : String(found[number]);
    each.className = `value ${typeof found?.[number] === "boolean" ? found[number] : ""}`;
  });

  function show(number) {
    at = Math.max(0, Math.min(count - 1, Number.isInteger(number) ? number : 0));
    figures.forEach((figure, i) => figure.classList.toggle("shown", i === at));
    links.forEach((link, i) => {
      const anchor = link.firstElementChild;
      if (i === at) anchor.setAttribute("aria-current", "step"); else anchor.removeAttribute("aria-current");
      anchor.href = moved(at, i);
    });
    buttons.forEach((each, i) => { each.disabled = i < 2 ? at === 0 : at === count - 1; });
    where.textContent = `State ${at} of ${count - 1}`;
  }

  const made = el("section", { class: "stepper", "aria-label": trace.heading },
    el("div", { class: "controls" }, buttons.slice(0, 2), where, buttons.slice(2),
      el("span", { class: "quiet keys" }, "← → Home End")),
    asking(trace, told),
    el("div", { class: "columns" },
      el("nav", { "aria-label": "Steps" }, el("ol", { start: "0" }, links)),
      el("div", { class: "stage" }, figures)),
    legendOf(trace));
  made.press = (event) => {
    const to = wanted(event, at, count - 1);
    if (to !== null) show(to);
  };
  made.show = show;
  show(at);
  return made;
}
