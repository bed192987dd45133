for m in a b
do
  for q in {Q4,Q5}_K_{M,S} x{1..3}; do llama-quantize $m.gguf $m-$q.gguf $q 2>&1 | tee l
  done
done
