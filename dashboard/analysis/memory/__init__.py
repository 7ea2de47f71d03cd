"""Memory in use by stage, and what a schedule keeps alive."""
