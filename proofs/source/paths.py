"""All paths of a function, with symbolic values. A path that cannot be followed to its end says where and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import z3

from proofs.clock import look
from proofs.source.csource import CFunction, Node, NotRead, branches, declared_name, defect, text_of
from proofs.source.expressions import MOST_PATHS, Expressions
from proofs.source.values import UNKNOWN, State, Term, Thing, Value, same, truth

MOST_LINES = 150
"""Of a callee that is followed."""
MOST_CALLS = 6
"""How deep callees are followed."""
MOST_ROUNDS = 3
"""Of a loop, before a path is given up."""
Signal = tuple[str, Any] | None
"""How a statement ends: None if the next one follows; else return, goto, break, continue, stop or stuck, and what."""
Result = tuple[Signal, State]


@dataclass(frozen=True)
class Path:
    """One path to its end: `return` with a value, `stop` at a call, or `stuck`, and why."""

    end: str
    value: Any
    state: State

    @property
    def condition(self) -> Term:
        return z3.And(*self.state.conditions)


class Reader(Expressions):
    """Follows the paths of functions of a tree under one vocabulary."""

    # What is asked for

    def paths(self, function: CFunction) -> list[Path]:
        """All paths of the function. Raises NotRead if there are too many, or it does not parse."""
        if (wrong := defect(function.node)) is not None:
            raise NotRead(f"{function.name} does not parse at {function.place(wrong)}")
        self._count = 0
        self.functions[function.name] = function.place()
        self._stack.append(function)
        state = State(world=dict(self.vocabulary.start))
        state = replace(state, locals={name: self._given(name, function, state) for name in function.parameters})
        try:
            found = self._block(function.body, state)
        finally:
            self._stack.pop()
        ends = []
        for signal, at in found:
            kind, value = signal or ("return", None)
            ends.append(Path(kind, value, at))
        return ends

    def _given(self, name: str, function: CFunction, state: State) -> Value:
        """A parameter: what the vocabulary calls so, else something of which nothing is known."""
        word = self._word(self._renamed(name), state)
        if word is not None:
            return word
        symbol = f"{name}@{function.place()}"
        self.seen[UNKNOWN + symbol] = f"the parameter {name} of {function.name} at {function.place()}"
        return Thing(self._renamed(name), symbol, function.place(), null=True)

    def _followed(self, name: str, written: str, values: list[Value], state: State) -> list[tuple[Value, State]] | None:
        """The ways through a callee; None if it cannot be followed."""
        if len(self._stack) > MOST_CALLS or any(f.name == written for f in self._stack):
            return None
        function = self.tree.find(written) or self.tree.find(name)
        if function is None or function.lines > MOST_LINES or defect(function.node) is not None:
            return None
        inner = replace(state, locals=dict(zip(function.parameters, values, strict=False)))
        self._stack.append(function)
        known = dict(self.functions)
        self.functions[function.name] = function.place()
        try:
            ends = self._block(function.body, inner)
        finally:
            self._stack.pop()
        if any(signal is not None and signal[0] not in ("return", "stop") for signal, _ in ends):
            self.functions = known
            return None
        return _joined([
            (signal[1] if signal and signal[0] == "return" else 0, replace(at, locals=state.locals))
            for signal, at in ends
        ])

    # Statements

    def _block(self, body: Node, state: State) -> list[Result]:
        """A body to its ends, jumps to its own labels followed."""
        return self._landed(body, self._sequence([body], state), {})

    def _landed(self, body: Node, results: Iterable[Result], jumps: dict[str, int]) -> list[Result]:
        found: list[Result] = []
        for signal, at in results:
            if signal is None or signal[0] != "goto":
                found.append((signal, at))
                continue
            rest = _from_label(body, signal[1])
            if rest is None:
                found.append((signal, at))
            elif jumps.get(signal[1], 0) >= MOST_ROUNDS:
                found.append((("stuck", f"it jumps back to {signal[1]} again and again"), at))
            else:
                again = {**jumps, signal[1]: jumps.get(signal[1], 0) + 1}
                found += self._landed(body, self._sequence(rest, at), again)
        return found

    def _sequence(self, statements: Sequence[Node], state: State) -> list[Result]:
        """Statements one after the other."""
        going, ended = [state], []
        for each in statements:
            following: list[State] = []
            for before in going:
                for signal, after in self._statement(each, before):
                    if after.stopped:
                        ended.append((("stop", after.stopped), after))
                    elif signal is None:
                        following.append(after)
                    else:
                        ended.append((signal, after))
            going = _merged(following)
            if len(going) + len(ended) > MOST_PATHS:
                raise NotRead(f"{self._stack[0].name} has more than {MOST_PATHS} paths")
        return [*ended, *((None, at) for at in going)]

    def _statement(self, node: Node, state: State) -> list[Result]:
        look()
        handler = getattr(self, f"_do_{node.type}", None)
        if handler is not None:
            found: list[Result] = handler(node, state)
            return found
        if node.type in ("comment", "preproc_def", "preproc_function_def", "preproc_call", "type_definition", ";"):
            return [(None, state)]
        return [(("stuck", f"{node.type.replace('_', ' ')} at {self._place(node)}"), state)]

    def _do_compound_statement(self, node: Node, state: State) -> list[Result]:
        return self._sequence(node.named_children, state)

    _do_else_clause = _do_compound_statement

    def _do_labeled_statement(self, node: Node, state: State) -> list[Result]:
        return self._sequence(node.named_children[1:], state)

    def _do_expression_statement(self, node: Node, state: State) -> list[Result]:
        if not node.named_children:
            return [(None, state)]
        return [(None, after) for _, after in self.eval(node.named_children[0], state)]

    def _do_declaration(self, node: Node, state: State) -> list[Result]:
        states = [state]
        for each in node.named_children:
            name = declared_name(each) if each.type == "init_declarator" or each.type.endswith("declarator") \
                or each.type == "identifier" else None
            if name is None:
                continue
            variable, value = text_of(name), each.child_by_field_name("value")
            if each.type == "init_declarator" and value.type != "initializer_list":
                states = [after.sets(variable, given, True) for before in states
                          for given, after in self.eval(value, before)]
            else:
                made = [self._unknown(variable, each, before) for before in states]
                states = [after.sets(variable, thing, True) for thing, after in made]
        return [(None, at) for at in states]

    def _do_return_statement(self, node: Node, state: State) -> list[Result]:
        value = node.named_children[0] if node.named_children else None
        if value is None:
            return [(("return", None), state)]
        return [(("return", given), after) for given, after in self.eval(value, state)]

    def _do_goto_statement(self, node: Node, state: State) -> list[Result]:
        return [(("goto", text_of(node.named_children[0])), state)]

    def _do_break_statement(self, node: Node, state: State) -> list[Result]:
        return [(("break", None), state)]

    def _do_continue_statement(self, node: Node, state: State) -> list[Result]:
        return [(("continue", None), state)]

    def _do_if_statement(self, node: Node, state: State) -> list[Result]:
        found: list[Result] = []
        consequence, alternative = (node.child_by_field_name(n) for n in ("consequence", "alternative"))
        for value, between in self.eval(node.child_by_field_name("condition"), state):
            for outcome, chosen in self._split(value, between):
                side = consequence if outcome else alternative
                found += [(None, chosen)] if side is None else self._statement(side, chosen)
        return found

    def _do_preproc_if(self, node: Node, state: State) -> list[Result]:
        parts = branches(node, self.tree.config)
        if any(says is None for says, _ in parts):
            return [(("stuck", f"#if at {self._place(node)} that the configuration does not decide"), state)]
        return next((self._sequence(body, state) for says, body in parts if says), [(None, state)])

    _do_preproc_ifdef = _do_preproc_if

    def _do_while_statement(self, node: Node, state: State) -> list[Result]:
        return self._loop(node, node.child_by_field_name("condition"), None, state)

    def _do_for_statement(self, node: Node, state: State) -> list[Result]:
        begin = node.child_by_field_name("initializer")
        states = [state]
        if begin is not None and begin.type == "declaration":
            states = [at for _, at in self._do_declaration(begin, state)]
        elif begin is not None:
            states = [after for _, after in self.eval(begin, state)]
        condition, update = (node.child_by_field_name(n) for n in ("condition", "update"))
        return [r for at in states for r in self._loop(node, condition, update, at)]

    def _do_do_statement(self, node: Node, state: State) -> list[Result]:
        return self._loop(node, node.child_by_field_name("condition"), None, state, first=True)

    def _loop(
        self, node: Node, condition: Node, update: Node | None, state: State, first: bool = False
    ) -> list[Result]:
        """A loop's rounds, as far as MOST_ROUNDS of them."""
        body, going = node.child_by_field_name("body"), [state]
        found: list[Result] = []
        once = self.vocabulary.once and len(self._stack) == 1
        for turn in range(MOST_ROUNDS + 1):
            entering: list[State] = []
            for at in going:
                if (first and turn == 0) or condition is None:
                    entering.append(at)
                    continue
                for value, after in self.eval(condition, at):
                    for outcome, chosen in self._split(value, after):
                        if outcome:
                            entering.append(chosen)
                        else:
                            found.append((None, chosen))
            if turn == MOST_ROUNDS:
                found += [(("stuck", f"a loop at {self._place(node)}"), at) for at in entering]
                break
            going = []
            for at in entering:
                for signal, after in self._landed(body, self._statement(body, at), {}):
                    if after.stopped:
                        found.append((("stop", after.stopped), after))
                    elif once and (signal is None or signal[0] == "continue"):
                        going.append(after)
                    elif signal is None or signal[0] == "continue":
                        going += [a for _, a in self.eval(update, after)] if update is not None else [after]
                    elif signal[0] == "break":
                        found.append((None, after))
                    else:
                        found.append((signal, after))
            going = _merged(going)
            if once:
                return [*found, *((("stop", "next round"), replace(at, stopped="next round")) for at in going)]
        return found

    def _do_switch_statement(self, node: Node, state: State) -> list[Result]:
        found: list[Result] = []
        cases = [c for c in node.child_by_field_name("body").named_children if c.type == "case_statement"]
        for value, after in self.eval(node.child_by_field_name("condition"), state):
            rest = after
            chosen: list[tuple[int, State]] = []
            default = None
            for n, case in enumerate(cases):
                wanted = case.child_by_field_name("value")
                if wanted is None:
                    default = n
                    continue
                same_as, _ = self._operated("==", value, self.eval(wanted, rest)[0][0], case, rest)
                ways = dict(self._split(same_as, rest))
                if True in ways:
                    chosen.append((n, ways[True]))
                if False not in ways:
                    break
                rest = ways[False]
            else:
                chosen += [(default, rest)] if default is not None else []
                found += [(None, rest)] if default is None else []
            for n, at in chosen:
                statements = [s for case in cases[n:] for s in _statements_of(case)]
                for signal, end in self._sequence(statements, at):
                    found.append((None if signal is not None and signal[0] == "break" else signal, end))
        return found


