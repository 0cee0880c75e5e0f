"""Git's own hooks tell of a changed tree: where they lie, what is put into them, and the folder in which they tell it.

What is told is believed for nothing but which tree to look at. It knows nothing of indexes and servers.
"""
