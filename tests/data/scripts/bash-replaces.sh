c='a=q8_0
b=q4_0'
c="${c//$'\n'/,}"
llama-quantize --custom-q "$c" a b Q4_0