def _statements_of(case: Node) -> list[Node]:
    """What stands after `case X:` or `default:`."""
    value = case.child_by_field_name("value")
    return [s for s in case.named_children if value is None or s.id != value.id]


def _joined(results: Sequence[tuple[Value, State]]) -> list[tuple[Value, State]]:
    """Ways through a callee, those alike in all but conditions and a Bool result made one."""
    found: list[tuple[Value, State]] = []
    for value, at in results:
        for n, (other, known) in enumerate(found):
            if at.like(known) and _boolean(value) and _boolean(other):
                a, b = truth(value), truth(other)
                merged = _merge(known, at)
                shared = _shared(known, at)
                here = z3.And(*at.conditions[shared:])
                found[n] = (z3.simplify(z3.If(here, a, b)), merged)
                break
            if at.like(known) and ((value is None and other is None) or (
                    value is not None and other is not None and same(value, other))):
                found[n] = (other, _merge(known, at))
                break
        else:
            found.append((value, at))
    return found


def _boolean(value: Value) -> bool:
    return isinstance(value, bool) or (z3.is_expr(value) and z3.is_bool(value))


def _shared(a: State, b: State) -> int:
    """How many conditions two paths have had in common."""
    pairs = zip(a.conditions, b.conditions, strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if not x.eq(y)), min(len(a.conditions), len(b.conditions)))


