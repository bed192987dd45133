# llama-quantize a b Q4_0
llama-quantize a#b 'c # d' Q4_0 # llama-quantize
