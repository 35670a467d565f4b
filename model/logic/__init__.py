"""The language in which kernels are written: many-sorted first-order logic over state functions.

Nothing here knows of memory management. A *state function* is an uninterpreted z3 function that describes part of a
state; a *rule* is one atomic step, a guard and updates of state functions; a *system* is an initial state and rules.
All of them are z3 terms, so every engine derives its own form from the same text. Whoever says or reads a model
imports it from here; the files below are in the order in which each builds on those before: nodes, terms, functions,
rules, system.
"""

from model.logic.functions import (
    REGISTRY,
    StateFunction,
    Update,
    each,
    functions_in,
    initial_value,
    meaning,
    only_if,
    put,
    register,
)
from model.logic.nodes import children_of, key_of, names_in
from model.logic.rules import (
    KINDS,
    Param,
    Rule,
    RuleTemplate,
    Stage,
    Staged,
    Step,
    by_rule,
    not_writing,
    rule,
)
from model.logic.system import Scope, System
from model.logic.terms import (
    OPERATORS,
    ModelError,
    Sort,
    Term,
    binders_open,
    by_term,
    by_terms,
    exists,
    folded,
    forall,
    kind_text,
    name_of,
    short,
    sort_text,
    text_of,
)

__all__ = [
    "KINDS",
    "OPERATORS",
    "REGISTRY",
    "ModelError",
    "Param",
    "Rule",
    "RuleTemplate",
    "Scope",
    "Sort",
    "Stage",
    "Staged",
    "StateFunction",
    "Step",
    "System",
    "Term",
    "Update",
    "binders_open",
    "by_rule",
    "by_term",
    "by_terms",
    "children_of",
    "each",
    "exists",
    "folded",
    "forall",
    "functions_in",
    "initial_value",
    "key_of",
    "kind_text",
    "meaning",
    "name_of",
    "names_in",
    "not_writing",
    "only_if",
    "put",
    "register",
    "rule",
    "short",
    "sort_text",
    "text_of",
]