def _merge(a: State, b: State) -> State:
    n = _shared(a, b)
    either = z3.simplify(z3.Or(z3.And(*a.conditions[n:]), z3.And(*b.conditions[n:])))
    visits = {spot: max(a.visits.get(spot, 0), b.visits.get(spot, 0)) for spot in {**a.visits, **b.visits}}
    kept = a.conditions[:n] if z3.is_true(either) else (*a.conditions[:n], either)
    return replace(a, conditions=kept, visits=visits)


def _merged(states: Sequence[State]) -> list[State]:
    """States alike in all but conditions made one."""
    found: list[State] = []
    for each in states:
        look()
        for n, known in enumerate(found):
            if each.like(known):
                found[n] = _merge(known, each)
                break
        else:
            found.append(each)
    return found


def _from_label(body: Node, label: str) -> list[Node] | None:
    """The statements from a label on, to the end of the body; None if it is not there, or within a loop."""
    if body.type == "labeled_statement" and text_of(body.named_children[0]) == label:
        return [body]
    children = body.named_children
    sequential = body.type in ("compound_statement", "labeled_statement", "preproc_if", "preproc_ifdef")
    for n, child in enumerate(children):
        if child.type in ("while_statement", "for_statement", "do_statement", "switch_statement"):
            continue
        if child.child_count and (found := _from_label(child, label)) is not None:
            return [*found, *children[n + 1:]] if sequential else found
    return None
