"""The truth: files, symbols, references, chunks, their words and vectors, in one SQLite file.

Each batch of files is one transaction, so a crash leaves whole files only.
"""
