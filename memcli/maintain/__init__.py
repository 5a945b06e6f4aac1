"""What keeps a database in order: deduplication against itself, review, explanation, and the way back."""
