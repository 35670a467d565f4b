"""The explorer: one walks through a kernel's states by hand, in a terminal step by step or on a local page.

The server keeps nothing: each request brings its path from the initial state. It hears only this machine, and answers
only who has the token that its address carries, asked as the host that it is. Connections and what is said on them are
the business of waitress, which waits for all of them at once and hands on whole requests within limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from invariants import FURTHER, INVARIANTS, Invariant
from model.logic import ModelError, Scope, System
from proofs.check.cells import trace_system
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.errors import TraceError
from proofs.hardware import reproducer
from proofs.hardware.schedule import orders
from proofs.litmus.retell import retell
from proofs.naming.specs import check_spoken, features_of, file_of, find_invariant, find_kernel, formula_of
from proofs.pages import domain
from proofs.pages.report import SORT_WORDS, page, scope_words, trace_data
from proofs.traces.graph import state_graphs
from proofs.traces.render import to_itf
from proofs.traces.text import first_sentence, state_lines
from proofs.traces.trace import Trace, default_names, execute, from_json

LONGEST = 400
"""Steps of a path."""
LARGEST = 1 << 22
"""Bytes of a request's body."""
UNCLAIMED = "explored"
"""The claim of a saved path that breaks none."""
SAVED: dict[str, tuple[str, Callable[[Trace], str]]] = {
    "trace": ("trace.json", to_itf),
    "litmus": ("litmus", lambda trace: retell(trace, find_kernel(trace.kernel)).text),
}
"""As what a path is saved: name to (file ending, how it is written)."""
NOT_IN_A_NAME = re.compile(r"[^\w.@,-]+", re.ASCII)
"""What a kernel's name has, as that of a file of one's own, and a file's name has not."""
Step = dict[str, Any]
"""`rule` and `binding`, as trace files have them."""


