a=(--pure 'b c')
a+=(--x="${E:-}")
llama-quantize "${a[@]}" "${a[*]}" ${a[1]} Q4_0
