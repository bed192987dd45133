"""Who gets how many bits: candidates, their losses and limits in; a plan whose types are chosen within a budget out."""
