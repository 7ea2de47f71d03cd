"""One clock for all hosts: who compares its clock with whose, and the comparison itself."""
