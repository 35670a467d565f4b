"""Evaluates a TLA+ module as exports write them, from the tree that an independent parser (PyPI's `tla`) makes of it.

Functions are dicts from tuples of arguments. Where TLC counts states, this says which step goes wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import tla


class Module:
    """A parsed module. `constants`: name to a tuple of elements, or an element."""

    def __init__(self, text: str, constants: Mapping[str, Any]) -> None:
        tree = tla.parse(text)
        self.name = tree.name
        self.constants = dict(constants)
        self.declared: list[str] = []
        self.variables: list[str] = []
        self.operators: dict[str, tuple[list[str], Any]] = {}
        for unit in tree.units:
            match type(unit).__name__:
                case "Constants":
                    self.declared += [n.operator for n in unit.names]
                case "Variables":
                    self.variables += [n.operator for n in unit.names]
                case "OperatorDefinition":
                    assert unit.name not in self.operators
                    self.operators[unit.name] = ([p.operator for p in unit.arity or ()], unit.definiens)

    def assigned(self, name: str, now: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The state in which an operator's conjuncts leave the variables: Init."""
        found: dict[str, Any] = {}
        for conjunct in self.conjuncts(self.operators[name][1]):
            variable, value = conjunct.arguments
            assert variable.operator not in found
            found[variable.operator] = self.value(value, {}, found, None)
        return found

    @staticmethod
    def conjuncts(expression: Any) -> list[Any]:
        assert type(expression).__name__ == "VerticalList"
        return [item.expression for item in expression.arguments]

    def steps(self, now: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(operator, next state) for every way to take Next, but for the last: nothing happens."""
        *disjuncts, last = self.conjuncts(self.operators["Next"][1])
        assert (last.operator, last.arguments[0].operator) == ("UNCHANGED", "vars")
        for disjunct in disjuncts:
            bound: list[tuple[str, list[Any]]] = []
            call = disjunct
            if type(disjunct).__name__ == "Quantification":
                bound = [self.over(d, {}, now, None) for d in disjunct.declarations]
                call = disjunct.predicate
            for chosen in itertools.product(*(values for _, values in bound)):
                env = dict(zip((name for name, _ in bound), chosen, strict=True))
                parameters, body = self.operators[call.operator]
                given = [self.value(a, env, now, None) for a in call.arguments or ()]
                after = self.taken(body, dict(zip(parameters, given, strict=True)), now)
                if after is not None:
                    yield call.operator, after

    def taken(self, body: Any, env: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
        """The next state, None if a conjunct is false. Every variable must be given exactly one value."""
        after: dict[str, Any] = {}
        for conjunct in self.conjuncts(body):
            if getattr(conjunct, "operator", "") == "UNCHANGED":
                given = {item.operator: now[item.operator] for item in conjunct.arguments[0].items}
            elif (found := self.given(conjunct, env, now, after)) is not None:
                given = found
            elif self.value(conjunct, env, now, after):
                continue
            else:
                return None
            assert not given.keys() & after.keys()
            after |= given
        assert after.keys() == set(self.variables)
        return after

    def given(self, e: Any, env: Mapping[str, Any], now: Any, after: Mapping[str, Any]) -> dict[str, Any] | None:
        """Next values that an expression gives, None if it is one that is true or false: `x' = e`, several of them, or
        `\\E y \\in {e} : ...` around them."""
        match type(e).__name__, getattr(e, "operator", ""):
            case "Parentheses", _:
                return self.given(e.expression, env, now, after)
            case "OperatorApplication", "=" if getattr(e.arguments[0], "operator", "") == "'":
                return {e.arguments[0].arguments[0].operator: self.value(e.arguments[1], env, now, after)}
            case "OperatorApplication", "/\\":
                found: dict[str, Any] = {}
                for part in e.arguments:
                    if (more := self.given(part, env, now, {**after, **found})) is None:
                        return None
                    assert not more.keys() & found.keys()
                    found |= more
                return found
            case "Quantification", _ if all(type(d.arguments[1]).__name__ == "SetEnumeration" for d in e.declarations):
                (inner,) = self.bound(e.declarations, env, now, after)
                return self.given(e.predicate, inner, now, after)
        return None

    def over(self, declaration: Any, env: Mapping[str, Any], now: Any, after: Any) -> tuple[str, list[Any]]:
        """The variable of `x \\in S`, and its values."""
        variable, domain = declaration.arguments
        return variable.operator, list(self.value(domain, env, now, after))

    def bound(self, declarations: Any, env: Mapping[str, Any], now: Any, after: Any) -> Iterator[dict[str, Any]]:
        ranges = [self.over(d, env, now, after) for d in declarations]
        for chosen in itertools.product(*(values for _, values in ranges)):
            new = dict(zip((name for name, _ in ranges), chosen, strict=True))
            # TLA+ forbids to bind a name that means something already.
            assert not new.keys() & {*env, *self.variables, *self.operators, *self.constants}
            yield {**env, **new}

    def value(self, e: Any, env: Mapping[str, Any], now: Any, after: Any) -> Any:
        """The value of an expression; `after`: what primed variables have so far."""
        def of(x: Any) -> Any:
            return self.value(x, env, now, after)

        match type(e).__name__:
            case "BooleanLiteral":
                return e.value == "TRUE"
            case "SetOfBooleans":
                return (False, True)
            case "Parentheses":
                return of(e.expression)
            case "If":
                return of(e.then) if of(e.predicate) else of(e.else_)
            case "FunctionApplication":
                return of(e.function)[tuple(of(a) for a in e.arguments)]
            case "Function":
                names = [d.arguments[0].operator for d in e.declaration]
                return {tuple(b[n] for n in names): self.value(e.value, b, now, after)
                        for b in self.bound(e.declaration, env, now, after)}
            case "Quantification":
                values = (self.value(e.predicate, b, now, after) for b in self.bound(e.declarations, env, now, after))
                return all(values) if e.quantifier == "\\A" else any(values)
            case "Choose":
                name = e.declaration.arguments[0].operator
                return next(b[name] for b in self.bound([e.declaration], env, now, after)
                            if self.value(e.predicate, b, now, after))
            case "Let":
                (definition,) = e.definitions
                return self.value(e.expression, {**env, definition.name: of(definition.definiens)}, now, after)
            case "SetEnumeration":
                return [of(item) for item in e.items]
            case "SetOfFunctions":
                domain, codomain = list(of(e.domain)), list(of(e.codomain))
                keys = [d if isinstance(d, tuple) else (d,) for d in domain]
                return [dict(zip(keys, v, strict=True)) for v in itertools.product(codomain, repeat=len(keys))]
            case "VerticalList":
                parts = (of(item.expression) for item in e.arguments)
                return all(parts) if e.operator == "/\\" else any(parts)
            case "OperatorApplication":
                return self.applied(e, env, now, after)
        raise AssertionError(f"no meaning for {type(e).__name__}")

    def applied(self, e: Any, env: Mapping[str, Any], now: Any, after: Any) -> Any:
        args, operator = e.arguments or (), e.operator

        def of(x: Any) -> Any:
            return self.value(x, env, now, after)

        match operator:
            case "/\\":
                return all(of(a) for a in args)
            case "\\/":
                return any(of(a) for a in args)
            case "~":
                return not of(args[0])
            case "=>":
                return not of(args[0]) or of(args[1])
            case "=":
                return of(args[0]) == of(args[1])
            case "#":
                return of(args[0]) != of(args[1])
            case "'":
                return self.value(args[0], env, after, None)
        if operator in env:
            return env[operator]
        if operator in self.constants:
            return self.constants[operator]
        if operator in self.operators:
            parameters, body = self.operators[operator]
            return self.value(body, dict(zip(parameters, (of(a) for a in args), strict=True)), now, after)
        return now[operator]
