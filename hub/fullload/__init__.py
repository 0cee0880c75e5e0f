"""A whole repository in one prompt whose beginning stays the same, byte for byte, from question to question and from
commit to commit, so that an engine reads only what is new.
"""
