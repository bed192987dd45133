r=(
  'blk\.0=q8_0'  # first
  'blk\.1=q4_0'
)
args=()
for x in "${r[@]}"; do args+=(--tensor-type "$x"); done
llama-quantize "${args[@]}" a b Q4_0
