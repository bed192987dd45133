"""Importance matrices, computed: llama.cpp runs texts, and the inputs of its matrices are looked at.

computed = compute("model.bf16.gguf", read_domains(["code=src/", "talk.jsonl"]), "importance.gguf")
"""
