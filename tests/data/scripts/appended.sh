c='a=q8_0'
c="$c,b=q4_0"
c+=',d=q4_0'
llama-quantize --custom-q $c a b Q4_0
