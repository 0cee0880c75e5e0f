"""Decides who may ask and act: tools for coding agents, builds and tests in a sandbox. The hub knows nothing of it."""
