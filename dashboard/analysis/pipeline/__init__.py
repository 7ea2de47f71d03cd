"""The actions of a pipeline: plans, bubbles, and what they must be at least."""