@dataclass(frozen=True)
class Explorer:
    """The states of one kernel in one scope. `kernel`: its name with features; `own`: names of users' invariants."""

    kernel: str
    scope: Scope
    own: tuple[str, ...] = ()

    @cached_property
    def system(self) -> System:
        return trace_system(self.kernel, tuple(map(find_invariant, self.own)))

    @cached_property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.system, self.scope)

    @cached_property
    def claims(self) -> tuple[Invariant, ...]:
        """The invariants that say something of this kernel with its features."""
        kernel, features = find_kernel(self.kernel), set(features_of(self.kernel)[1])
        own = [find_invariant(name) for name in self.own]
        for each in own:
            check_spoken(each, self.kernel)
        stated = (*INVARIANTS, *FURTHER, *own)
        return tuple(i for i in stated if i.applies_to(kernel) and features.issuperset(i.features))

    def instance(self, step: Any) -> Instance:
        """The step of a request. Raises ModelError if it is none of this kernel and scope."""
        try:
            name, given = step["rule"], dict(step["binding"])
            rule = self.system.rule(name)
            bound = {p.name: given[p.name] for p in rule.params}
            values = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in bound.items())
            found = Instance(rule, values)
            hash(found.binding)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not a step: {type(error).__name__} {error}") from error
        for param in rule.params:
            value, size = found.as_dict[param.name], self.scope.size(param.sort)
            elements = value if param.over is not None and isinstance(value, tuple) else (value,)
            wanted = 1 if param.over is None else self.scope.size(param.over)
            whole = len(elements) == wanted and (param.over is None or isinstance(value, tuple))
            if not whole or not all(type(e) is int and 0 <= e < size for e in elements):
                raise ModelError(f"{name}: {param.name} = {value!r} is not in this scope")
        return found

    def trace(self, path: Sequence[Any], claim: str | None = None) -> Trace:
        """The path as a trace, of `claim` if its last state breaks that, else of the first claim that it breaks.

        Raises ModelError for a path that is none.
        """
        if len(path) > LONGEST:
            raise ModelError(f"a path has at most {LONGEST} steps")
        steps = [self.instance(step) for step in path]
        statement = "A path chosen by hand; its last state keeps every claim"
        trace = execute(self.kernel, UNCLAIMED, statement, self.system, self.scope, steps)
        broken = self.broken(trace.states[-1])
        chosen = next((i for i in broken if i.name == claim), broken[0] if broken else None)
        if chosen is None:
            return trace
        return execute(
            self.kernel, chosen.name, chosen.statement, self.system, self.scope, steps, violated=chosen.formula
        )

    def files(self) -> dict[str, str]:
        """Form to the name of the file as which a path is saved."""
        stem = NOT_IN_A_NAME.sub("_", self.kernel)
        return {name: f"{stem}.{ending}" for name, (ending, _) in SAVED.items()}

    def on_kernel(self, path: Sequence[Any], claim: str | None = None) -> dict[str, str]:
        """How a real kernel is asked to do what the path does: the `command`, which takes the path's trace as `file`;
        the `test` as which it is told; the `order` of what it does at the same time, empty without.

        Raises ModelError, RetellError or NotObservable where the path breaks no claim, no test tells it, or no program
        does it.
        """
        told = retell(self.trace(path, claim), find_kernel(self.kernel))
        order = orders.of_retold(told)
        (reproducer.check_scheduled if order else reproducer.check)(told.litmus)
        file, steered = self.files()["trace"], " --schedule" * bool(order)
        command = f"python -m proofs replay {file}{steered} --vmlinuz KERNEL"
        return {"command": command, "file": file, "test": told.text, "order": order}

    def broken(self, state: State) -> list[Invariant]:
        """The claims that do not hold in the state."""
        return [i for i in self.claims if not self.interpreter.evaluate(i.formula, state)]

    def path_of(self, data: Any) -> list[Step]:
        """The path of a trace file. Raises ModelError if it is of another kernel or scope, or does not begin initially.

        Its kernel, claim and scope are compared before anything is made of it: a trace may name a file, which would be
        run, and sizes that take long.
        """
        meta = data.get("#meta") if isinstance(data, dict) else None
        if not isinstance(meta, dict):
            raise TraceError("this is not a trace")
        if meta.get("kernel") != self.kernel:
            raise TraceError(f"this trace is of {meta.get('kernel')}, not of {self.kernel}: explore that kernel")
        if isinstance(less := meta.get("without"), list) and less:
            missing = ", ".join(map(str, less))
            raise TraceError(f"this trace is of the kernel without {missing}; here it has all rules: `show` draws it")
        claim, sizes = meta.get("claim"), meta.get("scope")
        if isinstance(claim, str) and file_of(claim) is not None and claim not in self.own:
            raise TraceError(f"this trace is of {claim}: explore with --invariant {claim}")
        if not isinstance(sizes, dict) or not all(type(size) is int for size in sizes.values()):
            raise TraceError("this trace has no scope")
        larger = [sort for sort, size in sizes.items() if size > self.scope.as_dict().get(sort, 0)]
        if larger:
            wanted = ",".join(str(sizes.get(s, 1)) for s in ("Proc", "Page", "Frame", "Pin", "Slot"))
            raise TraceError(f"this trace has more elements than there are here: --scope {wanted}")
        trace = from_json(data, "this file", lambda kernel: self.system, formula_of)
        steps = [self._padded(step) for step in trace.steps]
        full = Interpreter(trace.system, trace.scope)
        if trace.states[0] != full.initial():
            raise TraceError("this trace does not begin in the initial state")
        path = [as_step(step) for step in steps]
        self.trace(path)
        return path

    def _padded(self, step: Instance) -> Instance:
        """The step in this scope, which may have more pages than that of its trace."""
        values = []
        for param in step.rule.params:
            value = step.as_dict[param.name]
            if param.over is not None:
                value = (*value, *(0 for _ in range(self.scope.size(param.over) - len(value))))
            values.append((param.name, value))
        return Instance(step.rule, tuple(values))

    def choices(self, state: State) -> Iterator[tuple[Instance, State]]:
        """The steps that may be taken, and where they lead; of those that differ in fresh elements alone the first."""
        seen = set()
        for step, after in self.interpreter.successors(state):
            fresh = {p.name for p in step.rule.params if p.fresh}
            key = (step.rule.name, tuple((name, value) for name, value in step.binding if name not in fresh))
            if key not in seen:
                seen.add(key)
                yield step, after

    def view(self, path: Sequence[Any], claim: str | None = None) -> dict[str, Any]:
        """The state at the end of the path: its picture and words, which claims hold, which steps may be taken.

        `claim`: of those that are broken the one to mark. Raises ModelError for a path that is none.
        """
        trace = self.trace(path, claim)
        state = trace.states[-1]
        broken = {i.name for i in self.broken(state)}
        shown = trace_data(trace, roomy=True)
        for earlier in shown["states"][:-1]:
            earlier["picture"] = None
        names = default_names(self.scope)
        return {
            "trace": shown, "marked": trace.claim,
            "claims": [
                {"name": i.name, "statement": i.statement, "source": domain.as_data(i.source),
                 "holds": i.name not in broken, "premise": bool(self.interpreter.evaluate(i.premise, state))}
                for i in self.claims
            ],
            "steps": [
                {**as_step(step), "who": _who(step, names), "words": _words(step, names),
                 "about": first_sentence(step.rule.about), "function": step.rule.kernel_function,
                 "changes": after != state}
                for step, after in self.choices(state)
            ],
        }

    def document(self, path: Sequence[Step]) -> str:
        """The page, which begins at the end of that path."""
        body = (
            '<a class="skip" href="#main">To the content</a>\n<header><p class="site">Explorer</p>'
            "</header>\n<main id=\"main\" tabindex=\"-1\"></main>\n"
            "<noscript><p>The explorer needs JavaScript.</p></noscript>"
        )
        data = {
            "kernel": self.kernel, "about": find_kernel(self.kernel).about, "path": list(path),
            "scope": scope_words(self.scope, self.kernel), "saved": self.files(),
            "largest": LARGEST,
        }
        return page(f"Explorer: {self.kernel}", body, data, ("stepper.js", "explorer.js"))


