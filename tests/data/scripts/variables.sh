IN='my model.gguf'
Q=Q4_K_M
OPTS='--pure --dry-run'
llama-quantize $OPTS "$IN" ${IN%.gguf}-${Q,,}.gguf ${Q} ${T:-8}
