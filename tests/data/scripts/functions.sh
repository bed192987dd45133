q() { llama-quantize --pure "$1" "out-$2.gguf" "$2"; }
function r {
  for it in "$@"; do q in.gguf $it; done
}
r Q4_0 Q5_0
q 'x y' Q8_0
