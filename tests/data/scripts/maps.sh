declare -A EXTRA=([Q4_K_M]="--output-tensor-type q8_0" ["Q6_K"]="--pure")
EXTRA[Q8_0]='--leave-output-tensor'
names[1]=b
names[0]=a
for q in Q4_K_M Q5_K_M Q6_K Q8_0; do
  llama-quantize ${EXTRA[$q]:-} "${names[0]}" "${names[1]}-${EXTRA[$q]:+x}" $q
done
llama-quantize "${EXTRA[Q6_K]}" a b Q4_0
