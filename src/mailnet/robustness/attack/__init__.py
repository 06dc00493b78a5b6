"""A run under attack: suites of attacks, their scores, and the result card."""
