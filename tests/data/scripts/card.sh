#!/usr/bin/env bash

custom="
# Attention
blk\..*\.attn_q.*=iq6_k
blk\..*\.attn_(k|v)\.weight$=q8_0

## Routed experts
blk\..*\.ffn_down_exps\.weight=iq3_k
token_embd\.weight=iq4_k
"

custom=$(
  echo "$custom" | grep -v '^#' | \
  sed -Ez 's:\n+:,:g;s:,$::;s:^,::'
)

# numactl -N 0 -m 0 \
llama-quantize \
    --custom-q "$custom" \
    --imatrix /mnt/raid/imatrix-Model-BF16.dat \
    /mnt/raid/Model-BF16-00001-of-00030.gguf \
    /mnt/raid/Model-IQ2_KL.gguf \
    IQ2_KL \
    192
