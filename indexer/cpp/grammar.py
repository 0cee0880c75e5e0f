"""The C++ grammar and which of its nodes matter. Owns the parser; what the nodes mean, it does not know.

A query finds every node wherever it stands: in a namespace, in all branches of an ``#if``, inside what the parser could
not make sense of. So nobody walks the tree, and a file that breaks in one place is still read elsewhere.
"""

import re

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser, Query, QueryCursor

_LANGUAGE = Language(tree_sitter_cpp.language())

# The capture names are the names of the methods of Reader that take the node.
_DECLARATIONS = """
    (namespace_definition) @namespace
    (class_specifier) @type_specifier
    (struct_specifier) @type_specifier
    (union_specifier) @type_specifier
    (enum_specifier) @enum
    (enumerator) @enumerator
    (function_definition) @function_definition
    (declaration) @declaration
    (field_declaration) @declaration
    (template_declaration) @template
    (template_instantiation) @instantiation
    (friend_declaration) @friend
    (access_specifier) @access
    (using_declaration) @using
    (alias_declaration) @alias
    (type_definition) @type_definition
    (namespace_alias_definition) @alias
    (concept_definition) @concept
    (preproc_def) @macro
    (preproc_function_def) @macro
    (lambda_expression) @statements
    (translation_unit (compound_statement) @statements)
    (declaration_list (compound_statement) @statements)
    (ERROR (compound_statement) @statements)
    (ERROR (function_declarator) @stray_function)
    (ERROR) @error
    (MISSING) @missing
"""
# The same for Uses.
_USES = """
    (call_expression) @call
    (new_expression) @new
    (compound_literal_expression) @braced_type
    (cast_expression) @cast
    (user_defined_literal) @literal
    (field_initializer) @initializer
    (binary_expression) @binary
    (assignment_expression) @assignment
    (subscript_expression) @subscript
    (unary_expression) @unary
    (update_expression) @unary
    (pointer_expression) @unary
    (field_expression) @member
    (sizeof_expression) @size
    (initializer_list [(identifier) (pointer_expression)] @value)
    (return_statement [(identifier) (pointer_expression)] @value)
    (compound_statement) @block
    (for_statement) @block
    (if_statement) @block
    (while_statement) @block
    (switch_statement) @block
    (catch_clause) @block
    (requires_expression) @requires
    (for_range_loop) @range_loop
    (lambda_expression) @lambda
    (parameter_list) @parameters
    (declaration) @variable
    (field_declaration) @field
    (alias_declaration) @local_alias
    (type_definition) @local_alias
    (namespace_alias_definition) @local_alias
    (using_declaration) @using_in_sight
    (type_identifier) @type_use
    (namespace_identifier) @qualifier
    (base_class_clause) @bases
    (preproc_include path: (_) @include)
    (preproc_ifdef name: (_) @tested_macro)
    (preproc_defined (identifier) @tested_macro)
"""
_QUERY = Query(_LANGUAGE, _DECLARATIONS + _USES + "(comment) @comment")
_TAGS_OF_USES = frozenset(re.findall(r"@(\w+)", _USES))

MAX_DEPTH = 20_000  # of nesting; 16 bits hold 65,535, and one operator may nest several nodes
_STATEMENT = re.compile(rb"[^;{}]+")
_STATEMENT_END = re.compile(rb"[;{}]")
_NESTS_NOT = (
    bytes(range(128, 256)) + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_()[],;\"' \t\r\n\\"
)
_VISIBLE = re.compile(rb"[^\r\n]")
_BRACKET = re.compile(rb"[(\[{)\]}]")

Captures = dict[str, list[Node]]


def shallow(code: bytes) -> tuple[bytes, list[int]]:
    """The code without what may nest deeper than a query can follow, blanked, and where that began.

    Tree-sitter's query cursor counts depth in 16 bits and does not end beyond it. What is so deep was not written by
    hand: an expression of tens of thousands of operators on one line.
    """
    if len(code) < MAX_DEPTH:
        return code, []
    cuts: list[int] = []

    def without_deep(match: re.Match[bytes]) -> bytes:
        if len(match[0].translate(None, _NESTS_NOT)) < MAX_DEPTH:
            return match[0]
        cuts.append(match.start())
        return _VISIBLE.sub(b" ", match[0])

    if code.count(b"else") > MAX_DEPTH:  # each nests in the one before
        cuts.append(code.find(b"else"))
        code = code.replace(b"else", b"    ")
    if max(map(len, _STATEMENT_END.split(code))) >= MAX_DEPTH:
        code = _STATEMENT.sub(without_deep, code)
    if sum(map(code.count, (b"(", b"[", b"{"))) > MAX_DEPTH:
        depth = 0
        for bracket in _BRACKET.finditer(code):
            depth = depth + 1 if bracket[0] in b"([{" else max(0, depth - 1)
            if depth > MAX_DEPTH:
                cuts.append(bracket.start())
                code = code[: bracket.start()] + _VISIBLE.sub(b" ", code[bracket.start() :])
                break
    return code, cuts


def captures_of(code: bytes) -> tuple[Captures, Captures, list[tuple[int, int]]]:
    """The nodes of declarations and of uses by the method that reads them, and the comments as byte ranges in order."""
    captures = QueryCursor(_QUERY).captures(Parser(_LANGUAGE).parse(code).root_node)
    comments = sorted((node.start_byte, node.end_byte) for node in captures.pop("comment", ()))
    uses = {tag: captures.pop(tag) for tag in _TAGS_OF_USES & captures.keys()}
    return captures, uses, comments
