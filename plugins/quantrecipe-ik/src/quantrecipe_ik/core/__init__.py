"""What the formats of ik_llama.cpp share: value tables, weights, searches, rounding."""
