"""The C++ grammar and which of its nodes matter. Owns the parser; what the nodes mean, it does not know.

A query finds every node wherever it stands: in a namespace, in all branches of an ``#if``, inside what the parser could
not make sense of. So nobody walks the tree, and a file that breaks in one place is still read elsewhere.
"""

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
    (call_expression function: (_) @call)
    (new_expression type: (_) @new)
    (type_identifier) @type_use
    (base_class_clause) @bases
    (preproc_include path: (_) @include)
    (preproc_ifdef name: (_) @tested_macro)
    (preproc_defined (identifier) @tested_macro)
"""
_QUERY = Query(_LANGUAGE, _DECLARATIONS + _USES + "(comment) @comment")
_TAGS_OF_USES = frozenset({"call", "new", "type_use", "bases", "include", "tested_macro"})

Captures = dict[str, list[Node]]


def captures_of(code: bytes) -> tuple[Captures, Captures, list[tuple[int, int]]]:
    """The nodes of declarations and of uses by the method that reads them, and the comments as byte ranges in order."""
    captures = QueryCursor(_QUERY).captures(Parser(_LANGUAGE).parse(code).root_node)
    comments = sorted((node.start_byte, node.end_byte) for node in captures.pop("comment", ()))
    uses = {tag: captures.pop(tag) for tag in _TAGS_OF_USES & captures.keys()}
    return captures, uses, comments
