llama-quantize \
  --pure \
  in.gguf 'out\
.gguf' \
  Q4_0 8
