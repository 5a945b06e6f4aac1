"""The extraction tiers: one module per way to take statements from a window."""
