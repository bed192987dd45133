"""What reviewers ask of plans: why a tensor gets its type, what a change does, what was frozen, what a file records."""
