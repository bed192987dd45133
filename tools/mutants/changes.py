"""The operators: every change of one place that a source file offers.

    comparison  == ↔ !=, < ↔ >=, > ↔ <=, in ↔ not in, is ↔ is not
    boundary    < ↔ <=, > ↔ >=
    boolean     and ↔ or; one operand of them is left out
    not         `not x` → x
    arithmetic  + ↔ -, * ↔ //, / → *, % → //, << ↔ >>, & ↔ |, ** → *; with = as well
    constant    n → n + 1, n → n - 1, True ↔ False
    return      the returned value → its negation (bool), itself + 1 (int), nothing of its kind (str, list, tuple,
                dict, set), None (others)
    condition   the condition of an if, a conditional expression or a comprehension → True, → False;
                of a while → False
    statement   a call, yield, assignment (within functions), raise, continue, break or del is left out
    argument    a keyword argument is left out; two neighbouring positional arguments change places (but not of
                min, max, lcm and gcd)
    iteration   a loop or comprehension misses its first item, or its last
    function    min ↔ max, any ↔ all, startswith ↔ endswith; sorted, reversed → list
    slice       a bound of a slice is left out
    key         a string that is a key, an index, or is compared with or looked up is altered
    exception   one of several caught exceptions isn't caught

Not changed: docstrings, annotations, decorators, `__all__`, assertions, f-strings and what a raise statement builds
(the texts of messages), and the arguments `strict=` of zip and `encoding=`, which matter where something else is wrong,
or on another machine.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["OPERATORS", "Change", "changed", "changes", "is_program"]

OPERATORS = (
    "comparison", "boundary", "boolean", "not", "arithmetic", "constant", "return", "condition", "statement",
    "argument", "iteration", "function", "slice", "key", "exception",
)  # fmt: skip

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "list"}
_METHODS = {"startswith": "endswith", "endswith": "startswith"}
_LOOKED_UP = {
    "get",
    "pop",
    "setdefault",
    "startswith",
    "endswith",
    "removeprefix",
    "removesuffix",
    "partition",
    "split",
}
_NOTHING = {
    "str": "''",
    "list": "[]",
    "tuple": "()",
    "dict": "{}",
    "set": "set()",
    "frozenset": "frozenset()",
}
_TYPING_CALLS = {"TypeVar", "ParamSpec", "NewType", "cast", "isinstance", "issubclass", "namedtuple"}
_KEPT_ARGUMENTS = {"strict", "encoding"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One place and what stands there instead. start, end: bytes of the source; lines count from 1.

    lines:  first and last line of the place
    header: first and last line of its statement, without the statement's body
    scope:  names of the classes and functions around it
    """

    operator: str
    start: int
    end: int
    text: str
    lines: tuple[int, int]
    header: tuple[int, int]
    scope: str


def changed(source: str, change: Change) -> str:
    """The source with the change made."""
    raw = source.encode()
    return (raw[: change.start] + change.text.encode() + raw[change.end :]).decode()


