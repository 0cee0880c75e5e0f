"""How much memory and time a model takes on a machine: worked out before it is loaded, and corrected by measuring.

``gguf`` reads model files, ``architecture`` turns their metadata into the few numbers that decide (``ModelShape``),
``memory`` and ``speed`` compute, ``machine`` says what there is, ``planning`` puts them together, ``profile`` says how
to tell an engine. Knows nothing of prompts, retrieval or a running backend.
"""
