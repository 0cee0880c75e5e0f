"""Turns a C++ tree into facts: files, symbols, references, chunks and vectors. Knows nothing of questions."""