def changes(source: str) -> list[Change]:
    """Every change that the source offers. Some don't compile, see `is_program`."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return finder.found


def is_program(source: str, change: Change) -> bool:
    """True if the changed source compiles, and not to what it was before."""
    try:
        tree = ast.parse(changed(source, change))
        compile(tree, "mutant", "exec")
    except SyntaxError:
        return False
    return ast.dump(tree) != ast.dump(ast.parse(source))


class _Finder(ast.NodeVisitor):
    """Walks a module and notes the changes."""

    def __init__(self, source: str) -> None:
        self.found: list[Change] = []
        self._source = source
        self._starts = [0]
        for line in source.encode().split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._scope: list[str] = []
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self._header = (1, 1)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self._header = (node.lineno, max(node.lineno, last))
        super().visit(node)

    # ── what is left alone ────────────────────────────────────────────────────────────────────────────────────────

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        self._leave_out(node)

    # ── what has a name ───────────────────────────────────────────────────────────────────────────────────────────

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            self._scope.append(node.name)
            self._all(node.body)
            self._scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._all(default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None)
        if any(isinstance(it, ast.Name) and it.id == "overload" for it in node.decorator_list):
            return
        self._scope.append(node.name)
        self._functions.append(node)
        self._all(node.body)
        self._functions.pop()
        self._scope.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    # ── statements ────────────────────────────────────────────────────────────────────────────────────────────────

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._leave_out(node)
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        if self._functions:
            self._leave_out(node)
        self._all((node.value, *node.targets))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None or ast.unparse(node.annotation) == "TypeAlias":
            return
        if self._functions:
            self._leave_out(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._leave_out(node)
        if other := _ARITHMETIC.get(type(node.op)):
            self._replace(node, "arithmetic", op=other())
        self._all((node.value, node.target))

    def visit_Delete(self, node: ast.Delete) -> None:
        self._leave_out(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._leave_out(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._leave_out(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            return
        annotation = self._functions[-1].returns
        kind = "" if annotation is None else ast.unparse(annotation).partition("[")[0].strip("'")
        value = ast.unparse(node.value)
        other = {"bool": f"not ({value})", "int": f"({value}) + 1", **_NOTHING}.get(kind, "None")
        self._note(node.value, "return", other)
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self._condition(node.test, "True", "False")
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test, "False")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._iteration(node.iter)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.type, ast.Tuple):
            for i in range(len(node.type.elts)):
                self._replace(node.type, "exception", elts=[*node.type.elts[:i], *node.type.elts[i + 1 :]])
        self._all(node.body)

    # ── expressions ───────────────────────────────────────────────────────────────────────────────────────────────

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test, "True", "False")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._iteration(node.iter)
        for test in node.ifs:
            self._condition(test, "True", "False")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator, table in (("comparison", _COMPARISONS), ("boundary", _BOUNDARIES)):
            for i, op in enumerate(node.ops):
                if other := table.get(type(op)):
                    self._replace(node, operator, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        for side in (node.left, *node.comparators):
            self._all_keys(side)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._replace(node, "boolean", op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for i in range(len(node.values)):
            rest = [*node.values[:i], *node.values[i + 1 :]]
            if len(rest) == 1:
                self._note(node, "boolean", f"({ast.unparse(rest[0])})")
            else:
                self._replace(node, "boolean", values=rest)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._note(node, "not", f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sides = (node.left, node.right)
        text = any(isinstance(it, ast.JoinedStr) or _is_text(it) for it in sides)
        types = isinstance(node.op, ast.BitOr) and any(
            isinstance(it, ast.Name) and it.id[:1].isupper() and not it.id.isupper() for it in sides
        )
        if (other := _ARITHMETIC.get(type(node.op))) and not text and not types:
            self._replace(node, "arithmetic", op=other())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._note(node, "constant", str(not node.value))
        elif isinstance(node.value, int | float):
            self._note(node, "constant", repr(node.value + 1))
            self._note(node, "constant", f"({node.value - 1!r})")

    def visit_Dict(self, node: ast.Dict) -> None:
        for key in node.keys:
            if key is not None:
                self._all_keys(key)
        self.generic_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        self._all_keys(node.value)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._all_keys(node.slice)
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None:
                self._note(bound, "slice", "")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in _TYPING_CALLS:
            self._all(node.args[1:] if name == "cast" else node.args[:1])
            return
        if other := _FUNCTIONS.get(name):
            self._note(node.func, "function", other)
        if isinstance(node.func, ast.Attribute) and (other := _METHODS.get(method)):
            self._replace(node, "function", func=ast.Attribute(node.func.value, other, ast.Load()))
        if method in _LOOKED_UP and node.args:
            self._all_keys(node.args[0])
        self._arguments(node)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in _KEPT_ARGUMENTS:
            self.visit(node.value)

    # ── how it is noted ───────────────────────────────────────────────────────────────────────────────────────────

    def _arguments(self, node: ast.Call) -> None:
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in _KEPT_ARGUMENTS:
                self._replace(node, "argument", keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
        commutes = isinstance(node.func, ast.Name) and node.func.id in ("min", "max", "lcm", "gcd")
        for i, (one, two) in enumerate(zip(node.args, node.args[1:], strict=False)):
            if not commutes and not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred):
                self._replace(node, "argument", args=[*node.args[:i], two, one, *node.args[i + 2 :]])

    def _iteration(self, node: ast.expr) -> None:
        self._note(node, "iteration", f"[*({ast.unparse(node)})][1:]")
        self._note(node, "iteration", f"[*({ast.unparse(node)})][:-1]")

    def _condition(self, node: ast.expr, *values: str) -> None:
        if not isinstance(node, ast.Constant):
            for value in values:
                self._note(node, "condition", value)

    def _all_keys(self, node: ast.expr) -> None:
        """Alter a string, or each string of a literal."""
        if _is_text(node):
            assert isinstance(node, ast.Constant)
            self._note(node, "key", repr(node.value + "x"))
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            for item in node.elts:
                self._all_keys(item)

    def _leave_out(self, node: ast.stmt) -> None:
        self._note(node, "statement", "pass")

    def _replace(self, node: ast.AST, operator: str, **fields: object) -> None:
        """Note the node with other fields."""
        other = copy.copy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        text = ast.unparse(other)
        # parentheses keep the change from binding differently among its neighbours
        self._note(
            node, operator, f"({text})" if isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare) else text
        )

    def _note(self, node: ast.AST, operator: str, text: str) -> None:
        assert isinstance(node, ast.stmt | ast.expr)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        change = Change(
            operator=operator,
            start=self._starts[node.lineno - 1] + node.col_offset,
            end=self._starts[node.end_lineno - 1] + node.end_col_offset,
            text=text,
            lines=(node.lineno, node.end_lineno),
            header=self._header,
            scope=".".join(self._scope),
        )
        self.found.append(change)

    def _all(self, nodes: Sequence[ast.AST] | Iterator[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
