"""Turns facts into answers: retrieval, confidence, prompts, backends. Knows nothing of who may ask."""
