a=$(echo "$(echo "in)(side")") # )
llama-quantize "$a" "$(echo '#no' ')' "#yes")" Q4_0
