"""How sure to be of a repository's own answers, learnt from questions that it answers itself."""
