"""The neighborhood-relational objective and its weights."""
