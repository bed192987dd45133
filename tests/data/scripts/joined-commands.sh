true && llama-quantize a b Q4_0 || exit 1; cd . && llama-quantize a c Q5_0 > log 2>&1
if true; then llama-quantize a d Q6_K; fi
(llama-quantize a e Q8_0)
{ llama-quantize a f F16; }