def as_step(step: Instance) -> Step:
    """The step as trace files have it."""
    return {"rule": step.rule.name, "binding": {n: list(v) if isinstance(v, tuple) else v for n, v in step.binding}}


def _who(step: Instance, names: Mapping[str, Sequence[str]]) -> str:
    """The process that does it, by the parameter of that name; empty if the kernel or a device does."""
    return names["Proc"][step.as_dict["p"]] if "p" in step.as_dict else ""


def _words(step: Instance, names: Mapping[str, Sequence[str]]) -> str:
    """The parameters: `process A, page x, new frame Q`."""
    words = []
    for param in step.rule.params:
        value, word = step.as_dict[param.name], SORT_WORDS.get(param.sort.name(), param.sort.name().lower())
        of = names[param.sort.name()]
        if param.over is None:
            plain = param.name in ("p", "v", "f", "k", "s")
            words.append(f"{word if plain else f'{param.name} {word}'} {of[value]}")
        elif any(value):
            over = names[param.over.name()]
            words.append(f"{param.name} " + ", ".join(f"{over[i]}→{of[x]}" for i, x in enumerate(value)))
    return ", ".join(words)


def to_text(explorer: Explorer, path: Sequence[Step]) -> str:
    """The state at the end of the path for a terminal: what is in use, the claims, the steps that may be taken."""
    trace = explorer.trace(path)
    graphs = state_graphs(trace)
    told = explorer.view(path)
    lines = [f"{explorer.kernel} after {len(path)} steps; {scope_words(explorer.scope, explorer.kernel)}", ""]
    lines += [line.rstrip() for line in state_lines(graphs[-1], graphs[max(len(graphs) - 2, 0)])]
    broken = [c for c in told["claims"] if not c["holds"]]
    lines += ["", *(f"violated: {c['name']}: {c['statement']}" for c in broken), *["Every claim holds."] * (not broken)]
    lines += ["", "Steps from here"]
    lines += [f"  {s['rule']:22} {s['words']}: {s['about']}" for s in told["steps"] if s["changes"]]
    return "\n".join(lines) + "\n"
