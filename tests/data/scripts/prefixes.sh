A=1 B='2 3' nohup llama-quantize a b Q4_0 &
wait
time llama-quantize a b Q5_0
env X=y llama-quantize a b Q6_K; ! llama-quantize a b Q8_0
nice -n 5 llama-quantize a b F16
