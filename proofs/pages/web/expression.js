"use strict";
// Expressions over a state: pte_write(A, x) and pin_frame(r) != pte_frame(A, x). `values`: state function to its cells,
// each by its elements' names, "A,x"; a cell that is not there is false, or means nothing.

const NOTHING = "–";

/** The expression as a function of a state's values. `functions`: how many arguments each has. Throws an Error. */
function expression(text, functions) {
  const tokens = text.match(/==|!=|[(),]|[^\s(),=!]+|\S/g) || [];
  let at = 0;
  const peek = () => tokens[at];
  const take = (expected) => {
    if (expected !== undefined && peek() !== expected) throw new Error(`${expected} is missing before ${peek() ?? "the end"}`);
    return tokens[at++];
  };
  const truth = (value, where) => {
    if (typeof value !== "boolean") throw new Error(`${where} is not true or false`);
    return value;
  };

  function joined(word, part, join) {
    const parts = [part()];
    while (peek() === word) { take(); parts.push(part()); }
    return parts.length === 1 ? parts[0] : (values) => join(parts.map((each) => truth(each(values), `a part of ${word}`)));
  }
  const any = () => joined("or", all, (found) => found.some(Boolean));
  const all = () => joined("and", not, (found) => found.every(Boolean));
  function not() {
    if (peek() !== "not") return compared();
    take();
    const inner = not();
    return (values) => !truth(inner(values), "what follows not");
  }
  function compared() {
    const left = term();
    const sign = peek();
    if (sign !== "==" && sign !== "!=") return left;
    take();
    const right = term();
    return (values) => (String(left(values)) === String(right(values))) === (sign === "==");
  }
  function term() {
    const word = take();
    if (word === undefined) throw new Error("the expression ends too early");
    if (word === "(") {
      const inner = any();
      take(")");
      return inner;
    }
    if (word === "true" || word === "false") return () => word === "true";
    if (/^[(),=!]/.test(word)) throw new Error(`${word} stands where a name is expected`);
    if (peek() !== "(") return () => word;
    take("(");
    const given = [];
    while (peek() !== ")") {
      given.push(any());
      if (peek() !== ")") take(",");
    }
    take(")");
    if (!(word in functions)) throw new Error(`there is no state function ${word}`);
    const [arguments_, isBool] = functions[word];
    if (given.length !== arguments_) throw new Error(`${word} takes ${arguments_}, not ${given.length}`);
    return (values) => values[word]?.[given.map((each) => each(values)).join(",")] ?? (isBool ? false : NOTHING);
  }

  const whole = any();
  if (at < tokens.length) throw new Error(`${peek()} is too much`);
  return whole;
}

/** A field for an expression; `told(values)` gets its value in each state, or nothing. */
function asking(trace, told) {
  const said = el("output", { "aria-live": "polite" });
  const field = el("input", {
    type: "text", spellcheck: "false", autocomplete: "off", placeholder: trace.example, "aria-label": "An expression over the state",
    oninput: () => {
      said.textContent = "";
      if (!field.value.trim()) return told(null);
      try {
        const value = expression(field.value, trace.functions);
        return told(trace.states.map((state) => value(state.values)));
      } catch (error) {
        said.textContent = error.message;
        return told(null);
      }
    } });
  return el("div", { class: "asking" }, el("span", {}, "In each state:"), field, said,
    el("details", {}, el("summary", {}, "what can be asked"),
      el("p", { class: "quiet" }, "and, or, not, ==, != of names and of: ",
        Object.entries(trace.functions).map(([name, [number]]) => `${name}/${number}`).join(", "))));
}

if (typeof module !== "undefined") module.exports = { expression };
