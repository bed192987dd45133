c=$(grep -v a <<< $'a\nb')
llama-quantize "$c" Q4_0
