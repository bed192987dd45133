for q in Q4_K_M Q5_K_M 'Q6 K'; do llama-quantize in.gguf out-$q.gguf $q; done
