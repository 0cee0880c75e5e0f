"""Decides who may ask and act: tools for coding agents. Holds nothing yet that the hub could not do alone."""
