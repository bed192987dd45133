CMD="llama-quantize --pure 'a b' c Q4_0"
eval "$CMD"
$CMD
bash -c 'llama-quantize a b Q8_0'
