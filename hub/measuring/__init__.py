"""How a model really behaves as its context grows on this machine: speed, memory, limits, and what it still finds.

``sweep`` climbs from context to context, ``engine`` holds the backend in a process that may die, ``steps`` is what is
done in there, ``text`` is the C++ that is read, ``needle`` hides facts in it, ``journal`` keeps what was finished,
``findings`` says what it means. Backends come as a function that makes one; knows nothing of which there are.
"""
