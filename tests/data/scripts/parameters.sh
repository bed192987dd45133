F=/a/b/model-BF16.gguf
llama-quantize ${F##*/} "${F%/*}/${F##*-}" ${F/BF16/Q4} ${F//b/c} ${X:+y} ${F:+y} ${X-z} Q4_0
