"""YAML read strictly: one document of texts, numbers, true/false, null, lists and mappings.

PyYAML follows YAML 1.1. This reader keeps its merge keys (`<<`) and anchors. It differs in that
`1e-3` is a number, a date is text, and values that YAML 1.1 and 1.2 read differently are refused.
"""

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from clapp.errors import ConfigError

MOST_VALUES = 100_000
"""The most values in a document, counting an anchor at each use; it stops entity bombs."""
DEEPEST = 100
"""How deep lists and mappings may be nested."""
LONGEST_NUMBER = 60
"""The most digits of a whole number."""
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_KINDS = {f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")}
# 010 is 8 in YAML 1.1 and 10 in 1.2; 1:30 is 90 in 1.1 and text in 1.2.
_AMBIGUOUS = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the numbers of YAML 1.2 and without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != f"{_TAG}timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 wants a dot and a signed exponent in a float; YAML 1.2 does not.
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.line = node.start_mark.line + 1


def parse_yaml(text: str, origin: str) -> Any:
    """Parse one YAML document; `origin` names it in errors.

    Raises:
        ConfigError: bad syntax, a duplicate key, a key that is not text, or a value that
            configurations do not have; the message names the line.
    """
    loader = None
    try:
        loader = _Loader(text)  # checks the characters
        node = loader.get_single_node()
        if node is None:
            return None
        _Check().visit(node, 0)
        return loader.construct_document(node)
    except _Refused as error:
        raise ConfigError(f"{origin}, line {error.line}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{origin}, line {mark.line + 1}" if mark else origin
        raise ConfigError(f"{where}: {_plain(error.problem)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{origin}, line {line}: the character U+{ord(text[error.position]):04X} "
            "is not allowed in YAML"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{origin}: {_TOO_DEEP}") from error
    except (ValueError, LookupError, OverflowError) as error:  # such as !!int x
        raise ConfigError(f"{origin}: a value does not fit its tag: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def ends_in_comment(text: str) -> bool:
    """Whether `text` ends in a comment, which `parse_yaml` drops."""
    ends = [
        token.end_mark.index
        for token in yaml.scan(text, _Loader)
        if not isinstance(token, yaml.StreamEndToken | yaml.BlockEndToken)
    ]
    return text[max(ends, default=0) :].lstrip().startswith("#")


_TOO_DEEP = f"lists and mappings may lie at most {DEEPEST} deep in each other"


def _plain(problem: str | None) -> str:
    if problem == "found character '\\t' that cannot start any token":
        return "a tab; YAML is indented with spaces"
    return problem or "not YAML"


class _Check:
    """Checks the nodes of a document before any Python value is made of them."""

    def __init__(self) -> None:
        self._values: dict[int, int] = {}  # node -> values in it, anchors written out
        self._above: set[int] = set()

    def visit(self, node: Node, depth: int) -> int:
        """The number of values in `node`, anchors written out.

        Raises:
            _Refused: something in it is not allowed.
        """
        if id(node) in self._above:
            raise _Refused(node, "this value contains itself; an anchor cannot refer to its parent")
        if id(node) in self._values:
            return self._values[id(node)]
        if depth > DEEPEST:
            raise _Refused(node, _TOO_DEEP)
        self._above.add(id(node))
        values = 1 + sum(self.visit(child, depth + 1) for child in self._children(node))
        self._above.remove(id(node))
        if values > MOST_VALUES:
            raise _Refused(
                node, f"more than {MOST_VALUES:,} values, counting an anchor wherever it is used"
            )
        self._values[id(node)] = values
        return values

    def _children(self, node: Node) -> list[Node]:
        if node.tag not in _KINDS:
            shown = node.tag.replace(_TAG, "!!")
            raise _Refused(
                node,
                f"the tag {shown} is not allowed; allowed: text, numbers, true, false, null, lists "
                "and mappings",
            )
        if isinstance(node, MappingNode):
            _check_keys(node)
            return [value for _, value in node.value]
        if isinstance(node, SequenceNode):
            return list(node.value)
        _check_number(node)
        return []


def _check_keys(node: MappingNode) -> None:
    seen: set[str] = set()
    for key, value in node.value:
        if key.tag == _MERGE:
            _check_merge(value)
        elif not isinstance(key, ScalarNode):
            raise _Refused(key, "a list or mapping cannot be a key; allowed: text")
        elif key.tag != f"{_TAG}str":
            raise _Refused(key, f"the key {key.value} is not text; write '{key.value}' with quotes")
        if key.value in seen:
            raise _Refused(key, f"duplicate key {key.value!r}")
        seen.add(key.value)


def _check_merge(value: Node) -> None:
    parts = value.value if isinstance(value, SequenceNode) else [value]
    if not all(isinstance(part, MappingNode) for part in parts):
        raise _Refused(value, "<< takes a mapping or a list of mappings, such as *anchor")


def _check_number(node: Node) -> None:
    if node.tag not in (f"{_TAG}int", f"{_TAG}float"):
        return
    if _AMBIGUOUS.fullmatch(node.value):
        raise _Refused(
            node,
            f"{node.value} means different numbers in different versions of YAML; "
            "write it without leading zeros or colons, or with quotes",
        )
    if node.tag == f"{_TAG}int" and len(node.value) > LONGEST_NUMBER:
        raise _Refused(node, f"a number of {len(node.value)} digits is too large")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """libyaml's dumper (a third of the time) where this build of PyYAML has it, else Python's."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write repeated values in full instead of as anchors."""
        return True


def dump_yaml(value: Any) -> str:
    """`value` as YAML in the order given."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))
