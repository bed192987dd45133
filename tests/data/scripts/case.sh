T=x
case $T in
  y|x) llama-quantize a b Q4_0 ;;
esac
llama-quantize a b Q5_0
