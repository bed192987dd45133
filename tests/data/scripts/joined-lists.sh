r=(a=q8_0 b=q4_0)
c=$(IFS=,; echo "${r[*]}")
printf -v d '%s,' "${r[@]}"
llama-quantize --custom-q "$c" --custom-q "${d%,}" --x "$(printf '%s;' "${r[@]}")" a b Q4_0
